"""Renders a report as PDF/A-3. Pure: the same report gives the same bytes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from api.reporting.reports.renderings import text_of
from api.reporting.tables import Column, ColumnType, TableShape, Values, rows_of
from kit.printing.paper import WIDTH_MM, Paper, document_metadata

ROWS_MAX: Final = 500  # of a table: ~12 pages, ~1 s; the whole of it is in CSV and Parquet
_NUMBERS: Final = frozenset({ColumnType.INTEGER, ColumnType.THOUSANDTHS, ColumnType.MICROS})
_MINUTE_CHARS: Final = 16  # of a moment on paper: 2026-01-31 23:59
CREATOR: Final = "voltstream"


def render_pdf(
    title: str,
    about: Mapping[str, str],
    definition: str,
    tables: Sequence[tuple[TableShape, int, Sequence[Values]]],
    computed_at: datetime,
) -> bytes:
    """The PDF. Each table with its number of rows and the columns of its first ROWS_MAX rows."""
    paper = Paper(title, computed_at)
    paper.text(title, 18, bold=True)
    paper.space(3)
    paper.facts([(label, value) for label, value in about.items() if value != title])
    paper.space(2)
    paper.text(definition, 8.5, grey=True)
    for shape, rows, columns in tables:
        paper.space(5)
        _add_table(paper, shape, rows, columns)
    return paper.finish(None, document_metadata(title, CREATOR, computed_at))


def _add_table(paper: Paper, shape: TableShape, rows: int, columns: Sequence[Values]) -> None:
    paper.heading(shape.title, 12)
    if shape.description:
        paper.text(shape.description, 8.5, grey=True)
    paper.space(1.5)
    if not rows:
        paper.text("None.", 9)
        return
    shown = [(column, values) for column, values in zip(shape.columns, columns, strict=True) if column.width_mm]
    headings = [column.heading for column, _ in shown]
    aligned = [_alignment(column) for column, _ in shown]
    widths = _fitted([column.width_mm for column, _ in shown])
    texts = [_text_of(column) for column, _ in shown]
    body = [
        [write(value) for write, value in zip(texts, row, strict=True)]
        for row in rows_of([values for _, values in shown])
    ]
    paper.table(headings, body, aligned, widths)
    if rows > len(body):
        paper.text(f"The first {len(body)} of {rows} rows; all of them are in CSV and Parquet.", 8.5, grey=True)


def _text_of(column: Column) -> Any:
    """As in CSV, but for moments, which are in minutes, booleans, which are words, and thousands, which are apart."""
    write = text_of(column)
    if column.type in _NUMBERS and not column.name.endswith("_id"):
        return lambda value: _thousands_apart(write(value))
    if column.type is ColumnType.MOMENT:
        return lambda value: write(value)[:_MINUTE_CHARS].replace("T", " ")
    if column.type is ColumnType.BOOLEAN:
        return lambda value: "" if value is None else ("yes" if value else "no")
    return write


def _thousands_apart(number: str) -> str:
    """1234.500 as 1,234.500"""
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole.lstrip("-") and whole != "-0" else number


def _alignment(column: Column) -> str:
    """Numbers by their last digit, but for those that are names."""
    if column.type is ColumnType.BOOLEAN:
        return "C"
    return "R" if column.type in _NUMBERS and not column.name.endswith("_id") else "L"


def _fitted(widths: Sequence[int]) -> list[float]:
    """The widths, together as wide as the page."""
    total = sum(widths)
    return [width * WIDTH_MM / total for width in widths]
