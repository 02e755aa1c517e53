"""The tables of a report, in columns. Pure.

A value is None, text, a boolean, an integer, an integer of thousandths, or a moment in epoch milliseconds; which one,
its column says. So a report is the same in every format, and no float rounds a figure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

Values = list[Any]


class ColumnType(StrEnum):
    """Of a column's values. Names are stored and published: never rename."""

    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    THOUSANDTHS = "thousandths"  # printed with three decimals
    MICROS = "micros"  # printed with six decimals
    MOMENT = "moment"  # RFC 3339, UTC


DECIMALS: Final = {ColumnType.THOUSANDTHS: 3, ColumnType.MICROS: 6}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name ends in its unit."""

    name: str
    type: ColumnType
    heading: str  # on paper
    width_mm: int = 0  # on paper; 0: it is left out there
    description: str = ""


@dataclass(frozen=True, slots=True)
class TableShape:
    """What a table is, without its rows."""

    name: str
    title: str
    columns: tuple[Column, ...]
    description: str = ""

    def column(self, name: str) -> int:
        """The place of a column."""
        return next(place for place, column in enumerate(self.columns) if column.name == name)


@dataclass(slots=True)
class Table:
    """A table that grows row by row."""

    shape: TableShape
    columns: list[Values] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = self.columns or [[] for _ in self.shape.columns]

    def add(self, *values: Any) -> None:
        """A row."""
        for column, value in zip(self.columns, values, strict=True):
            column.append(value)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.columns[0])


def stored_shape(table: Table) -> dict[str, Any]:
    """The shape and the number of rows, as JSON: a report of last year is read by it as it was made."""
    return {**asdict(table.shape), "rows": table.rows}


def shape_of(stored: Mapping[str, Any]) -> TableShape:
    """The shape again."""
    columns = tuple(Column(**{**column, "type": ColumnType(column["type"])}) for column in stored["columns"])
    return TableShape(stored["name"], stored["title"], columns, stored["description"])


def parts(table: Table, rows_max: int) -> Iterator[list[Values]]:
    """The table's columns in parts of at most so many rows, in order."""
    for start in range(0, table.rows, rows_max):
        yield [column[start : start + rows_max] for column in table.columns]


def decimal_text(value: int, decimals: int) -> str:
    """An integer of the last decimal's unit: 1234 of three is 1.234."""
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), 10**decimals)
    return f"{sign}{whole}.{rest:0{decimals}d}"


def rows_of(columns: Sequence[Values]) -> Iterator[tuple[Any, ...]]:
    """Row by row."""
    return zip(*columns, strict=True)
