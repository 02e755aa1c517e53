"""Columns of numpy in PostgreSQL's binary formats, of COPY and of arrays, without a Python step per row.

Measured against pgpq (Arrow -> binary): byte-identical, 7 to 16 M rows/s against 4 to 5 M, and no Arrow detour.
Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.pq import Format

from streams.effects import Columns
from streams.storage.tables import StoredColumn, StoredTable

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"  # a cell's length: -1
_ROWS_MAX: Final = 4_096  # a chunk: 0.6 MB of readings, which stay in the processor's cache while they are encoded
_EPOCH_2000_MS: Final = 946_684_800_000
_TS_MS_MAX: Final = 8_640_000_000_000_000  # year 275760: inside timestamptz, and x 1,000 inside int64
_WIDTH: Final = {"int2": 2, "int4": 4, "int8": 8, "timestamptz": 8, "uuid": 16}
_OID: Final = {"int2": 21, "int4": 23, "int8": 20, "timestamptz": 1_184, "uuid": 2_950, "text": 25}
_ARRAY_HEADER: Final = struct.Struct(">5i")  # dimensions, whether there are nulls, the elements' type, how many, from 1


class BinaryArray(bytes):
    """A parameter `%b::type[]`."""


class BinaryArrayDumper(Dumper):
    """Sends the bytes as they are; the cast in the statement gives their type."""

    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        """Return the value, which is in binary form already, as bytes."""
        return bytes(obj)


def encode(table: StoredTable, columns: Columns) -> Iterator[bytes]:
    """The bytes to send after `table.copy_into(…)`, in chunks.

    `columns` by `StoredColumn.source`, equal lengths: integers with the least value of their dtype for null, `uuid` as
    V16 with zeros for null, `text` as S (UTF-8), or as objects of bytes, with no trailing NUL and b"" for null.
    Raises ValueError for a moment outside the range of timestamptz.
    """
    rows = len(columns[table.fields[0].source])
    yield _HEADER
    for start in range(0, rows, _ROWS_MAX):
        end = min(rows, start + _ROWS_MAX)
        yield _encode_rows(table, {field.source: _chunk(columns[field.source][start:end]) for field in table.fields})
    yield _TRAILER


def _chunk(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Texts that are objects as S, as wide as its longest."""
    return values.astype(np.bytes_) if values.dtype == np.object_ else values


def encode_arrays(table: StoredTable, columns: Columns) -> list[BinaryArray]:
    """The parameters of `table.given`: `columns` as in `encode`, at least one row. Raises ValueError as it does."""
    arrays: dict[str, BinaryArray] = {}
    alike: dict[tuple[np.dtype[Any], int], list[tuple[StoredColumn, NDArray[Any]]]] = {}
    for field in table.fields:
        values = _chunk(columns[field.source])
        if field.type in ("text", "uuid"):
            arrays[field.name] = _encode_array(field, values)
        else:
            alike.setdefault((values.dtype, _WIDTH[field.type]), []).append((field, values))
    for (_, width), group in alike.items():
        arrays |= _encode_integers(group, width)
    return [arrays[field.name] for field in table.fields]


def _encode_array(field: StoredColumn, values: NDArray[np.generic]) -> BinaryArray:
    if field.nullable and not np.count_nonzero(np.ascontiguousarray(values).view(np.uint8)):
        return _array(field, len(values), _NULL * len(values), nulls=True)
    cells = _cells(field, values)
    return _array(field, len(values), _joined_cells(len(values), [cells]), nulls=cells.nulls)


def _array(field: StoredColumn, rows: int, cells: bytes, *, nulls: bool) -> BinaryArray:
    return BinaryArray(_ARRAY_HEADER.pack(1, nulls, _OID[field.type], rows, 1) + cells)


def _encode_integers(group: list[tuple[StoredColumn, NDArray[Any]]], width: int) -> dict[str, BinaryArray]:
    """Arrays of columns of one dtype and width, by name. All at once: a session has thirty such columns and a flush of
    a sparse fleet a few of them, so that a dozen numpy calls by column would take longer than the transaction."""
    rows = len(group[0][1])
    matrix = np.array([values for _, values in group])  # (columns, rows)
    absent = matrix == np.iinfo(matrix.dtype).min
    nulls = np.count_nonzero(absent, axis=1).tolist()
    cells = np.empty(matrix.shape, [("length", ">i4"), ("value", f">i{width}")])
    cells["length"] = width
    arrays = {}
    for place, (field, _) in enumerate(group):
        missing = nulls[place] if field.nullable else 0
        if missing == rows:
            arrays[field.name] = _array(field, rows, _NULL * rows, nulls=True)
            continue
        values, mine = matrix[place], cells[place]
        if field.type == "timestamptz":
            values = _moments(field, values, absent[place] if missing else None)
        mine["value"] = values
        if missing:
            mine["length"][absent[place]] = -1
            kept = np.ones((rows, mine.itemsize), np.bool_)
            kept[:, -width:] = ~absent[place][:, np.newaxis]
            mine = mine.view(np.uint8).reshape(kept.shape)[kept]
        arrays[field.name] = _array(field, rows, mine.tobytes(), nulls=missing > 0)
    return arrays


def _encode_rows(table: StoredTable, columns: Columns) -> bytes:
    rows = len(columns[table.fields[0].source])
    return _joined_cells(rows, [_cells(field, columns[field.source]) for field in table.fields], len(table.fields))


@dataclass(frozen=True, slots=True)
class _Cells:
    """A column as it is sent: of each row a length, then so many bytes of value."""

    name: str
    lengths: NDArray[np.int32] | int  # -1: null
    kind: str  # of the values, as numpy names it
    values: NDArray[np.generic] | None  # None: null in every row
    absent: NDArray[np.bool_] | None  # (rows, width) the bytes of values that are not sent; None: all are

    @property
    def nulls(self) -> bool:
        """Whether any cell is null."""
        return self.values is None or self.absent is not None


def _cells(field: StoredColumn, values: NDArray[np.generic]) -> _Cells:
    width = values.dtype.itemsize if field.type == "text" else _WIDTH[field.type]
    kind = f"V{width}" if field.type in ("text", "uuid") else f">i{width}"
    lengths, absent = _lengths(field, values, width)
    if absent is not None and absent.all():
        return _Cells(field.name, -1, kind, None, None)
    return _Cells(field.name, lengths, kind, _wire_values(field, values), absent)


def _joined_cells(rows: int, columns: list[_Cells], fields: int | None = None) -> bytes:
    """Every row at full width (before its cells their number, if given), then without what is absent."""
    parts = [] if fields is None else [("fields", ">i2")]
    for cells in columns:
        parts.append((f"{cells.name} length", ">i4"))
        if cells.values is not None:
            parts.append((f"{cells.name} value", cells.kind))
    layout = np.dtype(parts)
    out = np.empty(rows, layout)
    if fields is not None:
        out["fields"] = fields
    kept = None
    for cells in columns:
        out[f"{cells.name} length"] = cells.lengths
        if cells.values is not None:
            out[f"{cells.name} value"] = cells.values
        if cells.absent is not None:
            if kept is None:
                kept = np.ones((rows, layout.itemsize), np.bool_)
            start = int(layout.fields[f"{cells.name} value"][1])  # type: ignore[index]  # has fields
            kept[:, start : start + cells.absent.shape[1]] = ~cells.absent
    if kept is None:
        return out.tobytes()
    return out.view(np.uint8).reshape(rows, -1)[kept].tobytes()


def _wire_values(field: StoredColumn, values: NDArray[np.generic]) -> NDArray[np.generic]:
    if field.type == "text":
        return values.view(f"V{values.dtype.itemsize}")
    if field.type != "timestamptz":
        return values
    moments: NDArray[np.int64] = values.astype(np.int64, copy=False)
    return _moments(field, moments, moments == np.iinfo(np.int64).min if field.nullable else None)


def _moments(field: StoredColumn, moments_ms: NDArray[np.int64], absent: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Microseconds since 2000; of those that are absent, anything."""
    present = moments_ms if absent is None else moments_ms[~absent]
    if len(present) and (present.max() > _TS_MS_MAX or present.min() < -_TS_MS_MAX):
        raise ValueError(f"{field.name}: a moment beyond what PostgreSQL can store")
    microseconds: NDArray[np.int64] = (moments_ms - _EPOCH_2000_MS) * 1_000
    return microseconds


def _lengths(
    field: StoredColumn, values: NDArray[np.generic], width: int
) -> tuple[NDArray[np.int32] | int, NDArray[np.bool_] | None]:
    """The length word of every row (-1: null), and the bytes of the value that are not sent (None: all are)."""
    if field.type == "text":
        used = np.char.str_len(np.asarray(values, np.bytes_))
        return np.where(used == 0, -1, used).astype(np.int32), np.arange(width) >= used[:, np.newaxis]
    if not field.nullable:
        return width, None
    if field.type == "uuid":
        octets = np.ascontiguousarray(values).view(np.uint8).reshape(-1, width)
        null: NDArray[np.bool_] = (octets == 0).all(axis=1)
    else:
        null = np.equal(values, np.iinfo(values.dtype.type).min)  # type: ignore[type-var]  # the others are integers
    if not null.any():
        return width, None
    return np.where(null, -1, width).astype(np.int32), np.broadcast_to(null[:, np.newaxis], (len(values), width))
