"""Hypothesis: per reading the step reads and writes a few hundred bytes, so a memory copy of its columns is the limit;
vectorised over a flush, the step should stay within three orders of magnitude of it.

Measured: `streams.engine.step` as the worker calls it, one core, 10,000 connectors, flushes of 100,000 readings:
columns from frames, dedupe, quality flags, sessions, windows, live values, effects for the store. Not measured:
decoding of frames and the database. There is no rival: the plain-Python reference of the same rules
(tests/streams/reference.py) is far slower.
"""

import numpy as np

from benchmarks.readings import FrameGenerator
from benchmarks.report import Result, median_rate, phase
from benchmarks.run import BenchmarkRun
from kit.memory_tuning import tune_malloc
from streams.effects import StepParams
from streams.engine.store_queries import StoredBays, StoredIdentity, StoredStatus, StoredTimelines
from streams.state.encoding import take_patch
from streams.state.partition import PartitionState
from streams.tariffs.version import TariffVersion
from streams.worker.compute import compute_effects

CONNECTORS, CONNECTORS_QUICK = 10_000, 1_000
ROUNDS = 10
REPEATS, REPEATS_QUICK = 9, 2


class EmptyStore:
    """A store without rows: new readings need keys and sessions only."""

    def __init__(self) -> None:
        self._keys = 0

    def register_connectors(self, partition: int, connectors: list[tuple[str, int]]) -> list[int]:
        """Ascending keys."""
        self._keys += len(connectors)
        return list(range(self._keys - len(connectors) + 1, self._keys + 1))

    def identities(self, connector_key, boot, seq, ts_ms) -> StoredIdentity:  # type: ignore[no-untyped-def]  # as in StoreQueries
        """None."""
        nothing = np.empty(0, np.int64)
        return StoredIdentity(nothing.astype(np.int32), nothing, nothing, nothing, nothing.astype(np.int32))

    def timelines(self, connector_key: list[int], ts_ms: list[int]) -> StoredTimelines:
        """Not asked for readings that come in order. Raises AssertionError."""
        raise AssertionError("a reading came late")

    def status_intervals(self, connector_key: list[int], ts_ms: list[int]) -> list[StoredStatus]:
        """Likewise."""
        raise AssertionError("a reading came late")

    def bays(self, wanted: list[tuple[int, str, int, int]]) -> StoredBays:
        """Not asked where no reading is of a bay. Raises AssertionError."""
        raise AssertionError("an event of a bay")

    def rated_powers(self, connectors: list[tuple[str, int]]) -> list[int]:
        """None."""
        return [0] * len(connectors)

    def registered(self, stations: list[str]) -> set[str]:
        """All."""
        return set(stations)

    def silences_after(self) -> dict[str, int]:
        """None."""
        return {}

    def tariffs_at(self, stations: list[str], moments_ms: list[int]) -> list[int]:
        """None."""
        return [0] * len(stations)

    def tariff_versions(self, keys: list[int]) -> list[TariffVersion]:
        """None."""
        return []


def run(bench: BenchmarkRun) -> list[Result]:
    """The `kernels` stage."""
    console, repeats = bench.console, bench.pick(REPEATS, REPEATS_QUICK)
    connectors = bench.pick(CONNECTORS, CONNECTORS_QUICK)
    tune_malloc()  # as a worker does
    generator, state, store, params = FrameGenerator(connectors), PartitionState(0), EmptyStore(), StepParams()
    with phase(console, "kernels: making readings"):
        flushes = [generator.frames(ROUNDS) for _ in range(repeats + 2)]
    compute_effects(state, flushes[0], flushes[0][-1][0].received_ms, store, params)  # slots and sessions open once
    pending = iter(flushes[1:])
    stored = 0

    def advance() -> int:
        nonlocal stored
        frames = next(pending)
        effects = compute_effects(state, frames, frames[-1][0].received_ms, store, params)
        take_patch(state)
        stored += effects.stored
        return effects.stored

    with phase(console, "kernels: stepping"):
        rate = median_rate(advance, repeats)
    assert stored == connectors * ROUNDS * (repeats + 1), "every reading is new and must be stored"
    columns = [np.concatenate([b.column(i).to_numpy(zero_copy_only=False) for _, b in flushes[1]]) for i in (5, 6, 7)]

    def copy() -> int:
        for _ in range(5):  # 15 columns of 8 bytes, as the step's
            for column in columns:
                column.copy()
        return len(columns[0])

    with phase(console, "kernels: copying memory"):
        limit = median_rate(copy, repeats)
    return [Result("kernels", rate, "readings/s/core", 2e6).compare("memory copy of the same columns", limit)]
