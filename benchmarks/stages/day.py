"""Hypothesis: a worker keeps ~1 kB a connector whatever those did, and a flush costs what its readings cost, not how
many connectors are known. So a million connectors fit into one process, and only their readings want more.

Measured: the state of a million connectors of one partition through a day, in this process: at any time 15 % of them
charge, each for an hour (3.6 sessions a connector), with a reading a minute: 216 million readings, in flushes as the
worker takes them. Then: memory a connector, the processor time of a reading, of a flush of 1,000 readings beside the
same with a hundredth of the connectors, of a look at the clock where nothing came, and of saving and loading all of it.
Not measured: decoding and the database (`flush`, `worker`).
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.readings import START_MS, Frame
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from benchmarks.stages.kernels import EmptyStore
from kit.memory_tuning import tune_malloc
from schemas.frame import FrameHeader, FrameKind
from schemas.reading import READING_SCHEMA, SessionEvent, Status
from streams.effects import StepParams
from streams.state.encoding import load_state, snapshot, take_patch
from streams.state.partition import PartitionState
from streams.worker.compute import compute_effects

CONNECTORS, CONNECTORS_QUICK = 1_000_000, 2_000
HOURS, HOURS_QUICK = 24, 2
CHARGING: Final = 0.15  # of the connectors, at any time
FLUSH: Final = 100_000  # readings at most: the worker's own bound
SMALL: Final = 1_000  # readings of a flush, where little waits
REPEATS, REPEATS_QUICK = 50, 3
CONNECTOR_BYTES: Final = 1_000.0  # target
_FRAME: Final = 1_000
_MINUTE_MS: Final = 60_000
_STEP_MWH: Final = 11_000_000 // 60  # 11 kW for a minute
# Nobody is silent here: whether a station is heard is not of the readings of one of its sessions.
_PARAMS: Final = StepParams(silent_after_ms=0)


class Day:
    """The readings of all connectors, minute by minute."""

    def __init__(self, connectors: int) -> None:
        self.connectors = connectors
        self._names = pa.array([f"C{number:07d}" for number in range(connectors)])
        self._seq = np.zeros(connectors, np.int64)
        self._register_mwh = np.zeros(connectors, np.int64)
        self._sent = self._number = 0

    def minute(self, minute: int) -> Iterator[list[Frame]]:
        """The frames of a minute, as many as a flush takes."""
        hour, of_hour = divmod(minute, 60)
        count = int(self.connectors * CHARGING)
        members = (hour * count + np.arange(count)) % self.connectors
        for start in range(0, count, FLUSH):
            yield self.frames(members[start : start + FLUSH], minute, last=of_hour == 59)

    def frames(self, members: np.ndarray[tuple[int], np.dtype[np.int64]], minute: int, *, last: bool) -> list[Frame]:
        """A reading of each of these connectors. `last`: of their sessions."""
        self._seq[members] += 1
        self._register_mwh[members] += _STEP_MWH
        rows, names = len(members), self._names.take(pa.array(members))
        ts_ms = START_MS + minute * _MINUTE_MS
        status = Status.AVAILABLE if last else Status.CHARGING
        columns = {
            "station_id": names,
            "connector_id": np.ones(rows, np.int16),
            "session_id": pc.binary_join_element_wise(names, f"{minute // 60}", "-"),
            "seq": self._seq[members],
            "ts_ms": np.full(rows, ts_ms),
            "energy_mwh": self._register_mwh[members],
            "power_mw": np.full(rows, 0 if last else 11_000_000),
            "status": np.full(rows, status, np.int8),
            "session_event": np.full(rows, SessionEvent.ENDED if last else SessionEvent.NONE, np.int8),
        }
        arrays = [
            pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(rows, field.type)
            for field in READING_SCHEMA
        ]
        frames = []
        for batch in pa.table(arrays, schema=READING_SCHEMA).combine_chunks().to_batches(max_chunksize=_FRAME):
            self._sent += batch.num_rows
            header = FrameHeader(FrameKind.READINGS, 0, "day", self._number, batch.num_rows, self._sent, ts_ms)
            self._number += 1
            frames.append((header, batch))
        return frames


def run(bench: BenchmarkRun) -> list[Result]:
    """The `day` stage."""
    tune_malloc()  # as a worker does
    connectors, repeats = bench.pick(CONNECTORS, CONNECTORS_QUICK), bench.pick(REPEATS, REPEATS_QUICK)
    minutes = 60 * bench.pick(HOURS, HOURS_QUICK)
    few = _Simulation(max(connectors // 100, SMALL))
    few.live(bench, 60)
    few_ms = few.small_flush_ms(repeats)
    many = _Simulation(connectors)
    before = psutil.Process().memory_info().rss
    reading_us = many.live(bench, minutes)
    grown = psutil.Process().memory_info().rss - before
    with phase(bench.console, "day: small flushes, saving, loading"):
        many_ms, idle_ms = many.small_flush_ms(repeats), many.idle_ms(repeats)
        saved_s, loaded_s, size = many.saved_and_loaded()
    of = f"{connectors:,} connectors"
    return [
        Result(
            f"{of}: memory", grown / connectors, "bytes a connector", CONNECTOR_BYTES, higher_is_better=False,
            note=f"{grown / 1e6:.0f} MB after {many.readings:,} readings, {size / 1e6:.0f} MB saved",
        ),
        Result(f"{of}: a reading, full flushes", reading_us, "us", None, higher_is_better=False),
        Result(f"{of}: a flush of {SMALL:,}", many_ms, "ms", None, higher_is_better=False).compare(
            f"{few.day.connectors:,} connectors", few_ms
        ),
        Result(f"{of}: a look at the clock", idle_ms, "ms", None, higher_is_better=False),
        Result(f"{of}: all of it saved", saved_s, "s", None, higher_is_better=False),
        Result(f"{of}: all of it loaded", loaded_s, "s", None, higher_is_better=False),
    ]  # fmt: skip


class _Simulation:
    """One partition and its day."""

    def __init__(self, connectors: int) -> None:
        self.day, self.state, self.store = Day(connectors), PartitionState(0), EmptyStore()
        self.readings = self._minute = 0

    def live(self, bench: BenchmarkRun, minutes: int) -> float:
        """So many minutes; processor time of a reading in us."""
        spent_s = 0.0
        with phase(bench.console, f"day: {self.day.connectors:,} connectors for {minutes // 60} h"):
            for _ in range(minutes):
                for frames in self.day.minute(self._minute):
                    spent_s += self._flush(frames)
                self._minute += 1
        return spent_s / self.readings * 1e6

    def small_flush_ms(self, repeats: int) -> float:
        """Median of flushes of SMALL readings."""
        spent_s = []
        for _ in range(repeats):
            frames = self.day.frames(np.arange(SMALL), self._minute, last=False)
            spent_s.append(self._flush(frames))
            self._minute += 1
        return statistics.median(spent_s) * 1e3

    def idle_ms(self, repeats: int) -> float:
        """Median of steps for which only time has passed."""
        return statistics.median(self._flush([]) for _ in range(repeats)) * 1e3

    def saved_and_loaded(self) -> tuple[float, float, int]:
        """Seconds of both, and bytes."""
        body = b""

        def save() -> None:
            nonlocal body
            body = snapshot(self.state)

        saved_s = _processor_s(save)
        loaded_s = _processor_s(lambda: load_state(0, [body]))
        return saved_s, loaded_s, len(body)

    def _flush(self, frames: list[Frame]) -> float:
        stored = 0

        def work() -> None:
            nonlocal stored
            effects = compute_effects(self.state, frames, START_MS + self._minute * _MINUTE_MS, self.store, _PARAMS)
            stored = effects.stored
            take_patch(self.state)

        spent_s = _processor_s(work)
        expected = sum(header.items for header, _ in frames)
        assert stored == expected, f"{stored} of {expected} readings are stored: every one is new"
        self.readings += stored
        return spent_s


def _processor_s(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    work()
    return time.process_time() - began_s
