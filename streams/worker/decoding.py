"""Decoding of frames; a frame that cannot be read is kept whole, as one refused item.

The packed frames of a flush are decoded together: a cost by frame would be one by reading where chargers post one
reading at a time.
"""

from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Final

import msgspec
import pyarrow as pa

from schemas.frame import FrameError, FrameHeader, FrameKind, decode_body, packed_body
from schemas.packed import PackedError, unpack
from schemas.reading import READING_SCHEMA, REFUSED_SCHEMA, with_all_columns
from streams.effects import RefusedItems
from streams.engine.batch import Frame, PackedRows

UNREADABLE: Final = "unreadable_frame"
FAILED: Final = "processing_failed"  # readable, but a step fails on it: a fault of this program
_SCHEMAS: Final = {FrameKind.READINGS: READING_SCHEMA, FrameKind.REFUSED: REFUSED_SCHEMA}
_REQUIRED: Final = {
    int(kind): [(place, field.name) for place, field in enumerate(schema) if not field.nullable]
    for kind, schema in _SCHEMAS.items()
}


def read_frames(frames: Sequence[tuple[FrameHeader, bytes]], partition: int) -> list[Frame | FrameError]:
    """Header and rows of each, checked as far as the kernels rely on it, or what is wrong with it."""
    bodies = [_packed_body(header, frame, partition) for header, frame in frames]
    found: dict[int, Frame] = {}
    with suppress(PackedError):  # one of them is broken: each by itself
        found = _unpacked([header for header, _ in frames], bodies)
    return [found.get(place) or _read(header, frame, partition) for place, (header, frame) in enumerate(frames)]


def _packed_body(header: FrameHeader, frame: bytes, partition: int) -> bytes | None:
    mine = header.kind == FrameKind.READINGS and header.partition == partition
    return packed_body(frame) if mine else None


def _unpacked(headers: Sequence[FrameHeader], bodies: Sequence[bytes | None]) -> dict[int, Frame]:
    """The frames with these bodies, by place. Raises PackedError if one of them is broken."""
    chosen = [(place, body) for place, body in enumerate(bodies) if body is not None]
    if not chosen:
        return {}
    counts = [headers[place].items for place, _ in chosen]
    whole = unpack([body for _, body in chosen], counts)
    ends = accumulate(counts)
    return {
        place: (headers[place], PackedRows(whole, end - count, end))
        for (place, _), count, end in zip(chosen, counts, ends, strict=True)
    }


def _read(header: FrameHeader, frame: bytes, partition: int) -> Frame | FrameError:
    try:
        return read_frame(header, frame, partition)
    except FrameError as error:
        return error


def read_frame(header: FrameHeader, frame: bytes, partition: int) -> Frame:
    """Header and rows, checked as far as the kernels rely on it. Raises FrameError.

    The full check matters: a broken offset buffer is a crash of the process, not an exception.
    """
    if header.partition != partition:
        raise FrameError(f"a frame of partition {header.partition} in partition {partition}")
    schema = _SCHEMAS.get(header.kind)  # type: ignore[call-overload]  # an IntEnum is looked up by its int
    if schema is None:
        raise FrameError(f"frames of kind {header.kind} are not known here")
    batch = decode_body(frame)
    if schema is READING_SCHEMA:
        batch = with_all_columns(batch)
    if batch.schema != schema:
        raise FrameError("the frame's columns are not those of its kind")
    try:
        batch.validate(full=True)
    except pa.ArrowException as error:
        raise FrameError(f"frame body broken: {error}") from error
    if batch.num_rows != header.items:
        raise FrameError(f"the header says {header.items} items, the body has {batch.num_rows}")
    for place, name in _REQUIRED[header.kind]:
        if batch.column(place).null_count:
            raise FrameError(f"column {name} may not be null")
    return header, batch


def refused_whole(header: FrameHeader, frame: bytes, reason: str, detail: str) -> Frame:
    """The frame as a refused item: its bytes are kept, its items count as quarantined."""
    row = {"station_id": [None], "reason": [reason], "detail": [detail], "raw": [frame]}
    batch = pa.RecordBatch.from_pydict(row, schema=REFUSED_SCHEMA)
    return msgspec.structs.replace(header, kind=int(FrameKind.REFUSED)), batch


def refuse_unreadable(refused: RefusedItems, frame: bytes, now_ms: int) -> None:
    """Its header cannot be read either: the number of its items is unknown, so the ledger counts none."""
    refused.station_id.append(None)
    refused.connector_id.append(None)
    refused.reason.append(UNREADABLE)
    refused.detail.append("the frame's header cannot be read")
    refused.raw.append(frame)
    refused.received_ms.append(now_ms)
