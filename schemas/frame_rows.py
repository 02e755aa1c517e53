"""The rows of a frame, checked as far as whoever reads them relies on it."""

from typing import Final

import pyarrow as pa

from schemas.frame import FrameError, FrameHeader, FrameKind, decode_body
from schemas.reading import READING_SCHEMA, REFUSED_SCHEMA, with_all_columns

# Reasons for which a frame is kept whole in quarantine; its row has the frame's bytes.
UNREADABLE: Final = "unreadable_frame"
FAILED: Final = "processing_failed"  # readable, but a step fails on it: a fault of this program
WHOLE_FRAMES: Final = (UNREADABLE, FAILED)

_SCHEMAS: Final = {FrameKind.READINGS: READING_SCHEMA, FrameKind.REFUSED: REFUSED_SCHEMA}
_REQUIRED: Final = {
    int(kind): [(place, field.name) for place, field in enumerate(schema) if not field.nullable]
    for kind, schema in _SCHEMAS.items()
}


def read_rows(header: FrameHeader, frame: bytes) -> pa.RecordBatch:
    """The rows: READING_SCHEMA or REFUSED_SCHEMA, as the header's kind says. Raises FrameError.

    The full check matters: a broken offset buffer is a crash of the process, not an exception.
    """
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
    return batch
