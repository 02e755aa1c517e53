"""A table of a report as CSV and as Parquet, part by part. Pure: the same table gives the same bytes."""

import csv
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO, StringIO
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from api.reporting.tables import DECIMALS, Column, ColumnType, TableShape, Values, decimal_text, rows_of
from kit.clock import format_rfc3339
from kit.spreadsheets import as_text

_ARROW: Final[Mapping[ColumnType, Any]] = {
    ColumnType.TEXT: pa.string(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.THOUSANDTHS: pa.decimal128(19, 3),
    ColumnType.MICROS: pa.decimal128(19, 6),
    ColumnType.MOMENT: pa.timestamp("ms", tz="UTC"),
}
_DIGITS: Final = 19  # of a 64-bit integer


def text_of(column: Column) -> Callable[[Any], str]:
    """How a value of the column is written, for CSV and paper; None is empty."""
    if column.type in DECIMALS:
        decimals = DECIMALS[column.type]
        return lambda value: "" if value is None else decimal_text(value, decimals)
    if column.type is ColumnType.MOMENT:
        return lambda value: "" if value is None else format_rfc3339(value)
    if column.type is ColumnType.BOOLEAN:
        return lambda value: "" if value is None else str(value).lower()
    return lambda value: "" if value is None else str(value)


def csv_header(shape: TableShape, about: Mapping[str, str]) -> bytes:
    """Lines of `#` that say what the table is, and the names of its columns."""
    lines = StringIO()
    for name, value in about.items():
        lines.write(f"# {name}: {' '.join(value.split())}\r\n")
    csv.writer(lines).writerow(column.name for column in shape.columns)
    return lines.getvalue().encode()


def csv_rows(shape: TableShape, columns: Sequence[Values]) -> bytes:
    """A part of the table's rows, RFC 4180. Text that a spreadsheet would compute is preceded by an apostrophe."""
    texts = [text_of(column) for column in shape.columns]
    guarded = [column.type is ColumnType.TEXT for column in shape.columns]
    lines = StringIO()
    writer = csv.writer(lines)
    for row in rows_of(columns):
        cells = [write(value) for write, value in zip(texts, row, strict=True)]
        writer.writerow(as_text(cell) if guard else cell for guard, cell in zip(guarded, cells, strict=True))
    return lines.getvalue().encode()


class ParquetFile:
    """A Parquet file that grows part by part; the report's facts are in its metadata."""

    def __init__(self, shape: TableShape, about: Mapping[str, str]) -> None:
        fields = [pa.field(column.name, _ARROW[column.type]) for column in shape.columns]
        self._schema = pa.schema(fields, {name.encode(): value.encode() for name, value in about.items()})
        self._shape = shape
        self._sink = BytesIO()
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")

    def write(self, columns: Sequence[Values]) -> None:
        """A part of the table's rows."""
        arrays = [_array(column, values) for column, values in zip(self._shape.columns, columns, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def finish(self) -> bytes:
        """The file."""
        self._writer.close()
        return self._sink.getvalue()


def _array(column: Column, values: Values) -> Any:
    if column.type not in DECIMALS:
        return pa.array(values, _ARROW[column.type])
    # 1234 thousandths are the decimal 1.234: the same integer, read with another scale.
    whole = pa.array(values, pa.int64()).cast(pa.decimal128(_DIGITS, 0))
    return pa.Array.from_buffers(pa.decimal128(_DIGITS, DECIMALS[column.type]), len(whole), whole.buffers())
