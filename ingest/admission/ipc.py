"""Reads Arrow IPC streams from untrusted clients so that a small body cannot expand to a large amount of memory.

Refused are compressed buffers (only Content-Encoding can bound the inflated size), dictionaries and views (many rows,
one long value), and nested or run-end columns.
"""

import struct
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from ingest.admission.admitted import AdmissionRules
from ingest.errors import MalformedBody

_FILE_MAGIC: Final = b"ARROW1"
# Slots of Arrow's flatbuffer tables (Message.fbs): Message.header, RecordBatch.compression.
_HEADER_SLOT: Final = 2
_COMPRESSION_SLOT: Final = 3
_REMEDY: Final = "send an Arrow IPC stream (pyarrow.ipc.new_stream) of plain columns"
_PLAIN: Final = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_timestamp,
)


def read_batch(body: bytes, rules: AdmissionRules) -> pa.RecordBatch | None:
    """All rows of the stream as one batch, fully validated; None without any. Raises MalformedBody, TooLarge."""
    if body.startswith(_FILE_MAGIC):
        raise MalformedBody("this is the Arrow file format; send the stream format (pyarrow.ipc.new_stream)")
    try:
        return _read(body, rules)
    except StopIteration:
        raise MalformedBody(f"an empty Arrow stream; {_REMEDY}") from None
    except (pa.ArrowException, OSError, EOFError, ValueError, struct.error, OverflowError) as error:
        raise MalformedBody(f"not an Arrow stream: {ascii(str(error)[:200])[1:-1]}; {_REMEDY}") from None


def _read(body: bytes, rules: AdmissionRules) -> pa.RecordBatch | None:
    source = pa.BufferReader(body)
    messages = pa.ipc.MessageReader.open_stream(source)
    head = messages.read_next_message()
    if head.type != "schema":  # pyarrow does not check this, and crashes the process
        raise MalformedBody(f"the stream does not begin with its schema; {_REMEDY}")
    schema = pa.ipc.read_schema(head).remove_metadata()
    for field in schema:
        _ = field.name, str(field.type)  # raises here if it is not UTF-8, and not at a later access
        if not any(is_type(field.type) for is_type in _PLAIN):
            raise MalformedBody(
                f"column {ascii(field.name[:64])[1:-1]} has type {field.type}, which is not read; {_REMEDY}"
            )
    batches: list[pa.RecordBatch] = []
    rows = 0
    for message in _rest(messages):
        if message.type != "record batch":
            raise MalformedBody(f"the stream holds a {message.type}; {_REMEDY}")
        if _is_compressed(message.metadata.to_pybytes()):
            raise MalformedBody("the stream's buffers are compressed; send them plain, and Content-Encoding: zstd")
        batch = pa.ipc.read_record_batch(message, schema)
        rows += batch.num_rows
        rules.check_count(rows)
        batch.validate(full=True)
        batches.append(batch)
    if beyond := len(body) - source.tell():  # the reader ignores it, and its sender would believe it accepted
        raise MalformedBody(f"{beyond} octets follow the end of the Arrow stream; send one stream a request")
    return pa.concat_batches(batches) if batches else None


def _rest(messages: pa.ipc.MessageReader) -> Iterator[pa.ipc.Message]:
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return
        yield message


def _is_compressed(metadata: bytes) -> bool:
    """Whether the flatbuffer of a record batch message declares a compression."""
    message = struct.unpack_from("<I", metadata, 0)[0]
    at = _slot(metadata, message, _HEADER_SLOT)
    if at is None:
        raise MalformedBody(f"the stream holds a message without a header; {_REMEDY}")
    header = at + struct.unpack_from("<I", metadata, at)[0]
    return _slot(metadata, header, _COMPRESSION_SLOT) is not None


def _slot(flatbuffer: bytes, table: int, slot: int) -> int | None:
    """Offset of a field of a flatbuffer table; None if it has its default."""
    vtable = table - struct.unpack_from("<i", flatbuffer, table)[0]
    size = struct.unpack_from("<H", flatbuffer, vtable)[0]
    entry = 4 + 2 * slot
    offset = struct.unpack_from("<H", flatbuffer, vtable + entry)[0] if entry + 2 <= size else 0
    return table + offset if offset else None
