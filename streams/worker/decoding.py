"""Decoding of frames; a frame that cannot be read is kept whole, as one refused item.

The packed frames of a flush are decoded together: a cost by frame would be one by reading where chargers post one
reading at a time.
"""

from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate

import msgspec
import pyarrow as pa

from schemas.frame import FrameError, FrameHeader, FrameKind, packed_body
from schemas.frame_rows import UNREADABLE, read_rows
from schemas.packed import PackedError, unpack
from schemas.reading import REFUSED_SCHEMA
from streams.effects import RefusedItems
from streams.engine.batch import Frame, PackedRows


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
    """Header and rows, checked as far as the kernels rely on it. Raises FrameError."""
    if header.partition != partition:
        raise FrameError(f"a frame of partition {header.partition} in partition {partition}")
    return header, read_rows(header, frame)


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
