"""Hypothesis: the cost of a session follows from a few integers per reading and component, split where its tariff
changes. Vectorised over a flush, money takes no longer than the rest of a step: at most a microsecond per reading.

Measured: `streams.engine.step` on the same readings with and without tariffs, alternately: 10,000 sessions, flushes of
100,000 readings, 1,000 distinct tariffs (benchmarks/tariffs.py) whose thresholds are all crossed in the run.
The difference is what money adds, from usage intervals to events of changed costs. Limit: the step without tariffs.
Rival: the rating in plain Python integers that invoices use (billing/rating), which also checks the result.
"""

import statistics
import time
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.readings import Frame, FrameGenerator
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from benchmarks.stages.kernels import EmptyStore
from benchmarks.tariffs import tariff_versions
from billing.rating import StoredReading, rate_readings
from streams.effects import StepParams
from streams.state.encoding import take_patch
from streams.state.partition import PartitionState
from streams.state.session_charges import usage_and_costs
from streams.tariffs.version import TariffVersion
from streams.worker.compute import compute_effects

CONNECTORS, CONNECTORS_QUICK = 10_000, 500
TARIFFS, TARIFFS_QUICK = 1_000, 50
ROUNDS = 10
FLUSHES, FLUSHES_QUICK = 20, 2
SAMPLE, SAMPLE_QUICK = 500, 50  # sessions rated again
POWER_W: Final = 11_000  # of benchmarks.readings.FrameGenerator
_READ: Final = ("ts_ms", "seq", "energy_mwh", "power_mw", "current_ma", "status")


class TariffOnlyStore(EmptyStore):
    """A store with tariffs only, each for the same number of stations."""

    def __init__(self, versions: list[TariffVersion]) -> None:
        super().__init__()
        self.versions = {version.key: version for version in versions}

    def tariffs_at(self, stations: list[str], moments_ms: list[int]) -> list[int]:
        """The tariff by the station's number."""
        return [1 + int(station.rpartition("-")[2]) % len(self.versions) for station in stations]

    def tariff_versions(self, keys: list[int]) -> list[TariffVersion]:
        """The versions of these keys."""
        return [self.versions[key] for key in keys]


def run(bench: BenchmarkRun) -> list[Result]:
    """The `cost` stage."""
    flushes = bench.pick(FLUSHES, FLUSHES_QUICK)
    generator = FrameGenerator(bench.pick(CONNECTORS, CONNECTORS_QUICK))
    with phase(bench.console, "cost: making readings"):
        frames = [generator.frames(ROUNDS) for _ in range(flushes + 1)]
        seconds = ROUNDS * (flushes + 1)
        versions = tariff_versions(bench.pick(TARIFFS, TARIFFS_QUICK), seconds=seconds, power_w=POWER_W)
    bare, priced = PartitionState(0), PartitionState(0)
    stores = EmptyStore(), TariffOnlyStore(versions)
    for state, store in zip((bare, priced), stores, strict=True):
        _timed(state, frames[0], store)  # sessions open and tariffs are compiled once
    without_s, added_s = [], []
    with phase(bench.console, "cost: stepping"):
        for number, flush in enumerate(frames[1:]):
            turns = [(bare, stores[0]), (priced, stores[1])]
            took_s = {id(state): _timed(state, flush, store) for state, store in turns[:: 1 - 2 * (number % 2)]}
            without_s.append(took_s[id(bare)])
            added_s.append(took_s[id(priced)] - took_s[id(bare)])
    readings = generator.connectors * ROUNDS
    with phase(bench.console, "cost: rating in plain Python"):
        rating = _rate(priced, stores[1], frames, bench.pick(SAMPLE, SAMPLE_QUICK))
    share = statistics.median(added_s) / statistics.median(without_s)
    note = f"money adds {share:.0%} to a step; {len(versions)} tariffs"
    # On a small or busy run the measured difference may be 0.
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


def _rate(state: PartitionState, store: TariffOnlyStore, frames: list[list[Frame]], sample: int) -> float:
    """Readings per second of the rating; every session of the sample must cost the same in both."""
    slots = np.arange(sample)
    charges = state.charges(slots)
    _, costs = usage_and_costs(state.tariffs, charges)
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
    """By slot, the columns _READ of its readings."""
    slot_of = {state.connector_index.connector(slot)[0]: slot for slot in range(sample)}
    rows: list[list[tuple[int, ...]]] = [[] for _ in range(sample)]
    for flush in frames:
        for _, batch in flush:
            stations = batch.column("station_id").to_pylist()
            columns = zip(*(batch.column(name).to_pylist() for name in _READ), strict=True)
            for station, values in zip(stations, columns, strict=True):
                if (slot := slot_of.get(station)) is not None:
                    rows[slot].append(values)
    return rows
