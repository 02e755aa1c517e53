"""The frame, voltstream's unit of work: some readings of one partition, as an Arrow record batch behind a header.

Layout: magic `VF1\\0`, header length (u32, little endian), header (MessagePack array), zeros up to the next multiple
of 8 (Arrow wants its buffers aligned), body: an Arrow IPC stream, or the few readings packed (schemas/packed.py).
A transport moves frames as opaque bytes, several in one record where they are small (`join_frames`). The header makes
loss visible: every source (one run of one gateway) numbers its frames per partition from 0 without a gap and states how
many items it has sent in all. A receiver of frames 1 and 3 knows that 2 is missing, and drops a 2 that comes twice.
`items_total` of the highest frame is what that source has accepted: `accepted` of the ledger of readings.
"""

from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import Annotated, Final
from zlib import crc32

import msgspec
import pyarrow as pa

from schemas import packed
from schemas.packed import PackedBody, PackedError
from schemas.reading import PLAIN_READING_SCHEMA, READING_SCHEMA, REFUSED_SCHEMA

MAGIC: Final = b"VF1\0"
JOINED_MAGIC: Final = b"VFJ\0"
FRAME_ITEMS_MAX: Final = 4_096  # ~1,000 is usual; the bound keeps one frame under ~1 MB on the wire
TEXT_MAX: Final = 256  # of a source, a trace context, a correlation id; characters
RECEIVED_MS_MAX: Final = 253_402_300_799_999  # the end of the year 9999, the last that databases store
_HEADER_AT: Final = len(MAGIC) + 4
_ALIGNMENT: Final = 8


class FrameKind(IntEnum):
    """Content of the body."""

    READINGS = 1  # READING_SCHEMA
    REFUSED = 2  # REFUSED_SCHEMA


class FrameError(Exception):
    """Not a frame, or an unreadable one. The transport may acknowledge it only after it has kept the bytes."""


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Text = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]


class FrameHeader(msgspec.Struct, array_like=True, frozen=True):
    """Metadata of a frame, in front of its rows.

    A header that was decoded can be counted and stored, also one that another program wrote: a value beyond these
    bounds, or a NUL in a text, would fail at every attempt to store it.
    """

    kind: Annotated[int, msgspec.Meta(ge=0, le=255)]  # FrameKind
    partition: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_MAX)]  # of one run of a gateway: 16 hex digits
    number: _Count  # of this source in this partition, from 0, no gaps
    items: Annotated[int, msgspec.Meta(ge=0, le=FRAME_ITEMS_MAX)]  # rows in the body
    items_total: _Count  # of this source in this partition, this frame included
    received_ms: Annotated[int, msgspec.Meta(ge=0, le=RECEIVED_MS_MAX)]  # gateway clock, Unix epoch
    traceparent: _Text = ""  # W3C trace context, or empty
    correlation_id: _Text = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(FrameHeader)


def encode_frame(header: FrameHeader, rows: pa.RecordBatch | PackedBody) -> bytes:
    """The frame's bytes. A batch has READING_SCHEMA or REFUSED_SCHEMA, as `header.kind` says."""
    head = _encoder.encode(header)
    start = MAGIC + len(head).to_bytes(4, "little") + head + bytes(-(_HEADER_AT + len(head)) % _ALIGNMENT)
    if isinstance(rows, PackedBody):
        return start + rows.octets
    if rows.num_rows <= packed.ROWS_MAX and rows.schema in (PLAIN_READING_SCHEMA, READING_SCHEMA):
        return start + packed.pack(rows)
    sink = pa.BufferOutputStream()
    sink.write(start)
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    frame: bytes = sink.getvalue().to_pybytes()
    return frame


def decode_header(frame: bytes) -> FrameHeader:
    """The header alone. Raises FrameError if the bytes are not a frame."""
    if frame[: len(MAGIC)] != MAGIC:
        raise FrameError("not a voltstream frame: wrong magic")
    try:
        header = _decoder.decode(frame[_HEADER_AT : _header_end(frame)])
    except (ValueError, RecursionError) as error:
        raise FrameError(f"frame header unreadable: {error}") from error
    if "\0" in header.source or "\0" in header.traceparent or "\0" in header.correlation_id:
        raise FrameError("frame header unreadable: a text with NUL")
    return header


def packed_body(frame: bytes) -> bytes | None:
    """The body, if it is packed readings; None: it is not."""
    start = _body_at(frame)
    return frame[start:] if packed.is_packed(frame, start) else None


def decode_body(frame: bytes) -> pa.RecordBatch:
    """The rows. Raises FrameError if they cannot be read."""
    start = _body_at(frame)
    if packed.is_packed(frame, start):
        try:
            return packed.unpack([frame[start:]], [decode_header(frame).items]).to_batch()
        except PackedError as error:
            raise FrameError(f"frame body unreadable: {error}") from error
    try:
        for message, schema in _SCHEMA_MESSAGES:
            if frame.startswith(message, start):
                return pa.ipc.read_record_batch(pa.py_buffer(frame)[start + len(message) :], schema)
        return pa.ipc.open_stream(pa.py_buffer(frame)[start:]).read_next_batch()
    except (pa.ArrowException, OSError, EOFError, StopIteration) as error:
        raise FrameError(f"frame body unreadable: {error}") from error


def _schema_message(schema: pa.Schema) -> bytes:
    """What a stream of that schema begins with."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema):
        pass
    stream: bytes = sink.getvalue().to_pybytes()
    return stream[: -len(_END_OF_STREAM)]


_END_OF_STREAM: Final = b"\xff\xff\xff\xff\0\0\0\0"
# A frame describes its columns as all of its kind do: not reading that again saves half of opening it.
_SCHEMA_MESSAGES: Final = [
    (_schema_message(schema), schema) for schema in (PLAIN_READING_SCHEMA, READING_SCHEMA, REFUSED_SCHEMA)
]


def join_frames(frames: Sequence[bytes]) -> bytes:
    """One record of a log with all these frames, in their order; a single one is a record as it is.

    Layout: magic `VFJ\\0`, number of frames, the length of each (u32, little endian), the frames.
    """
    if len(frames) == 1:
        return frames[0]
    numbers = (len(frames), *map(len, frames))
    return b"".join([JOINED_MAGIC, *(number.to_bytes(4, "little") for number in numbers), *frames])


def split_frames(record: bytes) -> list[bytes]:
    """The frames of a record; the record itself if it is not joined frames. Raises FrameError if they are broken."""
    if not record.startswith(JOINED_MAGIC):
        return [record]
    numbers = memoryview(record)[len(JOINED_MAGIC) : len(record) // 4 * 4].cast("I")
    count = numbers[0] if len(numbers) else 0
    lengths = numbers[1 : 1 + count].tolist()
    start = len(JOINED_MAGIC) + 4 * (1 + count)
    if not count or len(lengths) != count or start + sum(lengths) != len(record):
        raise FrameError("joined frames are not as long as they say")
    ends = list(accumulate(lengths, initial=start))
    return [record[begin:end] for begin, end in pairwise(ends)]


def _body_at(frame: bytes) -> int:
    end = _header_end(frame)
    return end + -end % _ALIGNMENT


def _header_end(frame: bytes) -> int:
    return _HEADER_AT + int.from_bytes(frame[len(MAGIC) : _HEADER_AT], "little")


def partition_of(station_id: str, partitions: int) -> int:
    """The partition a station's readings go to: CRC-32 of the upper-case id, modulo the number of partitions."""
    return crc32(station_id.upper().encode()) % partitions
