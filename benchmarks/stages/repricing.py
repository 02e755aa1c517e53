"""Hypothesis: a cost is a product of integers per component that a session has used. Vectorised over accumulated
quantities, that is half a microsecond per session: ten passes over memory.

Measured: repricing 100,000 running sessions of 1,000 distinct tariffs. `price`: the quantities that they have used
(`streams.kernels.cost.price`). `settled`: as if they ended now, with energy that no register has closed yet
(`streams.state.session_charges.usage_and_costs`), as for rows and for the live view. Limit: copying the usage once.
Rival: the same by `billing.rating.price`, session by session; every session of a sample must cost the same in both.
"""

import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from benchmarks.completed_sessions import running
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from benchmarks.stages.cost import POWER_W, TariffOnlyStore
from benchmarks.tariffs import tariff_versions
from billing import rating
from streams.kernels.cost import price
from streams.kernels.tariff_table import NONE
from streams.state.partition import PartitionState
from streams.state.session_charges import SessionCharges, component_usage, usage_and_costs

SESSIONS, SESSIONS_QUICK = 100_000, 2_000
TARIFFS, TARIFFS_QUICK = 1_000, 50
SECONDS: Final = (0, 120, 1_200)  # at which they send readings
REPEATS, REPEATS_QUICK = 15, 2
SAMPLE, SAMPLE_QUICK = 5_000, 200
TARGET_MS: Final = 50.0


def run(bench: BenchmarkRun) -> list[Result]:
    """The `repricing` stage."""
    sessions, repeats = bench.pick(SESSIONS, SESSIONS_QUICK), bench.pick(REPEATS, REPEATS_QUICK)
    versions = tariff_versions(bench.pick(TARIFFS, TARIFFS_QUICK), seconds=SECONDS[-1], power_w=POWER_W)
    store = TariffOnlyStore(versions)
    with phase(bench.console, "repricing: sessions begin"):
        state = running(sessions, store, SECONDS)
    charges = state.charges(np.arange(sessions))
    moments = np.zeros(sessions, np.int64)
    table = state.tariffs.table(np.full(sessions, NONE), moments, moments)
    with phase(bench.console, "repricing: pricing"):
        price_ms = _median_ms(lambda: price(table, charges.usage), repeats)
        settled_ms = _median_ms(lambda: usage_and_costs(state.tariffs, charges), repeats)
        copy_ms = _median_ms(charges.usage.copy, repeats)
    with phase(bench.console, "repricing: in plain Python"):
        rating_ms = _rate(state, charges, store, bench.pick(SAMPLE, SAMPLE_QUICK)) * sessions

    def result(name: str, value_ms: float) -> Result:
        note = f"{value_ms * 1_000 / sessions:.2f} us a session; {np.count_nonzero(charges.usage.volume):,} components"
        one = Result(f"repricing: {name}", value_ms, "ms", TARGET_MS, higher_is_better=False, note=note)
        return one.compare("copying the usage", copy_ms).compare("billing.rating.price, one by one", rating_ms)

    return [result("price", price_ms), result("settled", settled_ms)]


def _median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median processor time, after one warm-up run."""
    took_ms = []
    for _ in range(repeats + 1):
        began_s = time.process_time()
        work()
        took_ms.append((time.process_time() - began_s) * 1_000)
    return statistics.median(took_ms[1:])


def _rate(state: PartitionState, charges: SessionCharges, store: TariffOnlyStore, sample: int) -> float:
    """Milliseconds per session of the rating; every session of the sample must cost the same in both."""
    usage, costs = usage_and_costs(state.tariffs, charges)
    consumed = [component_usage(state.tariffs, usage, row) for row in range(sample)]
    tariffs = [store.versions[key].tariff for key in charges.tariff_key[:sample].tolist()]
    began_s = time.process_time()
    rated = [rating.price(tariff, consumption) for tariff, consumption in zip(tariffs, consumed, strict=True)]
    elapsed_s = time.process_time() - began_s
    totals = [(one.total_excl_micros, one.total_incl_micros) for one in rated]
    expected = costs.excl_vat_micros[:sample].tolist(), costs.incl_vat_micros[:sample].tolist()
    assert totals == list(zip(*expected, strict=True))
    return elapsed_s * 1_000 / sample
