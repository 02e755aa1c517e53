"""Decoding of frames; a frame that cannot be read is kept whole, as one refused item."""

from typing import Final

import msgspec
import pyarrow as pa

from schemas.frame import FrameError, FrameHeader, FrameKind, decode_body
from schemas.reading import READING_SCHEMA, REFUSED_SCHEMA, with_all_columns
from streams.effects import RefusedItems
from streams.engine.batch import Frame

UNREADABLE: Final = "unreadable_frame"
FAILED: Final = "processing_failed"  # readable, but a step fails on it: a fault of this program
_SCHEMAS: Final = {FrameKind.READINGS: READING_SCHEMA, FrameKind.REFUSED: REFUSED_SCHEMA}


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
    for field in schema:
        if not field.nullable and batch.column(field.name).null_count:
            raise FrameError(f"column {field.name} may not be null")
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
