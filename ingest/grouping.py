"""Groups the items of pending requests into frames, by partition. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, Protocol
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.admission import Admitted, RefusedItem, WireReading, to_batch, to_numbers
from kit.observability.logs import get_logger
from schemas.frame import FRAME_ITEMS_MAX, FrameKind, partition_of
from schemas.packed import ROWS_MAX, PackedBody, pack_columns
from schemas.reading import PLAIN_READING_SCHEMA, REFUSED_SCHEMA, with_all_columns

# Raw bytes in one frame of refused items: with the other columns it stays below 2 MB, half of the log's limit.
REFUSED_FRAME_BYTES_MAX: Final = 1 << 20
# Bytes of `extra` in one frame of readings, likewise: 256 readings with the most that one may have.
EXTRA_FRAME_BYTES_MAX: Final = 1 << 20
# Station ids as devices spell them -> partition: CRC and upper-casing cost more than the look-up. ~150 B each: 20 MB.
_STATIONS_KNOWN_MAX: Final = 131_072

_log = get_logger(__name__)
_partition_of = lru_cache(_STATIONS_KNOWN_MAX)(partition_of)


class Sender(Protocol):
    """The sender of a request, and its ids in logs and traces."""

    @property
    def token_id(self) -> str:
        """Its token."""

    @property
    def traceparent(self) -> str:
        """W3C trace context, or empty."""

    @property
    def correlation_id(self) -> str:
        """As in the logs, or empty."""


class RequestContext(NamedTuple):
    """A Sender whose ids are known."""

    token_id: str
    traceparent: str = ""
    correlation_id: str = ""


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request's items. `settle` is called once: with None when all of them are durable, else with the error."""

    admitted: Admitted
    context: Sender
    settle: Callable[[Exception | None], None]
    frames: int = 0  # with its items, not durable yet
    done: bool = False

    def confirm(self) -> None:
        """Record that one of its frames is durable."""
        self.frames -= 1
        if self.frames == 0:
            self._settle(None)

    def fail(self, error: Exception) -> None:
        """One of its frames failed: the request is answered at once."""
        self._settle(error)

    def _settle(self, error: Exception | None) -> None:
        if self.done:
            return
        self.done = True
        try:
            self.settle(error)
        except Exception:  # a bug there must not affect the others of the frame
            _log.exception("answer_failed")


@dataclass(slots=True, eq=False)
class UnnumberedFrame:
    """A frame that has no number yet."""

    partition: int
    kind: FrameKind
    rows: pa.RecordBatch | PackedBody
    requests: list[PendingRequest]
    items: int = field(init=False)

    def __post_init__(self) -> None:
        self.items = self.rows.num_rows
        for request in self.requests:
            request.frames += 1

    @property
    def is_awaited(self) -> bool:
        """Whether a request still waits for it: not all of them have failed or been cancelled."""
        return not all(request.done for request in self.requests)


def group(requests: list[PendingRequest], partitions: int) -> list[list[UnnumberedFrame]]:
    """The frames of all items, by partition, in order of arrival; refused items after the readings."""
    rows: list[list[_Rows]] = [[] for _ in range(partitions)]
    frames: list[list[UnnumberedFrame]] = [[] for _ in range(partitions)]
    decoded = [request for request in requests if not isinstance(request.admitted.rows, pa.RecordBatch)]
    if any(request.admitted.accepted for request in decoded):
        arrived = _Arrived.of(decoded, partitions)
        if len(decoded) == len(requests) and max(arrived.counts) <= ROWS_MAX:
            frames = _packed(arrived, decoded)
        else:
            batch = to_batch(arrived.readings, arrived.ts_ms, arrived.detailed)
            _slice(batch, arrived.counts, arrived.owner, decoded, rows)
    for request in requests:
        if isinstance(request.admitted.rows, pa.RecordBatch):
            _split_batch(request, request.admitted.rows, rows)
    for partition, pieces in enumerate(rows):
        frames[partition] += _cut(partition, pieces)
    for partition, items in enumerate(_split_refused(requests, partitions)):
        frames[partition] += _cut_refused(partition, items)
    return frames


class _Arrived(NamedTuple):
    """Decoded readings of several requests, sorted by partition."""

    readings: list[WireReading]
    ts_ms: NDArray[np.int64]
    detailed: bool
    owner: NDArray[np.int64]  # of each reading, index into the requests
    counts: list[int]  # of each partition

    @classmethod
    def of(cls, requests: list[PendingRequest], partitions: int) -> "_Arrived":
        """The readings of these requests."""
        parts = [request.admitted.rows for request in requests]
        readings = [reading for part in parts for reading in part.readings]
        counts = [len(part.readings) for part in parts]
        ts_ms = np.concatenate([part.ts_ms for part in parts])
        at = np.array([_partition_of(reading.station_id, partitions) for reading in readings], np.int64)
        order = np.argsort(at, kind="stable")
        return cls(
            [readings[row] for row in order.tolist()],
            ts_ms[order],
            any(part.detailed for part in parts),
            np.repeat(np.arange(len(parts)), counts)[order],
            np.bincount(at, minlength=partitions).tolist(),
        )


def _packed(arrived: _Arrived, requests: list[PendingRequest]) -> list[list[UnnumberedFrame]]:
    """Frames of few readings, without a detour by Arrow."""
    numbers, texts = to_numbers(arrived.readings, arrived.ts_ms, arrived.detailed)
    owner, end = arrived.owner.tolist(), 0
    frames: list[list[UnnumberedFrame]] = []
    for partition, body in enumerate(pack_columns(numbers, texts, arrived.counts)):
        start, end = end, end + body.num_rows
        owners = [requests[index] for index in dict.fromkeys(owner[start:end])]
        frames.append([UnnumberedFrame(partition, FrameKind.READINGS, body, owners)] if owners else [])
    return frames


class _Rows(NamedTuple):
    """Rows of one partition; `owner[i]` indexes `requests`."""

    batch: pa.RecordBatch
    requests: list[PendingRequest]
    owner: NDArray[np.int64]


def _split_batch(request: PendingRequest, batch: pa.RecordBatch, rows: list[list[_Rows]]) -> None:
    if batch.num_rows == 0:
        return
    stations = batch.column("station_id").dictionary_encode()
    of_station = np.array([partition_of(station, len(rows)) for station in stations.dictionary.to_pylist()], np.int64)
    at = of_station[stations.indices.to_numpy()]
    sorted_batch = batch.take(pa.array(np.argsort(at, kind="stable")))
    counts = np.bincount(at, minlength=len(rows)).tolist()
    _slice(sorted_batch, counts, np.zeros(batch.num_rows, np.int64), [request], rows)


def _slice(
    batch: pa.RecordBatch,
    counts: list[int],
    owner: NDArray[np.int64],
    requests: list[PendingRequest],
    rows: list[list[_Rows]],
) -> None:
    """`batch` and `owner` are sorted by partition; `counts` of each partition."""
    for partition, (start, end) in enumerate(pairwise(accumulate(counts, initial=0))):
        if end > start:
            rows[partition].append(_Rows(batch.slice(start, end - start), requests, owner[start:end]))


def _cut(partition: int, pieces: list[_Rows]) -> list[UnnumberedFrame]:
    if not pieces:
        return []
    batch = _joined([piece.batch for piece in pieces])
    requests, owner = pieces[0].requests, pieces[0].owner
    if len(pieces) > 1:
        requests = [request for piece in pieces for request in piece.requests]
        shifts = np.cumsum([0, *(len(piece.requests) for piece in pieces[:-1])])
        owner = np.concatenate([piece.owner + shift for piece, shift in zip(pieces, shifts, strict=True)])
    frames = []
    for start, count in _frame_cuts(batch):
        owners = dict.fromkeys(owner[start : start + count].tolist())
        rows = batch.slice(start, count)
        frames.append(UnnumberedFrame(partition, FrameKind.READINGS, rows, [requests[index] for index in owners]))
    return frames


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Their rows, with the optional columns if one of them has those."""
    if len({len(batch.schema) for batch in batches}) > 1:
        batches = [with_all_columns(batch) for batch in batches]
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _frame_cuts(batch: pa.RecordBatch) -> list[tuple[int, int]]:
    """First row and number of rows of each frame: FRAME_ITEMS_MAX at most, and EXTRA_FRAME_BYTES_MAX of `extra`."""
    count = batch.num_rows
    if batch.schema == PLAIN_READING_SCHEMA:
        return [(start, min(FRAME_ITEMS_MAX, count - start)) for start in range(0, count, FRAME_ITEMS_MAX)]
    sizes = pc.fill_null(pc.binary_length(batch.column("extra")), 0).to_numpy()
    ends = np.cumsum(sizes, dtype=np.int64)
    cuts = []
    start = 0
    while start < count:
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + EXTRA_FRAME_BYTES_MAX, side="right")) - start
        cuts.append((start, max(1, min(fitting, FRAME_ITEMS_MAX, count - start))))
        start += cuts[-1][1]
    return cuts


def _split_refused(requests: list[PendingRequest], partitions: int) -> list[list[tuple[RefusedItem, PendingRequest]]]:
    items: list[list[tuple[RefusedItem, PendingRequest]]] = [[] for _ in range(partitions)]
    for request in requests:
        for item in request.admitted.refused:
            if item.station_id is not None:
                partition = partition_of(item.station_id, partitions)
            else:
                partition = crc32(request.context.token_id.encode()) % partitions
            items[partition].append((item, request))
    return items


def _cut_refused(partition: int, items: list[tuple[RefusedItem, PendingRequest]]) -> list[UnnumberedFrame]:
    frames = []
    start = size = 0
    for end, (item, _) in enumerate(items):
        size += len(item.raw)
        if size > REFUSED_FRAME_BYTES_MAX or end - start >= FRAME_ITEMS_MAX:
            frames.append(_refused_frame(partition, items[start:end]))
            start, size = end, len(item.raw)
    if items:
        frames.append(_refused_frame(partition, items[start:]))
    return frames


def _refused_frame(partition: int, refused: list[tuple[RefusedItem, PendingRequest]]) -> UnnumberedFrame:
    items = [item for item, _ in refused]
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([item.station_id for item in items], pa.string()),
            pa.array([item.reason for item in items], pa.string()),
            pa.array([item.detail for item in items], pa.string()),
            pa.array([item.raw for item in items], pa.binary()),
        ],
        schema=REFUSED_SCHEMA,
    )
    return UnnumberedFrame(partition, FrameKind.REFUSED, batch, list(dict.fromkeys(request for _, request in refused)))
