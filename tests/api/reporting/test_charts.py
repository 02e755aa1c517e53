"""Heat maps are read in black and white and by the colour-blind, say what they show, and are the same each time."""

import itertools
from dataclasses import replace
from io import BytesIO
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from api.reporting.charts.fonts import text_width
from api.reporting.charts.heat_map import COLUMNS_MAX, ROWS_MAX, HeatMap, picture_of
from api.reporting.charts.png import SCALE, to_png
from api.reporting.charts.ramp import Colour, colour_at, contrast, luminance, text_colour
from api.reporting.charts.shapes import Line, Rectangle, Text
from api.reporting.charts.svg import to_svg

SVG = "{http://www.w3.org/2000/svg}"
WEEK = HeatMap(
    title="Energy by hour of the week",
    unit="kWh",
    row_labels=["Mon", "Tue"],
    column_labels=["00", "01", "02"],
    values=[[0.0, 12.5, 80.0], [None, 3.0, 40.0]],
    notes=["From 2026-03-01 to 2026-03-31 (UTC)", "Computed 2026-04-01T00:00:00Z"],
)


def test_the_ramp_only_gets_darker() -> None:
    """So it is one sequence in grey, and whatever colours an eye cannot tell apart."""
    steps = [luminance(colour_at(place / 1_000)) for place in range(1_001)]
    assert all(one >= following for one, following in itertools.pairwise(steps))
    assert len(set(steps[::10])) == 101
    assert steps[0] > 0.9
    assert steps[-1] < 0.03
    assert colour_at(-1) == colour_at(0)
    assert colour_at(2) == colour_at(1)


def test_neighbouring_tenths_differ_in_grey() -> None:
    def lightness(share: float) -> float:
        return 116 * float(luminance(colour_at(share)) ** (1 / 3)) - 16

    steps = [lightness(place / 10) - lightness((place + 1) / 10) for place in range(10)]
    assert min(steps) > 4  # of 100; a photocopy shows 2


@given(st.builds(Colour, *(st.integers(0, 255),) * 3))
def test_a_value_is_read_on_any_colour(fill: Colour) -> None:
    assert contrast(text_colour(fill), fill) >= 4.5  # WCAG AA
    assert 1 <= contrast(fill, text_colour(fill)) <= 21


def test_every_value_stands_in_its_cell_and_nothing_is_not_none() -> None:
    picture = picture_of(WEEK, text_width)
    texts = [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    for expected in ("0.0", "12.5", "80.0", "3.0", "40.0", "80 kWh", "no data", "Mon", "02", WEEK.title, *WEEK.notes):
        assert expected in texts
    assert "None" not in texts
    assert any(isinstance(shape, Line) for shape in picture.shapes)
    assert picture.description.startswith(
        "Heat map, 2 rows, 3 columns, in kWh. Most: 80.0 at Mon 02. Least: 0.0 at Mon"
    )


@example([[1e-323, *[None] * 23]], "tiny")
@given(
    st.lists(st.lists(st.none() | st.floats(-1e12, 1e12), min_size=24, max_size=24), min_size=1, max_size=7),
    st.text(max_size=60),
)
def test_any_values_make_a_picture_within_its_frame(values: list[list[float | None]], title: str) -> None:
    chart = HeatMap(
        title, "Wh", [f"row {n} {title}" for n in range(len(values))], [f"{n:02}" for n in range(24)], values, []
    )
    picture = picture_of(chart, text_width)
    for shape in picture.shapes:
        if isinstance(shape, Rectangle):
            assert 0 <= shape.x <= shape.x + shape.width <= picture.width
            assert 0 <= shape.y <= shape.y + shape.height <= picture.height
        elif isinstance(shape, Text):
            width = text_width(shape.text, shape.size, shape.bold)
            left = shape.x - {"start": 0, "middle": width / 2, "end": width}[shape.anchor]
            assert left >= -0.5
            assert left + width <= picture.width + 0.5
    assert ElementTree.fromstring(to_svg(picture)).tag == f"{SVG}svg"  # noqa: S314 - our own


def test_a_larger_value_is_darker() -> None:
    chart = HeatMap("t", "u", ["r"], [str(n) for n in range(20)], [[float(n) for n in range(20)]], [])
    cells = [one for one in picture_of(chart, text_width).shapes if isinstance(one, Rectangle) and one.height > 20]
    assert len(cells) == 20
    shades = [luminance(cell.fill) for cell in cells]
    assert shades == sorted(shades, reverse=True)
    assert len(set(shades)) == 20


def test_svg_and_png_are_the_same_picture_every_time() -> None:
    picture = picture_of(WEEK, text_width)
    assert to_svg(picture) == to_svg(picture_of(WEEK, text_width))
    assert to_png(picture) == to_png(picture)
    root = ElementTree.fromstring(to_svg(picture))  # noqa: S314 - our own
    assert root.findtext(f"{SVG}title") == WEEK.title
    assert root.findtext(f"{SVG}desc") == picture.description
    with Image.open(BytesIO(to_png(picture))) as image:
        assert image.size == (picture.width * SCALE, picture.height * SCALE)
        assert image.info["Title"] == WEEK.title


def test_text_is_escaped() -> None:
    chart = HeatMap("<script>&\x00", "u", ['"r"'], ["c"], [[1.0]], [])
    root = ElementTree.fromstring(to_svg(picture_of(chart, text_width)))  # noqa: S314 - our own
    assert root.findtext(f"{SVG}title") == "<script>&?"


@pytest.mark.parametrize(
    ("rows", "columns", "values"),
    [
        ([], ["c"], []),
        (["r"] * (ROWS_MAX + 1), ["c"], [[1.0]] * (ROWS_MAX + 1)),
        (["r"], ["c"] * (COLUMNS_MAX + 1), [[1.0] * (COLUMNS_MAX + 1)]),
        (["r"], ["c"], [[1.0, 2.0]]),
        (["r"], ["c"], [[float("-inf")]]),
        (["r"], ["c"], [[float("nan")]]),
    ],
)
def test_what_is_no_heat_map_is_refused(rows: list[str], columns: list[str], values: list[list[float | None]]) -> None:
    with pytest.raises(ValueError, match="heat map"):
        HeatMap("t", "u", rows, columns, values, [])


def test_what_is_below_0_is_not_on_the_ramp_and_the_legend_says_so() -> None:
    chart = HeatMap("Revenue", "EUR", ["Mon"], ["00", "01", "02"], [[20.0, -5.0, None]], [])
    picture = picture_of(chart, text_width)
    texts = [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    assert {"20", "-5", "below 0", "no data"} <= set(texts)
    assert "Least: -5 at Mon 01" in picture.description
    above = picture_of(replace(chart, values=[[20.0, 5.0, 0.0]]), text_width)
    assert "below 0" not in [shape.text for shape in above.shapes if isinstance(shape, Text)]
