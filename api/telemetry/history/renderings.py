"""A history as columns of stored values, and its three renderings: JSON, CSV and an Arrow IPC stream.

All three come from the same columns, so they cannot disagree. Thousandths are exact in each: a double prints the
shortest decimal that is nearest to it, which for k / 1000 with |k| < 2**43 * 1000 is that decimal; Arrow has decimals.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from io import StringIO
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from kit.clock import format_rfc3339, to_ms
from kit.spreadsheets import as_text

JSON: Final = "application/json"
CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"
FORMATS: Final = (JSON, CSV, ARROW)


class Kind(Enum):
    """Type of a column's stored values, which decides how they are rendered. Every value may be None."""

    INTEGER = auto()
    THOUSANDTHS = auto()  # int, rendered as its thousandth part
    MOMENT = auto()  # aware datetime
    TEXT = auto()
    NAMES = auto()  # list of str; in CSV joined by blanks


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """Columns in order, each as long as the others."""

    kinds: Mapping[str, Kind]
    columns: Sequence[Sequence[Any]]

    def __post_init__(self) -> None:
        if len(self.kinds) != len(self.columns) or len({len(column) for column in self.columns}) > 1:
            raise ValueError("every column needs a kind, and all the same length")


def to_rows(table: ColumnTable) -> list[msgspec.Struct]:
    """The rows as JSON has them: thousandths as numbers, moments as RFC 3339 with milliseconds."""
    row_of = _row_type(tuple(table.kinds))
    plain = [_PLAIN[kind](column) for kind, column in zip(table.kinds.values(), table.columns, strict=True)]
    return list(map(row_of, *plain))


def to_csv(table: ColumnTable) -> bytes:
    """RFC 4180 with a header line; null is an empty field. Numbers and moments as in JSON, texts `as_text`: a device
    chooses some of them."""
    plain = [_PLAIN[kind](column) for kind, column in zip(table.kinds.values(), table.columns, strict=True)]
    for at, kind in enumerate(table.kinds.values()):
        if kind is Kind.NAMES:
            plain[at] = [None if names is None else " ".join(names) for names in plain[at]]
        if kind in (Kind.NAMES, Kind.TEXT):
            plain[at] = [None if text is None else as_text(text) for text in plain[at]]
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table.kinds)
    writer.writerows(zip(*plain, strict=True))
    return text.getvalue().encode()


def to_arrow(table: ColumnTable) -> bytes:
    """An Arrow IPC stream of one batch: thousandths as decimal128(19, 3), moments as timestamp[ms, UTC]."""
    arrays = [_ARRAY[kind](column) for kind, column in zip(table.kinds.values(), table.columns, strict=True)]
    batch = pa.record_batch(arrays, names=list(table.kinds))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


@cache  # one for each set of columns, of which there are three
def _row_type(names: tuple[str, ...]) -> Callable[..., msgspec.Struct]:
    """Structs are made and encoded twice as fast as dicts."""
    return msgspec.defstruct("Row", [(name, Any) for name in names])


def _same(column: Sequence[Any]) -> list[Any]:
    return list(column)


def _thousandths(column: Sequence[int | None]) -> list[float | None]:
    return [None if value is None else value / 1000 for value in column]


def _moments(column: Sequence[Any]) -> list[str | None]:
    return [None if value is None else format_rfc3339(value) for value in column]


def _decimals(column: Sequence[int | None]) -> pa.Array:
    """The integers reread as decimals of scale 3: 128 bits, little endian, the upper half is the sign."""
    integers = pa.array(column, pa.int64())
    if not len(integers):
        return pa.array([], pa.decimal128(19, 3))
    validity, data = integers.buffers()
    halves = np.empty((len(integers), 2), dtype=np.int64)
    halves[:, 0] = np.frombuffer(data, dtype=np.int64, count=len(integers))
    halves[:, 1] = halves[:, 0] >> 63
    return pa.Array.from_buffers(pa.decimal128(19, 3), len(integers), [validity, pa.py_buffer(halves)])


def _timestamps(column: Sequence[Any]) -> pa.Array:
    return pa.array([None if value is None else to_ms(value) for value in column], pa.timestamp("ms", "UTC"))


_PLAIN: Final[Mapping[Kind, Callable[[Sequence[Any]], list[Any]]]] = {
    Kind.INTEGER: _same,
    Kind.THOUSANDTHS: _thousandths,
    Kind.MOMENT: _moments,
    Kind.TEXT: _same,
    Kind.NAMES: _same,
}
_ARRAY: Final[Mapping[Kind, Callable[[Sequence[Any]], pa.Array]]] = {
    Kind.INTEGER: lambda column: pa.array(column, pa.int64()),
    Kind.THOUSANDTHS: _decimals,
    Kind.MOMENT: _timestamps,
    Kind.TEXT: lambda column: pa.array(column, pa.string()),
    Kind.NAMES: lambda column: pa.array(column, pa.list_(pa.string())),
}
