"""Which items go into which frame: portions of many requests to drafts of frames, by partition. No I/O."""

import asyncio
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.admission import Admitted, Refused, to_batch
from schemas.frame import FRAME_ITEMS_MAX, FrameKind, partition_of
from schemas.reading import REFUSED_SCHEMA

# Raw forms in one frame of refused items: with the rest of them it stays below 2 MB, half of what the log takes.
REFUSED_FRAME_BYTES_MAX: Final = 1 << 20
# Stations as devices spell them -> partition: CRC and upper-casing cost more than the look-up. ~150 B each: 20 MB.
_STATIONS_KNOWN_MAX: Final = 131_072

_partition_of = lru_cache(_STATIONS_KNOWN_MAX)(partition_of)


class RequestContext(NamedTuple):
    """Of a request: who sent it, and what it is called in logs and traces."""

    token_id: str
    traceparent: str = ""
    correlation_id: str = ""


@dataclass(slots=True, eq=False)
class PendingRequest:
    """One request's items, and the future its answer waits for."""

    admitted: Admitted
    context: RequestContext
    durable: asyncio.Future[None]
    frames: int = 0  # that carry its items and are not durable yet

    def confirm(self) -> None:
        """One of its frames is durable."""
        self.frames -= 1
        if self.frames == 0 and not self.durable.done():
            self.durable.set_result(None)

    def fail(self, error: Exception) -> None:
        """One of its frames is not: the request is answered at once."""
        if not self.durable.done():
            self.durable.set_exception(error)


@dataclass(slots=True, eq=False)
class UnnumberedFrame:
    """A frame but for its number."""

    partition: int
    kind: FrameKind
    batch: pa.RecordBatch
    portions: list[PendingRequest]
    items: int = field(init=False)

    def __post_init__(self) -> None:
        self.items = self.batch.num_rows
        for portion in self.portions:
            portion.frames += 1

    @property
    def wanted(self) -> bool:
        """Some request still waits for it: not all were answered (refused, or gone) before it left."""
        return not all(portion.durable.done() for portion in self.portions)


def group(portions: list[PendingRequest], partitions: int) -> list[list[UnnumberedFrame]]:
    """The frames of all these items, by partition, in order of arrival; refused items after the readings."""
    rows: list[list[_Rows]] = [[] for _ in range(partitions)]
    _split_structs([portion for portion in portions if not isinstance(portion.admitted.rows, pa.RecordBatch)], rows)
    for portion in portions:
        if isinstance(portion.admitted.rows, pa.RecordBatch):
            _split_batch(portion, portion.admitted.rows, rows)
    drafts = [_cut(partition, pieces) for partition, pieces in enumerate(rows)]
    for partition, held in enumerate(_split_refused(portions, partitions)):
        drafts[partition] += _cut_refused(partition, held)
    return drafts


class _Rows(NamedTuple):
    """Rows of one partition; `owner[i]` indexes `portions`."""

    batch: pa.RecordBatch
    portions: list[PendingRequest]
    owner: NDArray[np.int64]


def _split_structs(portions: list[PendingRequest], rows: list[list[_Rows]]) -> None:
    parts = [portion.admitted.rows for portion in portions]
    readings = [reading for part in parts for reading in part.readings]
    if not readings:
        return
    counts = [len(part.readings) for part in parts]
    ts_ms = np.concatenate([part.ts_ms for part in parts])
    owner = np.repeat(np.arange(len(parts)), counts)
    count = len(rows)
    at = np.fromiter((_partition_of(reading.station_id, count) for reading in readings), np.int64, len(readings))
    order = np.argsort(at, kind="stable")
    batch = to_batch([readings[row] for row in order.tolist()], ts_ms[order])
    _slice(batch, at, owner[order], portions, rows)


def _split_batch(portion: PendingRequest, batch: pa.RecordBatch, rows: list[list[_Rows]]) -> None:
    if batch.num_rows == 0:
        return
    stations = batch.column("station_id").dictionary_encode()
    of_station = np.array([partition_of(station, len(rows)) for station in stations.dictionary.to_pylist()], np.int64)
    at = of_station[stations.indices.to_numpy()]
    sorted_batch = batch.take(pa.array(np.argsort(at, kind="stable")))
    _slice(sorted_batch, at, np.zeros(batch.num_rows, np.int64), [portion], rows)


def _slice(
    batch: pa.RecordBatch,
    at: NDArray[np.int64],
    owner: NDArray[np.int64],
    portions: list[PendingRequest],
    rows: list[list[_Rows]],
) -> None:
    """`batch` and `owner` are sorted by partition, `at` need not be."""
    ends = np.cumsum(np.bincount(at, minlength=len(rows))).tolist()
    for partition, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if end > start:
            rows[partition].append(_Rows(batch.slice(start, end - start), portions, owner[start:end]))


def _cut(partition: int, pieces: list[_Rows]) -> list[UnnumberedFrame]:
    if not pieces:
        return []
    batch = pieces[0].batch if len(pieces) == 1 else pa.concat_batches([piece.batch for piece in pieces])
    portions = [portion for piece in pieces for portion in piece.portions]
    shifts = np.cumsum([0, *(len(piece.portions) for piece in pieces[:-1])])
    owner = np.concatenate([piece.owner + shift for piece, shift in zip(pieces, shifts, strict=True)])
    drafts = []
    for start in range(0, batch.num_rows, FRAME_ITEMS_MAX):
        owners = np.unique(owner[start : start + FRAME_ITEMS_MAX]).tolist()
        rows = batch.slice(start, FRAME_ITEMS_MAX)
        drafts.append(UnnumberedFrame(partition, FrameKind.READINGS, rows, [portions[index] for index in owners]))
    return drafts


def _split_refused(portions: list[PendingRequest], partitions: int) -> list[list[tuple[Refused, PendingRequest]]]:
    held: list[list[tuple[Refused, PendingRequest]]] = [[] for _ in range(partitions)]
    for portion in portions:
        for item in portion.admitted.refused:
            if item.station_id is not None:
                partition = partition_of(item.station_id, partitions)
            else:
                partition = crc32(portion.context.token_id.encode()) % partitions
            held[partition].append((item, portion))
    return held


def _cut_refused(partition: int, held: list[tuple[Refused, PendingRequest]]) -> list[UnnumberedFrame]:
    drafts = []
    start = size = 0
    for end, (item, _) in enumerate(held):
        size += len(item.raw)
        if size > REFUSED_FRAME_BYTES_MAX or end - start >= FRAME_ITEMS_MAX:
            drafts.append(_refused_draft(partition, held[start:end]))
            start, size = end, len(item.raw)
    if held:
        drafts.append(_refused_draft(partition, held[start:]))
    return drafts


def _refused_draft(partition: int, held: list[tuple[Refused, PendingRequest]]) -> UnnumberedFrame:
    items = [item for item, _ in held]
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([item.station_id for item in items], pa.string()),
            pa.array([item.reason for item in items], pa.string()),
            pa.array([item.detail for item in items], pa.string()),
            pa.array([item.raw for item in items], pa.binary()),
        ],
        schema=REFUSED_SCHEMA,
    )
    return UnnumberedFrame(partition, FrameKind.REFUSED, batch, list(dict.fromkeys(portion for _, portion in held)))
