"""Hypothesis: what a session costs follows from a few integers a reading and component, cut where its tariff changes.
Vectorised over a flush, money costs no more than all the rest of a step: a microsecond a reading at most.

Measured: `streams.engine.step` on the same readings with and without tariffs, turn about: 10,000 sessions, flushes of
100,000 readings, 1,000 distinct tariffs (benchmarks/tariffs.py) whose thresholds are all crossed on the way. The
difference is what money adds, from usage intervals to events of changed costs. Limit: the step without. Rival: the
rating in plain Python integers that invoices are made by (billing/rating), which also checks the outcome.
"""

import statistics
import time
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.readings import Fleet, Frame
from benchmarks.report import Result, phase
from benchmarks.session import Session
from benchmarks.stages.kernels import EmptyStore
from benchmarks.tariffs import tariff_versions
from billing.rating import StoredReading, rate_readings
from streams.effects import StepParams
from streams.state.encoding import take_patch
from streams.state.partition import PartitionState
from streams.state.session_charges import settled
from streams.tariffs.version import TariffVersion
from streams.worker.compute import compute_effects

CONNECTORS, CONNECTORS_QUICK = 10_000, 500
TARIFFS, TARIFFS_QUICK = 1_000, 50
ROUNDS = 10
FLUSHES, FLUSHES_QUICK = 20, 2
SAMPLE, SAMPLE_QUICK = 500, 50  # sessions that are rated again
POWER_W: Final = 11_000  # of benchmarks.readings.Fleet
_READ: Final = ("ts_ms", "seq", "energy_mwh", "power_mw", "current_ma", "status")


class PricedStore(EmptyStore):
    """A store that has nothing but tariffs: of as many stations as there are, the same number of each."""

    def __init__(self, versions: list[TariffVersion]) -> None:
        super().__init__()
        self.versions = {version.key: version for version in versions}

    def tariffs_at(self, stations: list[str], moments_ms: list[int]) -> list[int]:
        """By the station's number."""
        return [1 + int(station.rpartition("-")[2]) % len(self.versions) for station in stations]

    def tariff_versions(self, keys: list[int]) -> list[TariffVersion]:
        """Those."""
        return [self.versions[key] for key in keys]


def run(session: Session) -> list[Result]:
    """The cost's stage."""
    flushes = session.pick(FLUSHES, FLUSHES_QUICK)
    fleet = Fleet(session.pick(CONNECTORS, CONNECTORS_QUICK))
    with phase(session.console, "cost: making readings"):
        frames = [fleet.frames(ROUNDS) for _ in range(flushes + 1)]
        seconds = ROUNDS * (flushes + 1)
        versions = tariff_versions(session.pick(TARIFFS, TARIFFS_QUICK), seconds=seconds, power_w=POWER_W)
    bare, priced = PartitionState(0), PartitionState(0)
    stores = EmptyStore(), PricedStore(versions)
    for state, store in zip((bare, priced), stores, strict=True):
        _timed(state, frames[0], store)  # sessions open and tariffs are compiled once
    without_s, added_s = [], []
    with phase(session.console, "cost: stepping"):
        for number, flush in enumerate(frames[1:]):
            turns = [(bare, stores[0]), (priced, stores[1])]
            took_s = {id(state): _timed(state, flush, store) for state, store in turns[:: 1 - 2 * (number % 2)]}
            without_s.append(took_s[id(bare)])
            added_s.append(took_s[id(priced)] - took_s[id(bare)])
    readings = fleet.connectors * ROUNDS
    with phase(session.console, "cost: rating in plain Python"):
        rating = _rate(priced, stores[1], frames, session.pick(SAMPLE, SAMPLE_QUICK))
    share = statistics.median(added_s) / statistics.median(without_s)
    note = f"money adds {share:.0%} to a step; {len(versions)} tariffs"
    # Small or crowded runs may measure the difference as nothing.
    rate = readings / max(statistics.median(added_s), 1e-9)
    return [
        Result("cost: added to the step", rate, "readings/s/core", 1e6, note=note)
        .compare("the step without tariffs", readings / statistics.median(without_s))
        .compare("rating in plain Python", rating)
    ]


def _timed(state: PartitionState, frames: list[Frame], store: EmptyStore) -> float:
    """Seconds of processor time of one step."""
    began_s = time.process_time()
    compute_effects(state, frames, frames[-1][0].received_ms, store, StepParams())
    elapsed_s = time.process_time() - began_s
    take_patch(state)
    return elapsed_s


def _rate(state: PartitionState, store: PricedStore, frames: list[list[Frame]], sample: int) -> float:
    """Readings a second of the rating; every session of the sample must cost the same in both."""
    slots = np.arange(sample)
    charges = state.charges(slots)
    _, costs = settled(state.tariffs, charges)
    sessions = [[StoredReading(*row) for row in rows] for rows in _readings_of(state, frames, sample)]
    tariffs = [store.versions[key] for key in charges.tariff_key.tolist()]
    began_s = time.process_time()
    totals = [
        (rated.total_excl_micros, rated.total_incl_micros)
        for version, readings in zip(tariffs, sessions, strict=True)
        for _, rated in [rate_readings(version.tariff, ZoneInfo(version.time_zone), readings)]
    ]
    elapsed_s = time.process_time() - began_s
    assert totals == list(zip(costs.excl_vat_micros.tolist(), costs.incl_vat_micros.tolist(), strict=True))
    assert all(incl for _, incl in totals), "every session costs something"
    return sum(map(len, sessions)) / elapsed_s


def _readings_of(state: PartitionState, frames: list[list[Frame]], sample: int) -> list[list[tuple[int, ...]]]:
    """By slot, the columns of _READ of its readings."""
    slot_of = {state.directory.connector(slot)[0]: slot for slot in range(sample)}
    rows: list[list[tuple[int, ...]]] = [[] for _ in range(sample)]
    for flush in frames:
        for _, batch in flush:
            stations = batch.column("station_id").to_pylist()
            columns = zip(*(batch.column(name).to_pylist() for name in _READ), strict=True)
            for station, values in zip(stations, columns, strict=True):
                if (slot := slot_of.get(station)) is not None:
                    rows[slot].append(values)
    return rows
