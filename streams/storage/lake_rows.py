"""Rows of a table on their way into the lake and back: read by binary COPY, as Arrow, and summed up to be compared.

A column is an int64 array, with NULL_I64 for null; a moment is in ms since the epoch.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kit.lake.parquet import ROWS_PER_GROUP
from streams.effects import NULL_I64
from streams.storage.connections import Connection
from streams.storage.tables import READING, WINDOW, StoredColumn

I64 = NDArray[np.int64]
_WIDTH: Final = {"int2": 2, "int4": 4, "int8": 8, "timestamptz": 8}
_ARROW: Final = {"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "timestamptz": pa.timestamp("ms", "UTC")}
_EPOCH_2000_MS: Final = 946_684_800_000
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES: Final = 19
_TRAILER: Final = b"\xff\xff"


@dataclass(frozen=True, slots=True)
class LakeTable:
    """A table whose rows are moved, and how their file is laid out."""

    kind: str
    moment: str  # the column by which they are of a day
    columns: tuple[StoredColumn, ...]  # integers and moments, connector_key among them
    text: StoredColumn | None  # one column of texts
    order: str  # SQL: of the rows of a connector
    # By measurement (docs/adr/0022): what rises or repeats by differences, what has few values by a dictionary.
    by_column: dict[str, str]
    dictionary: tuple[str, ...]
    filtered: tuple[str, ...]  # columns by which readers choose rows

    @property
    def schema(self) -> pa.Schema:
        """Of its files: the columns as the table has them, and whose the rows are."""
        fields = [("station_id", pa.string()), ("connector_id", pa.int16())]
        fields += [(column.name, _ARROW[column.type]) for column in self.columns]
        fields += [(self.text.name, pa.string())] if self.text else []
        return pa.schema(fields)

    @property
    def selected(self) -> str:
        """SQL: its columns, without nulls, so that every row is as long as the others; the text, which may be null,
        last."""
        values = [_without_null(column) if column.nullable else f"r.{column.name}" for column in self.columns]
        return ", ".join([*values, f"r.{self.text.name}"] if self.text else values)

    @property
    def sums(self) -> str:
        """SQL: the number of rows; of each column that of its values, and their sum; of the text likewise, in bytes."""
        parts = ["count(*)"]
        for column in self.columns:
            value = f"r.{column.name}"
            if column.type == "timestamptz":
                value = f"(extract(epoch FROM {value}) * 1000)::bigint"
            parts += [f"count(r.{column.name})", f"coalesce(sum({value}), 0)"]
        if self.text:
            parts += [f"count(r.{self.text.name})", f"coalesce(sum(octet_length(r.{self.text.name})), 0)"]
        return ", ".join(parts)


def _without_null(column: StoredColumn) -> str:
    least = "'-infinity'::timestamptz"  # the least integer, as it is sent
    if column.type != "timestamptz":
        least = f"({-(1 << (8 * _WIDTH[column.type] - 1))})::{column.type}"
    return f"coalesce(r.{column.name}, {least})"


READINGS: Final = LakeTable(
    kind="reading",
    moment="ts",
    columns=tuple(column for column in READING.fields if column.type != "text"),
    text=next(column for column in READING.fields if column.type == "text"),
    order="r.ts, r.seq NULLS FIRST, r.part, r.boot NULLS FIRST, r.payload_hash",
    by_column={
        **dict.fromkeys(("ts", "seq", "energy_mwh", "energy_export_mwh", "temperature_mc"), "DELTA_BINARY_PACKED"),
        **dict.fromkeys(("voltage_mv", "soc_mpct", "in_session_mwh", "session_key"), "BYTE_STREAM_SPLIT"),
    },
    dictionary=("station_id",),
    filtered=("connector_key", "ts", "session_key"),
)


WINDOWS: Final = LakeTable(
    kind="window_1m",
    moment="bucket",
    columns=(*WINDOW.fields, StoredColumn("revision", "revision", "int4", nullable=False)),
    text=None,
    order="r.bucket",
    by_column=dict.fromkeys(
        ("bucket", *(field.name for field in WINDOW.fields if field.type == "timestamptz" and field.name != "bucket"),
         "energy_first_mwh", "energy_last_mwh", "energy_export_first_mwh", "energy_export_last_mwh"),
        "DELTA_BINARY_PACKED",
    ),
    dictionary=("station_id",),
    filtered=("connector_key", "bucket"),
)  # fmt: skip


@dataclass(slots=True)
class Rows:
    """Some rows, in order."""

    columns: dict[str, I64]
    texts: list[bytes | None]  # empty where the table has no text

    def __len__(self) -> int:
        return len(self.columns["connector_key"])


def copy_rows(connection: Connection, table: LakeTable, query: str, parameters: dict[str, Any]) -> Iterator[Rows]:
    """The rows of a query for `table.selected`, at most ROWS_PER_GROUP at once."""
    messages: list[bytes] = []
    layout = _layout(table)
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)", parameters) as copy:
        for message in copy:  # one a row
            row = bytes(message)
            if row.startswith(_SIGNATURE):
                row = row[_HEADER_BYTES:]
            if row and row != _TRAILER:
                messages.append(row)
            if len(messages) == ROWS_PER_GROUP:
                yield _decoded(table, layout, messages)
                messages = []
    if messages:
        yield _decoded(table, layout, messages)


def _layout(table: LakeTable) -> np.dtype[Any]:
    parts: list[tuple[str, str]] = [("fields", ">i2")]
    for column in table.columns:
        parts += [(f"{column.name} length", ">i4"), (column.name, f">i{_WIDTH[column.type]}")]
    return np.dtype([*parts, ("text length", ">i4")] if table.text else parts)


def _decoded(table: LakeTable, layout: np.dtype[Any], messages: Sequence[bytes]) -> Rows:
    size = layout.itemsize
    sent = np.frombuffer(b"".join(message[:size] for message in messages), layout)
    columns = {}
    for column in table.columns:
        values = sent[column.name].astype(np.int64)
        null = values == -(1 << (8 * _WIDTH[column.type] - 1))
        if column.type == "timestamptz":
            if (values[~null] % 1_000).any():
                raise ValueError(f"{column.name}: a moment that is not of whole milliseconds")
            values = values // 1_000 + _EPOCH_2000_MS
        columns[column.name] = np.where(null, NULL_I64, values) if column.nullable else values
    texts: list[bytes | None] = []
    if table.text:
        given = (sent["text length"] >= 0).tolist()
        texts = [message[size:] if has else None for message, has in zip(messages, given, strict=True)]
    return Rows(columns, texts)


def to_arrow(table: LakeTable, rows: Rows, connectors: dict[int, tuple[str, int]]) -> pa.Table:
    """The rows as `table.schema` has them. `connectors`: (station_id, connector_id) by key."""
    key = rows.columns["connector_key"]
    keys, place = np.unique(key, return_inverse=True)
    known = [connectors[one] for one in keys.tolist()]
    stations = pa.array([station for station, _ in known], pa.string()).take(pa.array(place))
    numbers = pa.array([number for _, number in known], pa.int16()).take(pa.array(place))
    arrays = [stations, numbers]
    for column in table.columns:
        values = rows.columns[column.name]
        null = values == NULL_I64 if column.nullable else None
        whole = pa.array(values, mask=null) if null is not None and null.any() else pa.array(values)
        arrays.append(whole.cast(_ARROW[column.type]))
    if table.text:
        arrays.append(pa.array([None if text is None else text.decode() for text in rows.texts], pa.string()))
    return pa.table(arrays, schema=table.schema)


def from_arrow(table: LakeTable, found: pa.Table) -> Rows:
    """The rows of a file's table."""
    columns = {}
    for column in table.columns:
        chunked = found.column(column.name).combine_chunks()
        values = chunked.cast(pa.int64())
        columns[column.name] = values.fill_null(NULL_I64).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    texts: list[bytes | None] = []
    if table.text:
        texts = [None if text is None else text.encode() for text in found.column(table.text.name).to_pylist()]
    return Rows(columns, texts)


@dataclass(slots=True)
class Digest:
    """What rows come to, whatever parts they come in: their number, sums, and a hash of all values in order."""

    table: LakeTable
    rows: int = 0
    first_ms: int = np.iinfo(np.int64).max
    last_ms: int = NULL_I64
    first_key: int = np.iinfo(np.int32).max
    last_key: int = -1
    _values: dict[str, int] = field(default_factory=dict)
    _sums: dict[str, int] = field(default_factory=dict)
    _hashes: dict[str, Any] = field(default_factory=dict)

    def add(self, rows: Rows) -> None:
        """Count these, which follow the ones before."""
        self.rows += len(rows)
        for name, values in rows.columns.items():
            self._count(name, _sum(values[values != NULL_I64]), int((values != NULL_I64).sum()), values.tobytes())
        if self.table.text:
            given = [text for text in rows.texts if text is not None]
            octets = b"".join(b"\0" if text is None else b"\1%d:%b" % (len(text), text) for text in rows.texts)
            self._count(self.table.text.name, sum(map(len, given)), len(given), octets)
        moments, keys = rows.columns[self.table.moment], rows.columns["connector_key"]
        self.first_ms, self.last_ms = min(self.first_ms, int(moments.min())), max(self.last_ms, int(moments.max()))
        self.first_key, self.last_key = min(self.first_key, int(keys.min())), max(self.last_key, int(keys.max()))

    def _count(self, name: str, total: int, values: int, octets: bytes) -> None:
        self._sums[name] = self._sums.get(name, 0) + total
        self._values[name] = self._values.get(name, 0) + values
        self._hashes.setdefault(name, hashlib.blake2b(digest_size=32)).update(octets)

    @property
    def sums(self) -> list[int]:
        """As `LakeTable.sums` gives them."""
        found = [self.rows]
        for name in self._sums:
            found += [self._values[name], self._sums[name]]
        return found

    @property
    def content_hash(self) -> bytes:
        """Of all values, column by column."""
        whole = hashlib.blake2b(digest_size=32)
        for name, hashed in self._hashes.items():
            whole.update(name.encode() + hashed.digest())
        return whole.digest()


def _sum(values: I64) -> int:
    """Exact, also where it is beyond 64 bits."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFF_FFFF).sum())
