"""Replay: the readings of a file, sent as their devices would, at any speed, and resumed where an earlier run stopped.

Rows are recorded as sent only after their 202 and without a gap before them. So after any end the next run leaves none
out; requests that were under way at the end may be sent twice.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kit.clock import Clock
from simulator.encode import Format
from simulator.fleet.run import PACE_S
from simulator.in_flight import InFlight
from simulator.replay.columns import REQUIRED, Columns
from simulator.replay.files import fingerprint, read_file
from simulator.replay.ordering import Ordering
from simulator.replay.progress import Progress, ProgressFile
from simulator.transports import Sleep, Transport


@dataclass(frozen=True, slots=True)
class ReplaySpec:
    """Parameters of a replay."""

    file: Path
    target: str  # names the platform in the progress file: its URL
    progress_dir: Path
    columns: Columns = field(default_factory=Columns)
    ordering: Ordering = field(default_factory=Ordering)
    form: Format = Format.JSON
    batch: int = 1_000
    in_flight: int = 4  # requests under way; more than one may arrive in another order
    speed: float = 0.0  # simulated seconds a second; 0: as fast as it goes
    restart: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1 or self.in_flight < 1 or self.speed < 0:
            raise ValueError("batch and in_flight must be at least 1, speed must not be negative")


def readings_of(spec: ReplaySpec) -> Iterator[pa.Table]:
    """All rows of WIRE_SCHEMA in the order of sending. Raises SourceError."""

    def mapped() -> Iterator[pa.Table]:
        row = 1
        for table in read_file(spec.file):
            yield spec.columns.apply(table, row)
            row += table.num_rows

    return spec.ordering.apply(mapped())


def encode_rows(rows: pa.Table, form: Format) -> bytes:
    """The body of a request. A column that no row has is left out, and so is a field that a row does not have."""
    count = rows.num_rows
    rows = rows.select([name for name in rows.column_names if rows[name].null_count < count or name in REQUIRED])
    if form is Format.ARROW:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows.combine_chunks())
        return bytes(sink.getvalue())
    items = [{name: value for name, value in item.items() if value is not None} for item in rows.to_pylist()]
    encoder = msgspec.json.Encoder()
    return encoder.encode_lines(items) if form is Format.NDJSON else encoder.encode(items)


class Replay:
    """One replay of one file. `resumed_from` and `rows` (acknowledged) may be read while it runs."""

    def __init__(self, spec: ReplaySpec, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        """Reads the file once, for its fingerprint. Raises SourceError and ProgressError."""
        self.spec = spec
        self._clock, self._sleep = clock, sleep
        # What decides which rows go where in which order; not the batch size: progress counts rows.
        decisive = (fingerprint(spec.file), spec.target, repr(spec.columns), repr(spec.ordering))
        self._note = ProgressFile(spec.progress_dir, *decisive)
        if spec.restart:
            self._note.clear()
        noted = self._note.read()
        self.resumed_from = self.rows = noted.rows if noted else 0
        self.complete = noted is not None and noted.complete

    async def run(self, transport: Transport, progress: Callable[[int], None]) -> None:
        """Send what is left; `progress` gets counts of newly acknowledged rows. Raises as transport and file do."""
        if self.complete:
            return

        def acknowledged(rows: int) -> None:
            self.rows += rows
            self._write()
            progress(rows)

        spec = self.spec
        sends = InFlight(spec.in_flight, acknowledged)
        pace = _Pace(spec.speed, self._clock, self._sleep)
        try:
            for batch in _batches(readings_of(spec), self.resumed_from, spec.batch):
                for due_s, rows in pace.parts(batch):
                    await pace.wait(due_s)
                    body = encode_rows(rows, spec.form)
                    await sends.put(transport.send(body, spec.form, rows.num_rows), rows.num_rows)
            await sends.drain()
            self.complete = True
            self._write()
        finally:
            await sends.settle()

    def _write(self) -> None:
        self._note.write(Progress(str(self.spec.file), self.spec.target, self.rows, self.complete))


class _Pace:
    """Event time to the time of sending. A row that goes back in event time leaves with the one before it."""

    def __init__(self, speed: float, clock: Clock, sleep: Sleep) -> None:
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._start_s = clock.monotonic_s()
        self._first_ms: int | None = None
        self._latest_ms = 0

    def parts(self, rows: pa.Table) -> Iterator[tuple[float, pa.Table]]:
        """Rows that leave together, and when: seconds after the start."""
        if not self._speed:
            yield 0.0, rows
            return
        ts_ms = np.maximum.accumulate(pc.fill_null(rows["ts"], self._latest_ms).to_numpy())
        if self._first_ms is None:
            self._first_ms = int(ts_ms[0])
        ts_ms = np.maximum(ts_ms, self._latest_ms) if self._latest_ms else ts_ms
        self._latest_ms = int(ts_ms[-1])
        due_s = (ts_ms - self._first_ms) / 1_000 / self._speed
        turn = (due_s / PACE_S).astype(np.int64)
        edges = np.flatnonzero(np.diff(turn)) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(turn)], strict=True):
            yield float(due_s[start]), rows.slice(start, stop - start)

    async def wait(self, due_s: float) -> None:
        """Wait until that many seconds after the start."""
        wait_s = due_s - (self._clock.monotonic_s() - self._start_s)
        if wait_s > 0:
            await self._sleep(wait_s)


def _batches(tables: Iterable[pa.Table], skip: int, size: int) -> Iterator[pa.Table]:
    """The rows behind the first `skip`, at most `size` at a time."""
    for table in tables:
        rows = table.slice(skip)
        skip = max(0, skip - table.num_rows)
        for at in range(0, rows.num_rows, size):
            yield rows.slice(at, size)
