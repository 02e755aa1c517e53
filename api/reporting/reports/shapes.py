"""The shape of a table as it is stored with its report, so that a report of last year is read as it was made. Pure."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from api.reporting.tables import Column, ColumnType, Table, TableShape


def stored_shape(table: Table) -> dict[str, Any]:
    """The shape and the number of rows, as JSON."""
    return {**asdict(table.shape), "rows": table.rows}


def shape_of(stored: Mapping[str, Any]) -> TableShape:
    """The shape again."""
    columns = tuple(Column(**{**column, "type": ColumnType(column["type"])}) for column in stored["columns"])
    return TableShape(stored["name"], stored["title"], columns, stored["description"])
