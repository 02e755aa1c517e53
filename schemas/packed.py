"""Packed readings: the body of a frame with few readings, as chargers that post one at a time make them.

An Arrow stream describes its 16 columns anew in every frame: 1.8 kB and 30 us for one reading. Packed readings are rows
of 64-bit integers that are read for many frames at once, in one pass over all their bytes.

Layout: magic `VFPACKD1`; a row a reading: the integer columns of READING_SCHEMA in their order, NULL where there is
nothing, then the length in bytes of each text column, -1 for null; then the texts, UTF-8, row by row in the order of
the columns; zeros up to the next multiple of 8. All integers are int64, little endian.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.reading import READING_SCHEMA

MAGIC: Final = b"VFPACKD1"
# Of a frame that is packed: a column of more is written faster by Arrow, and read as fast. Never lower it: logs keep
# frames of as many.
ROWS_MAX: Final = 64
NULL: Final = np.iinfo(np.int64).min
TEXTS: Final = tuple(field.name for field in READING_SCHEMA if pa.types.is_string(field.type))
NUMBERS: Final = tuple(field.name for field in READING_SCHEMA if not pa.types.is_string(field.type))
_WORD: Final = 8
_TEXT_BYTES_MAX: Final = 1 << 20
_WIDTH: Final = len(NUMBERS) + len(TEXTS)  # of a row, in words
_REQUIRED: Final = np.array([not READING_SCHEMA.field(name).nullable for name in NUMBERS])
_BOUNDS: Final = [np.iinfo(READING_SCHEMA.field(name).type.to_pandas_dtype()) for name in NUMBERS]
_LOWEST: Final = np.array([bounds.min for bounds in _BOUNDS], np.int64)
_HIGHEST: Final = np.array([bounds.max for bounds in _BOUNDS], np.int64)
I64 = NDArray[np.int64]


class PackedError(Exception):
    """Not packed readings, or broken ones."""


@dataclass(frozen=True, slots=True)
class PackedReadings:
    """The readings of several frames, in order: int64 columns with NULL where there is nothing, and texts."""

    numbers: dict[str, I64]  # NUMBERS
    texts: dict[str, pa.StringArray]  # TEXTS

    def to_batch(self) -> pa.RecordBatch:
        """The same as a batch of READING_SCHEMA."""
        arrays = []
        for field in READING_SCHEMA:
            if field.name in self.texts:
                arrays.append(self.texts[field.name])
                continue
            values = self.numbers[field.name]
            absent = values == NULL
            narrow = np.where(absent, 0, values).astype(field.type.to_pandas_dtype())
            arrays.append(pa.array(narrow, field.type, mask=absent if absent.any() else None))
        return pa.RecordBatch.from_arrays(arrays, schema=READING_SCHEMA)


class PackedBody(NamedTuple):
    """The body of a frame."""

    octets: bytes
    num_rows: int


def pack(batch: pa.RecordBatch) -> bytes:
    """The body of a frame with these readings: of READING_SCHEMA, or without the optional columns."""
    rows, names = batch.num_rows, set(batch.schema.names)
    numbers = np.full((len(NUMBERS), rows), NULL, np.int64)
    for place, name in enumerate(NUMBERS):
        if name in names and batch.column(name).null_count < rows:
            numbers[place] = batch.column(name).cast(pa.int64()).fill_null(NULL)
    texts = [batch.column(name).to_pylist() if name in names else [None] * rows for name in TEXTS]
    (body,) = pack_columns(numbers, texts, [rows])
    return body.octets


def pack_columns(numbers: I64, texts: Sequence[Sequence[str | None]], counts: Sequence[int]) -> list[PackedBody]:
    """The bodies of consecutive frames of so many rows each.

    numbers: (NUMBERS, rows), NULL where there is nothing. texts: a column for each of TEXTS.
    """
    words = np.empty((numbers.shape[1], _WIDTH), np.int64)
    words[:, : len(NUMBERS)] = numbers.T
    encoded = [[None if text is None else text.encode() for text in column] for column in texts]
    for place, column in enumerate(encoded, len(NUMBERS)):
        words[:, place] = [-1 if text is None else len(text) for text in column]
    by_row = [b"".join([text for text in row if text]) for row in zip(*encoded, strict=True)]
    bodies = []
    for start, end in pairwise(accumulate(counts, initial=0)):
        text = b"".join(by_row[start:end])
        body = MAGIC + words[start:end].tobytes() + text + bytes(-len(text) % _WORD)
        bodies.append(PackedBody(body, end - start))
    return bodies


def is_packed(frame: bytes, body_at: int) -> bool:
    """Whether the body that begins there is packed."""
    return frame.startswith(MAGIC, body_at)


def unpack(bodies: Sequence[bytes], counts: Sequence[int]) -> PackedReadings:
    """The readings of these packed bodies, so many in each. Raises PackedError if one of them is broken."""
    if any(not 0 <= count <= ROWS_MAX for count in counts):
        raise PackedError(f"a body has 0 to {ROWS_MAX} readings")
    if not all(body.startswith(MAGIC) for body in bodies):
        raise PackedError("a body is not packed readings")
    rows = np.array(counts, np.int64)
    total = int(rows.sum())
    texts_at = _WORD + rows * (_WIDTH * _WORD)
    whole = b"".join([body[_WORD:end] for body, end in zip(bodies, texts_at.tolist(), strict=True)])
    if len(whole) != total * _WIDTH * _WORD:
        raise PackedError("a body is shorter than its rows")
    cells = np.frombuffer(whole, "<i8").astype(np.int64, copy=False).reshape(total, _WIDTH)
    numbers = np.ascontiguousarray(cells[:, : len(NUMBERS)].T)
    _check_numbers(numbers)
    return PackedReadings(
        dict(zip(NUMBERS, numbers, strict=True)), _texts(bodies, texts_at, rows, cells[:, len(NUMBERS) :])
    )


def _check_numbers(numbers: I64) -> None:
    absent = numbers == NULL
    if absent[_REQUIRED].any():
        raise PackedError("a column that may not be null is null")
    beyond = (numbers < _LOWEST[:, None]) | (numbers > _HIGHEST[:, None])
    if (beyond & ~absent).any():
        raise PackedError("a number is beyond its column's type")


def _texts(bodies: Sequence[bytes], texts_at: I64, rows: I64, lengths: I64) -> dict[str, pa.StringArray]:
    """The text columns. `lengths`: a row a reading, a column a text."""
    if (lengths < -1).any() or (lengths > _TEXT_BYTES_MAX).any():
        raise PackedError("a text has no length that is one")
    absent = (lengths < 0).reshape(-1)
    after = np.zeros(len(absent) + 1, np.int64)  # bytes of texts before each, and of all
    np.cumsum(np.maximum(lengths, 0).reshape(-1), out=after[1:])
    texts_of = len(TEXTS) * np.concatenate([np.zeros(1, np.int64), np.cumsum(rows)])
    used = np.diff(after[texts_of])
    if (texts_at + used + -used % _WORD != [len(body) for body in bodies]).any():
        raise PackedError("the texts are not as long as the body")
    spans = zip(bodies, texts_at.tolist(), (texts_at + used).tolist(), strict=True)
    octets = pa.py_buffer(b"".join([body[start:end] for body, start, end in spans]))
    valid = pa.array(~absent).buffers()[1] if absent.any() else None
    every = pa.StringArray.from_buffers(len(absent), pa.py_buffer(after.astype(np.int32)), octets, valid)
    try:
        every.validate(full=True)
    except pa.ArrowException as error:
        raise PackedError(f"a text is not UTF-8: {error}") from error
    texts = {}
    for kind, name in enumerate(TEXTS):
        if absent[kind :: len(TEXTS)].all():
            texts[name] = pa.nulls(len(lengths), pa.string())
        else:
            texts[name] = every.take(pa.array(np.arange(kind, len(every), len(TEXTS))))
    for name, text in texts.items():
        if text.null_count and not READING_SCHEMA.field(name).nullable:
            raise PackedError(f"column {name} may not be null")
    return texts
