"""Hypothesis: a cost is a product of integers for each component that a session has used. From accumulated quantities,
vectorised, that is half a microsecond a session: ten passes over memory.

Measured: what 100,000 running sessions of 1,000 distinct tariffs cost, anew. `price`: by what they have used
(`streams.kernels.cost.price`). `settled`: as if they ended now, with what their registers have not closed yet
(`streams.state.session_charges.settled`), as for rows and for the live view. Limit: copying the usage once. Rival: the
same by `billing.rating.price`, session by session; every one of a sample must come to the same.
"""

import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from benchmarks.completed import running
from benchmarks.report import Result, phase
from benchmarks.session import Session
from benchmarks.stages.cost import POWER_W, PricedStore
from benchmarks.tariffs import tariff_versions
from billing import rating
from streams.kernels.cost import price
from streams.kernels.tariff_table import NONE
from streams.state.partition import PartitionState
from streams.state.session_charges import SessionCharges, component_usage, settled

SESSIONS, SESSIONS_QUICK = 100_000, 2_000
TARIFFS, TARIFFS_QUICK = 1_000, 50
SECONDS: Final = (0, 120, 1_200)  # at which they say something
REPEATS, REPEATS_QUICK = 15, 2
SAMPLE, SAMPLE_QUICK = 5_000, 200
TARGET_MS: Final = 50.0


def run(session: Session) -> list[Result]:
    """The repricing's stage."""
    sessions, repeats = session.pick(SESSIONS, SESSIONS_QUICK), session.pick(REPEATS, REPEATS_QUICK)
    versions = tariff_versions(session.pick(TARIFFS, TARIFFS_QUICK), seconds=SECONDS[-1], power_w=POWER_W)
    store = PricedStore(versions)
    with phase(session.console, "repricing: sessions begin"):
        state = running(sessions, store, SECONDS)
    charges = state.charges(np.arange(sessions))
    moments = np.zeros(sessions, np.int64)
    table = state.tariffs.table(np.full(sessions, NONE), moments, moments)
    with phase(session.console, "repricing: pricing"):
        price_ms = _median_ms(lambda: price(table, charges.usage), repeats)
        settled_ms = _median_ms(lambda: settled(state.tariffs, charges), repeats)
        copy_ms = _median_ms(charges.usage.copy, repeats)
    with phase(session.console, "repricing: in plain Python"):
        rating_ms = _rate(state, charges, store, session.pick(SAMPLE, SAMPLE_QUICK)) * sessions

    def result(name: str, value_ms: float) -> Result:
        note = f"{value_ms * 1_000 / sessions:.2f} us a session; {np.count_nonzero(charges.usage.volume):,} components"
        one = Result(f"repricing: {name}", value_ms, "ms", TARGET_MS, higher_is_better=False, note=note)
        return one.compare("copying the usage", copy_ms).compare("billing.rating.price, one by one", rating_ms)

    return [result("price", price_ms), result("settled", settled_ms)]


def _median_ms(work: Callable[[], object], repeats: int) -> float:
    """Of processor time, after one to warm up."""
    took_ms = []
    for _ in range(repeats + 1):
        began_s = time.process_time()
        work()
        took_ms.append((time.process_time() - began_s) * 1_000)
    return statistics.median(took_ms[1:])


def _rate(state: PartitionState, charges: SessionCharges, store: PricedStore, sample: int) -> float:
    """Milliseconds a session of the rating; every session of the sample must cost the same in both."""
    usage, costs = settled(state.tariffs, charges)
    consumed = [component_usage(state.tariffs, usage, row) for row in range(sample)]
    tariffs = [store.versions[key].tariff for key in charges.tariff_key[:sample].tolist()]
    began_s = time.process_time()
    rated = [rating.price(tariff, consumption) for tariff, consumption in zip(tariffs, consumed, strict=True)]
    elapsed_s = time.process_time() - began_s
    totals = [(one.total_excl_micros, one.total_incl_micros) for one in rated]
    expected = costs.excl_vat_micros[:sample].tolist(), costs.incl_vat_micros[:sample].tolist()
    assert totals == list(zip(*expected, strict=True))
    return elapsed_s * 1_000 / sample
