"""Columnar JSON encoder: the JSON texts of many rows are concatenated at once from pyarrow columns of text. Pure.

A row's text is the concatenation of pieces. Where a column is null in a row, the object member whose value it is part
of is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Texts = Any  # a pyarrow.StringArray
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Pieces = Sequence[str | Texts]  # str: the same in every row

_MICROS: Final = pa.decimal128(38, 6)
_MOMENT: Final = pa.timestamp("ms")
_DATE_CHARS: Final = 10
_CONTROLS_END: Final = 0x20  # characters below it, and these two, are escaped in a JSON string
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


def json_of(value: object) -> str:
    """The JSON text of one value."""
    return _encode(value).decode()


def json_strings(texts: Texts) -> Pieces:
    """JSON strings of the texts. Fast where no text needs escaping, which is the usual case."""
    all_bytes = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    if ((all_bytes >= _CONTROLS_END) & (all_bytes != _QUOTE) & (all_bytes != _BACKSLASH)).all():
        return ('"', texts, '"')
    return (pa.array([None if text is None else json_of(text) for text in texts.to_pylist()], pa.string()),)


def json_decimals(micros: Ints) -> Texts:
    """JSON numbers of integer millionths: exact, with six decimals."""
    words = np.empty((len(micros), 2), np.int64)  # of 128 bits, the low one first
    words[:, 0] = micros
    words[:, 1] = micros >> 63  # its sign
    return pa.Array.from_buffers(_MICROS, len(micros), (None, pa.py_buffer(words))).cast(pa.string())


def json_timestamps(moments_ms: Ints) -> Pieces:
    """JSON strings of ms since the Unix epoch: RFC 3339, UTC, with milliseconds."""
    texts = pa.array(moments_ms).view(_MOMENT).cast(pa.string())
    dated = pc.binary_replace_slice(texts.view(pa.binary()), _DATE_CHARS, _DATE_CHARS + 1, b"T")
    return ('"', dated.view(pa.string()), 'Z"')


def json_arrays(texts: Texts, starts: Ints) -> Pieces:
    """JSON arrays; row r has the values [`starts[r]`, `starts[r + 1]`)."""
    return ("[", pc.binary_join(pa.ListArray.from_arrays(pa.array(starts, pa.int32()), texts), ","), "]")


def json_objects(members: Mapping[str, Pieces]) -> Pieces:
    """JSON objects. The first member must not be null in any row."""
    pieces: list[str | Texts] = []
    for place, (name, value) in enumerate(members.items()):
        member = (f'{"," if place else "{"}"{name}":', *value)
        columns = [piece for piece in value if not isinstance(piece, str)]
        nulls = [piece.null_count for piece in columns]
        if not any(nulls):
            pieces += member
        elif all(count < len(piece) or not count for count, piece in zip(nulls, columns, strict=True)):
            pieces.append(pc.fill_null(concatenate(member), ""))
    return (*pieces, "}")


def where(mask: Bools, pieces: Pieces) -> Pieces:
    """These pieces where `mask` is true, null elsewhere."""
    if mask.all():
        return pieces
    return (pc.if_else(pa.array(mask), concatenate(pieces), pa.scalar(None, pa.string())),)


def choose_text(mask: Bools, if_true: str, if_false: str) -> Texts:
    """`if_true` where `mask` is true, `if_false` in the other rows."""
    return pc.if_else(pa.array(mask), if_true, if_false)


def concatenate(pieces: Iterable[str | Texts]) -> Texts:
    """The pieces concatenated, one text per row; null where a piece is null."""
    merged: list[str | Texts] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece  # each piece costs time in each row
        else:
            merged.append(piece)
    return pc.binary_join_element_wise(*merged, "", null_handling="emit_null")


def merge_pieces(pieces: Pieces) -> Pieces:
    """The same rows in as few pieces as possible; dictionary-encoded pieces stay as they are."""
    groups = groupby(pieces, lambda piece: isinstance(piece, pa.DictionaryArray))
    return [piece for apart, group in groups for piece in (group if apart else [concatenate(group)])]


def value_bytes(texts: Texts) -> memoryview:
    """The bytes of all rows concatenated, without a copy. `texts` must not be a slice."""
    _, ends, data = texts.buffers()
    return memoryview(data)[: np.frombuffer(ends, np.int32)[len(texts)]]


def or_null(pieces: Pieces) -> Pieces:
    """The same rows, with the JSON value `null` where they are null."""
    if not any(piece.null_count for piece in pieces if not isinstance(piece, str)):
        return pieces  # a call of Arrow costs as much as a hundred rows
    return (concatenate(pieces).fill_null("null"),)


def encode_rows(pieces: Pieces, start: int, count: int) -> bytes:
    """The bytes of `count` rows from row `start` on, concatenated."""
    sliced = [piece if isinstance(piece, str) else _plain(piece.slice(start, count)) for piece in pieces]
    return bytes(value_bytes(concatenate(sliced)))


def _plain(piece: Texts) -> Texts:
    return piece.dictionary_decode() if isinstance(piece, pa.DictionaryArray) else piece
