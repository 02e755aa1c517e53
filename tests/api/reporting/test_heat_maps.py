"""Heat maps of metrics equal a plain gathering of their hours."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from api.reporting.analytics.figures import Sums, add_up
from api.reporting.analytics.metrics import METRICS, Metric
from api.reporting.analytics.models import Figure
from api.reporting.charts import examples
from api.reporting.charts.heat_map import ROWS_MAX
from api.reporting.charts.hours import (
    Cell,
    by_hour_of_week,
    by_site_and_hour,
    hours_of_week,
    site_and_hour_of_day,
    site_and_hour_of_week,
)
from api.reporting.charts.models import HeatMapPage
from tests.api.reporting.reports_app import Reporting, running_reporting

START = datetime(2026, 3, 27, tzinfo=UTC)  # a clock is set forward in it
HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")
PATH = "/api/v1/analytics/energy_delivered/heat-map"


@pytest.fixture
async def plain(database_url: str) -> AsyncIterator[Reporting]:
    async with running_reporting(database_url) as running:
        yield running


def figure(metric: str, hour: int, sums: tuple[int, ...], group: str | None = None) -> Figure:
    start = START + hour * HOUR
    named = dict(zip(METRICS[metric].sum_names, sums, strict=True))
    return Figure(group=group, start=start, end=start + HOUR, currency=None, value=None, sums=named)


def added(metric: str, figures: list[Figure], key: Callable[[Figure], Cell]) -> tuple[Metric, dict[Cell, Sums]]:
    sums: dict[Cell, Sums] = {}
    add_up(METRICS[metric], sums, figures, key)
    return METRICS[metric], sums


some_hours = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 10**9), st.integers(1, 10**9)),
    max_size=60,
    unique_by=lambda one: one[0],
)


@given(some_hours)
def test_an_hour_of_the_week_is_the_mean_of_all_such_hours(rows: list[tuple[int, int, int]]) -> None:
    moments = [START + hour * HOUR for hour in range(401)]
    counts = hours_of_week(moments, BERLIN)
    assert sum(counts) == 401
    energy = [figure("energy_delivered", hour, (value, 0)) for hour, value, _ in rows]
    shares = [figure("occupancy", hour, (value, known)) for hour, value, known in rows]
    sums = by_hour_of_week(*added("energy_delivered", energy, site_and_hour_of_week(BERLIN)), counts)
    quotients = by_hour_of_week(*added("occupancy", shares, site_and_hour_of_week(BERLIN)), counts)
    for day in range(7):
        for hour in range(24):
            such = [
                one for one in moments if (one.astimezone(BERLIN).weekday(), one.astimezone(BERLIN).hour) == (day, hour)
            ]
            own = [row for row in rows if START + row[0] * HOUR in such]
            mean = sum(value for _, value, _ in own) / 1_000 / len(such) if such else None
            assert sums[day][hour] == pytest.approx(mean)
            known = sum(known for _, _, known in own)
            assert quotients[day][hour] == (sum(value for _, value, _ in own) / known if known else None)


def test_sites_with_the_most_are_shown_by_name() -> None:
    figures = [figure("sessions", 8, (number,), f"S{number:03}") for number in range(1, ROWS_MAX + 3)]
    figures += [figure("sessions", 9, (5_000,), None)]
    names, values, left_out = by_site_and_hour(
        *added("sessions", figures, site_and_hour_of_day(ZoneInfo("UTC"))), [1] * 24
    )
    assert left_out == 3
    assert names == ["(no site)", *(f"S{number:03}" for number in range(4, ROWS_MAX + 3))]
    assert values[0][9] == 5_000
    assert values[1][8] == 4
    assert values[1][7] == 0


async def test_a_heat_map_is_given_as_json_svg_and_png(plain: Reporting) -> None:
    query = {"from": "2026-03-01", "to": "2026-04-01", "timezone": "Europe/Berlin"}
    page = HeatMapPage.model_validate(await plain.ask("GET", PATH, params=query))
    assert (len(page.values), len(page.values[0]), page.rows[0]) == (7, 24, "Mon")
    assert page.values[0][0] == 0.0
    assert page.unit == "kWh"
    svg = await plain.answer("GET", PATH, params=query, headers={"Accept": "image/svg+xml"})
    assert svg.headers["content-type"].startswith("image/svg+xml")
    text = ElementTree.fromstring(svg.text)  # noqa: S314 - our own
    assert "Energy delivered by hour of the week" in "".join(text.itertext())
    assert "Computed 2026-04-02T08:00:00.000Z" in "".join(text.itertext())
    png = await plain.answer("GET", PATH, params={**query, "format": "png", "shape": "sites"})
    with Image.open(BytesIO(png.content)) as image:
        assert image.format == "PNG"


REFUSED = [
    (PATH, {"from": "2026-03-01", "to": "2026-03-01"}, 422, "before to"),
    (PATH, {"from": "2026-05-01", "to": "2026-06-01"}, 422, "not in the future"),
    (PATH, {"from": "2025-03-01", "to": "2026-03-01"}, 422, "at most 2208"),
    (PATH, {"from": "2026-03-01", "to": "2026-03-02", "timezone": "Mars/Olympus"}, 422, "timezone"),
    (PATH, {"from": "2026-03-01", "to": "2026-03-02", "format": "gif"}, 422, "format"),
    ("/api/v1/analytics/revenue/heat-map", {"from": "2026-03-01", "to": "2026-03-02"}, 422, "several currencies"),
    ("/api/v1/analytics/energie/heat-map", {"from": "2026-03-01", "to": "2026-03-02"}, 404, "no metric"),
]


async def test_what_is_no_picture_is_refused_with_the_mend(plain: Reporting) -> None:
    for path, query, status, why in REFUSED:
        assert why in (await plain.answer("GET", path, status, params=query)).text


def test_the_example_is_what_the_model_says() -> None:
    HeatMapPage.model_validate(examples.HEAT_MAP)
