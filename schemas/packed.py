"""Packed readings: the body of a frame with few readings, as chargers that speak singly make them.

An Arrow stream describes its 16 columns anew in every frame: 1.8 kB and 30 us for one reading. Packed readings are rows
of 64-bit integers that are read for many frames at once, in one pass over all their bytes.

Layout: magic `VFPACKD1`; a row a reading: the integer columns of READING_SCHEMA in their order, NULL where there is
nothing, then the length in bytes of each text column, -1 for null; then the texts, UTF-8, row by row in the order of
the columns; zeros up to the next multiple of 8. All integers are int64, little endian.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

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
_WIDTH: Final = len(NUMBERS) + len(TEXTS)  # of a row, in words
_MAGIC_WORD: Final = int.from_bytes(MAGIC, "little")
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


def pack(batch: pa.RecordBatch) -> bytes:
    """The body of a frame with these readings: of READING_SCHEMA, or without the optional columns."""
    columns: dict[str, list[Any]] = batch.to_pydict()
    nothing = [None] * batch.num_rows
    numbers = (columns.get(name, nothing) for name in NUMBERS)
    texts = (columns.get(name, nothing) for name in TEXTS)
    return pack_rows(list(zip(*numbers, *texts, strict=True)))


def pack_rows(rows: Sequence[tuple[Any, ...]]) -> bytes:
    """The same of rows: NUMBERS, then TEXTS of each, None where there is nothing."""
    words: list[int] = [_MAGIC_WORD]
    texts: list[bytes] = []
    split = len(NUMBERS)
    for row in rows:
        words += [NULL if number is None else number for number in row[:split]]
        encoded = [None if text is None else text.encode() for text in row[split:]]
        words += [-1 if text is None else len(text) for text in encoded]
        texts += [text for text in encoded if text]
    text = b"".join(texts)
    return np.array(words, np.int64).tobytes() + text + bytes(-len(text) % _WORD)


def is_packed(frame: bytes, body_at: int) -> bool:
    """Whether the body that begins there is packed."""
    return frame.startswith(MAGIC, body_at)


def unpack(bodies: Sequence[bytes | memoryview], counts: Sequence[int]) -> PackedReadings:
    """The readings of these packed bodies, so many in each. Raises PackedError if one of them is broken."""
    if any(not 0 <= count <= ROWS_MAX for count in counts):
        raise PackedError(f"a body has 0 to {ROWS_MAX} readings")
    sizes = np.array([len(body) for body in bodies], np.int64)
    if (sizes % _WORD).any():
        raise PackedError("a body is not whole words long")
    octets = np.frombuffer(b"".join(bodies), np.uint8)
    words = octets.view("<i8").astype(np.int64, copy=False)
    ends = np.cumsum(sizes // _WORD)
    starts = ends - sizes // _WORD
    rows = np.array(counts, np.int64)
    texts_at = starts + 1 + rows * _WIDTH
    if (texts_at > ends).any() or (words[starts[starts < ends]] != _MAGIC_WORD).any():
        raise PackedError("a body is shorter than its rows, or has none")
    total = int(rows.sum())
    first_row = np.cumsum(rows) - rows
    row_at = np.repeat(starts + 1 - first_row * _WIDTH, rows) + np.arange(total) * _WIDTH
    cells = words[row_at[:, None] + np.arange(_WIDTH)].T
    numbers, lengths = np.ascontiguousarray(cells[: len(NUMBERS)]), cells[len(NUMBERS) :].T.reshape(-1)
    _check_numbers(numbers)
    return PackedReadings(
        dict(zip(NUMBERS, numbers, strict=True)), _texts(octets, lengths, first_row, texts_at, ends, rows)
    )


def _check_numbers(numbers: I64) -> None:
    absent = numbers == NULL
    if absent[_REQUIRED].any():
        raise PackedError("a column that may not be null is null")
    beyond = (numbers < _LOWEST[:, None]) | (numbers > _HIGHEST[:, None])
    if (beyond & ~absent).any():
        raise PackedError("a number is beyond its column's type")


def _texts(
    octets: NDArray[np.uint8], lengths: I64, first_row: I64, texts_at: I64, ends: I64, rows: I64
) -> dict[str, pa.StringArray]:
    """`lengths`: of all texts, row by row."""
    kinds = len(TEXTS)
    if (lengths < -1).any() or (lengths > len(octets)).any():
        raise PackedError("a text has no length that is one")
    taken = np.maximum(lengths, 0)
    after = np.cumsum(taken)  # of each text, over all bodies
    before = np.concatenate([np.zeros(1, np.int64), after])  # before each text, and of all
    began = before[first_row * kinds]  # before the texts of each body
    used = before[(first_row + rows) * kinds] - began
    room = (ends - texts_at) * _WORD
    if (used > room).any() or (room - used >= _WORD).any():
        raise PackedError("the texts are not as long as the body")
    at = np.repeat(texts_at * _WORD - began, rows * kinds) + before[:-1]
    texts = {}
    for number, name in enumerate(TEXTS):
        length = lengths[number::kinds]
        texts[name] = _gather(octets, at[number::kinds], length)
        if not READING_SCHEMA.field(name).nullable and (length < 0).any():
            raise PackedError(f"column {name} may not be null")
    return texts


def _gather(octets: NDArray[np.uint8], at: I64, length: I64) -> pa.StringArray:
    """The texts of these lengths that begin there, -1: null."""
    absent = length < 0
    taken = np.where(absent, 0, length)
    offsets = np.zeros(len(length) + 1, np.int32)
    np.cumsum(taken, out=offsets[1:])
    inside = np.arange(int(offsets[-1])) + np.repeat(at - offsets[:-1], taken)
    valid = pa.array(~absent).buffers()[1] if absent.any() else None
    texts = pa.StringArray.from_buffers(
        len(length), pa.py_buffer(offsets), pa.py_buffer(octets[inside]), valid, int(absent.sum())
    )
    try:
        texts.validate(full=True)
    except pa.ArrowException as error:
        raise PackedError(f"a text is not UTF-8: {error}") from error
    return texts
