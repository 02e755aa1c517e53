"""Lays out a heat map: a grid of values by row and column, with its scale, its source and its moment. Pure.

Where a cell has room, its value stands in it. A cell without a value is hatched, so that nothing is not taken for none.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from api.reporting.charts.ramp import BLACK, GREY, PALE, WHITE, colour_at, text_colour
from api.reporting.charts.shapes import Line, Picture, Rectangle, Text

ROWS_MAX: Final = 60  # 1,900 px high; more than a screen is a table
COLUMNS_MAX: Final = 48
LABEL_CHARS_MAX: Final = 28

_MARGIN: Final = 20
_CELL_WIDTH: Final = 38
_CELL_HEIGHT: Final = 26
_GAP: Final = 1  # white between cells: neighbours of almost one colour stay two cells
_TITLE: Final = 17.0
_TEXT: Final = 11.0
_VALUE: Final = 10.0
_LEGEND_WIDTH: Final = 240
_LEGEND_HEIGHT: Final = 12
_LEGEND_STEPS: Final = 60
_HATCH: Final = 6

_SWATCH_WIDTH: Final = 92  # with its words
_LEAST: Final = 1e-9  # no metric has values between this and 0
# From which largest value on: divided by what, and the letter behind the number.
_UNITS: Final = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))

# Width of a text of a size, bold or not, in the same units.
Measure = Callable[[str, float, bool], float]


@dataclass(frozen=True)
class HeatMap:
    """The values; None where nothing is known."""

    title: str
    unit: str
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    values: Sequence[Sequence[float | None]]  # by row, then column
    notes: Sequence[str]  # from when to when, from what, computed when, what is left out

    def __post_init__(self) -> None:
        """Raises ValueError for what is no grid or too large for one."""
        rows, columns = len(self.row_labels), len(self.column_labels)
        if not 1 <= rows <= ROWS_MAX or not 1 <= columns <= COLUMNS_MAX:
            raise ValueError(f"a heat map has 1 to {ROWS_MAX} rows and 1 to {COLUMNS_MAX} columns")
        if len(self.values) != rows or any(len(row) != columns for row in self.values):
            raise ValueError("a heat map has a value, or None, for each row and column")
        if any(value is not None and not math.isfinite(value) for row in self.values for value in row):
            raise ValueError("the values of a heat map are finite")


def picture_of(chart: HeatMap, measure: Measure) -> Picture:
    """The heat map, drawn."""
    chart = _printable(chart)
    labels = [_short(label) for label in chart.row_labels]
    scale = _Scale.of(chart)
    left = _MARGIN + max(measure(label, _TEXT, False) for label in labels) + 8
    top = _MARGIN + 84
    width = (
        max(
            left + len(chart.column_labels) * _CELL_WIDTH,
            left + _LEGEND_WIDTH + 120 + _SWATCH_WIDTH + measure(f"{scale.top_text()} {chart.unit}", _TEXT, False),
        )
        + _MARGIN
    )
    width = max(width, _MARGIN * 2 + measure(chart.title, _TITLE, True))
    width = max(width, *(_MARGIN * 2 + measure(note, _TEXT, False) for note in chart.notes), 0)
    bottom = top + len(labels) * _CELL_HEIGHT
    shapes = (
        Text(_MARGIN, _MARGIN + 8, chart.title, _TITLE, BLACK, "start", True),
        *_legend(left, _MARGIN + 36, scale, chart, measure),
        *_labels(chart, labels, left, top),
        *_cells(chart, left, top, scale, measure),
        *(Text(_MARGIN, bottom + 22 + place * 16, note, _TEXT, GREY) for place, note in enumerate(chart.notes)),
    )
    height = bottom + 18 + len(chart.notes) * 16 + _MARGIN / 2
    return Picture(math.ceil(width), math.ceil(height), chart.title, _described(chart, scale), shapes)


@dataclass(frozen=True)
class _Scale:
    """From 0 to the largest value, rounded up to a number that people count with; three digits tell values apart."""

    top: float
    divisor: float
    suffix: str
    digits: int

    @classmethod
    def of(cls, chart: HeatMap) -> "_Scale":
        known = [value for row in chart.values for value in row if value is not None]
        top = _round_up(max(map(abs, known), default=0.0))
        divisor, suffix = next(((by, letter) for least, by, letter in _UNITS if top >= least), (1.0, ""))
        counts = divisor == 1 and all(value == int(value) for value in known)
        digits = 0 if counts else max(0, math.ceil(2 - math.log10(top / divisor)))
        return cls(top, divisor, suffix, digits)

    def text(self, value: float) -> str:
        """For a cell: short."""
        return f"{value / self.divisor:.{self.digits}f}{self.suffix}"

    def top_text(self) -> str:
        """Without zeros that say nothing."""
        return f"{self.top / self.divisor:g}{self.suffix}"


def _round_up(value: float) -> float:
    """To 1, 2, 2.5, 4, 5, 8 or 10 times a power of ten. 1 for nothing, and for what is too little to be drawn."""
    if value < _LEAST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 2, 2.5, 4, 5, 8) if value <= step * power), 10 * power)


def _labels(chart: HeatMap, labels: Sequence[str], left: float, top: float) -> Iterator[Text]:
    for place, label in enumerate(labels):
        yield Text(left - 8, top + (place + 0.5) * _CELL_HEIGHT, label, _TEXT, BLACK, "end")
    for place, label in enumerate(chart.column_labels):
        yield Text(left + (place + 0.5) * _CELL_WIDTH, top - 10, label, _TEXT, BLACK, "middle")


def _cells(
    chart: HeatMap, left: float, top: float, scale: _Scale, measure: Measure
) -> Iterator[Rectangle | Line | Text]:
    for row, values in enumerate(chart.values):
        for column, value in enumerate(values):
            x, y = left + column * _CELL_WIDTH, top + row * _CELL_HEIGHT
            width, height = _CELL_WIDTH - _GAP, _CELL_HEIGHT - _GAP
            if value is None:
                yield from _hatched(x, y, width, height)
                continue
            fill = colour_at(value / scale.top) if value >= 0 else WHITE
            yield Rectangle(x, y, width, height, fill)
            if value < 0:
                yield from _framed(x, y, width, height)
            text = scale.text(value)
            if measure(text, _VALUE, False) <= width - 4:
                yield Text(x + width / 2, y + height / 2, text, _VALUE, text_colour(fill), "middle")


def _hatched(x: float, y: float, width: float, height: float) -> Iterator[Rectangle | Line]:
    """Diagonals, cut to the cell."""
    yield Rectangle(x, y, width, height, WHITE)
    for offset in range(_HATCH, math.ceil(width + height), _HATCH):
        yield Line(
            x + max(0.0, offset - height),
            y + min(offset, height),
            x + min(offset, width),
            y + max(0.0, offset - width),
            PALE,
        )


def _framed(x: float, y: float, width: float, height: float) -> Iterator[Line]:
    """The sides: of the ramp, and of a cell below 0, which is not on it."""
    yield Line(x, y, x + width, y, GREY)
    yield Line(x, y + height, x + width, y + height, GREY)
    yield Line(x, y, x, y + height, GREY)
    yield Line(x + width, y, x + width, y + height, GREY)


def _legend(x: float, y: float, scale: _Scale, chart: HeatMap, measure: Measure) -> Iterator[Rectangle | Line | Text]:
    """The ramp with its ends, and what a framed and a hatched cell mean."""
    step = _LEGEND_WIDTH / _LEGEND_STEPS
    for place in range(_LEGEND_STEPS):
        yield Rectangle(x + place * step, y, step + 0.5, _LEGEND_HEIGHT, colour_at((place + 0.5) / _LEGEND_STEPS))
    yield from _framed(x, y, _LEGEND_WIDTH, _LEGEND_HEIGHT)
    top = f"{scale.top_text()} {chart.unit}"
    yield Text(x + _LEGEND_WIDTH + 8, y + _LEGEND_HEIGHT / 2, top, _TEXT)
    yield Text(x - 8, y + _LEGEND_HEIGHT / 2, "0", _TEXT, BLACK, "end")
    swatch = x + _LEGEND_WIDTH + 8 + measure(top, _TEXT, False) + 32
    if any(value is not None and value < 0 for row in chart.values for value in row):
        yield from _framed(swatch, y, 22, _LEGEND_HEIGHT)
        yield Text(swatch + 28, y + _LEGEND_HEIGHT / 2, "below 0", _TEXT)
        swatch += _SWATCH_WIDTH
    if any(value is None for row in chart.values for value in row):
        yield from _hatched(swatch, y, 22, _LEGEND_HEIGHT)
        yield Text(swatch + 28, y + _LEGEND_HEIGHT / 2, "no data", _TEXT)


def _described(chart: HeatMap, scale: _Scale) -> str:
    """The picture in words: where the largest and the smallest value are."""
    known = [
        (value, f"{chart.row_labels[row]} {chart.column_labels[column]}")
        for row, values in enumerate(chart.values)
        for column, value in enumerate(values)
        if value is not None
    ]
    if not known:
        return f"{chart.title}: no data."
    (least, where_least), (most, where_most) = min(known), max(known)
    size = f"{len(chart.row_labels)} rows, {len(chart.column_labels)} columns"
    return (
        f"Heat map, {size}, in {chart.unit}. Most: {scale.text(most)} at {where_most}. "
        f"Least: {scale.text(least)} at {where_least}. {' '.join(chart.notes)}"
    )


def _printable(chart: HeatMap) -> HeatMap:
    """With question marks for characters that cannot be drawn on one line: names come from outside."""

    def of(text: str) -> str:
        return "".join(one if one.isprintable() else "?" for one in text)

    return replace(
        chart,
        title=of(chart.title),
        unit=of(chart.unit),
        row_labels=[of(label) for label in chart.row_labels],
        column_labels=[of(label) for label in chart.column_labels],
        notes=[of(note) for note in chart.notes],
    )


def _short(label: str) -> str:
    return label if len(label) <= LABEL_CHARS_MAX else f"{label[: LABEL_CHARS_MAX - 1]}…"
