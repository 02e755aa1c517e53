"""Tables of operations and revenue are sums of what analytics answers, over pages, times and groups."""

import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.reporting.analytics import figures as figures_module
from api.reporting.analytics.figures import (
    FigureQuery,
    FigureReader,
    Key,
    SummedFigures,
    Sums,
    add_up,
    group_and_currency,
    time_and_currency,
)
from api.reporting.analytics.metrics import METRICS
from api.reporting.analytics.models import Analytics, Figure
from api.reporting.analytics.service import AnalyticsQuery, AnalyticsService, description_of
from api.reporting.errors import TooMany
from api.reporting.reports.business_tables import (
    OPERATIONS_COLUMNS,
    REVENUE_METRICS,
    GroupCurrency,
    operations_table,
    revenue_by_time_table,
    revenue_table,
)
from api.reporting.tables import decimal_text, rows_of

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
counts = st.integers(0, 10**12)


def figure(metric: str, day: int, group: str | None, sums: Sequence[int], currency: str | None = None) -> Figure:
    start = START + day * DAY
    named = dict(zip(METRICS[metric].sum_names, sums, strict=True))
    return Figure(group=group, start=start, end=start + DAY, currency=currency, value=None, sums=named)


def added(metric: str, key: Callable[[Figure], Key], *figures: Figure) -> SummedFigures[Key]:
    sums: dict[Key, Sums] = {}
    add_up(METRICS[metric], sums, figures, key)
    return SummedFigures(METRICS[metric], METRICS[metric].source, sums, START, 0)


def of(metric: str, *figures: Figure) -> SummedFigures[GroupCurrency]:
    return added(metric, group_and_currency, *figures)


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([None, "A", "B"]), counts, counts), max_size=20))
def test_operations_are_sums_and_quotients_of_sums_and_the_largest_of_peaks(
    rows: list[tuple[int, str | None, int, int]],
) -> None:
    found: dict[str, SummedFigures[GroupCurrency]] = {}
    for column in OPERATIONS_COLUMNS:
        size = len(METRICS[column.metric].sum_names)
        figures = [figure(column.metric, day, group, (one, two)[:size]) for day, group, one, two in rows]
        found[column.metric] = of(column.metric, *figures)
    table = operations_table(found)
    groups = sorted({group or "" for _, group, _, _ in rows})
    assert table.columns[0] == groups
    for place, group in enumerate(groups):
        own = [row for row in rows if (row[1] or "") == group]
        first, second = sum(row[2] for row in own), sum(row[3] for row in own)
        values = {column.name: table.columns[at][place] for at, column in enumerate(table.shape.columns)}
        assert values["energy_kwh"] == (first + second) // 1_000  # mWh of both shares, in Wh
        assert values["sessions"] == first
        assert values["peak_power_kw"] == max(row[2] for row in own) // 1_000
        assert values["occupied_pct"] == (first * 100_000 // second if second else None)
        assert values["co2e_kg"] == first // 1_000  # mg, in g
        assert values["repair_min_mean"] == (first // (60 * second) if second else None)  # ms, in milliminutes
        assert values["session_s_mean"] == (first // second if second else None)


def test_a_group_without_a_figure_of_a_metric_has_none_of_it() -> None:
    found = {column.metric: of(column.metric) for column in OPERATIONS_COLUMNS}
    found["sessions"] = of("sessions", figure("sessions", 0, "A", (3,)))
    ((*values,),) = rows_of(operations_table(found).columns)
    assert values == ["A", 0, 0, 3, None, None, 0, None, None, None, None]


def test_revenue_is_by_group_and_currency_and_by_time() -> None:
    excl = (
        figure("revenue", 0, "A", (5_000_001,), "EUR"),
        figure("revenue", 1, "A", (-1_000_000,), "EUR"),
        figure("revenue", 1, None, (7,), "CHF"),
    )
    incl = (figure("revenue_incl_vat", 0, "A", (5_950_001,), "EUR"),)
    margin = (
        figure("demand_margin", 0, "A", (300_000, 0), "EUR"),
        figure("demand_margin", 1, "A", (-60_001, 2), "EUR"),
    )
    found = {"revenue": excl, "revenue_incl_vat": incl, "demand_margin": margin}
    groups = revenue_table(*(of(metric, *found[metric]) for metric in REVENUE_METRICS))
    assert list(rows_of(groups.columns)) == [
        ("", "CHF", 7, 0, 0, 0),
        ("A", "EUR", 4_000_001, 5_950_001, 239_999, 2),
    ]
    times = revenue_by_time_table(*(added(metric, time_and_currency, *found[metric]) for metric in REVENUE_METRICS))
    assert [row[1:] for row in rows_of(times.columns)] == [
        ("EUR", 5_000_001, 5_950_001, 300_000, 0),
        ("CHF", 7, 0, 0, 0),
        ("EUR", -1_000_000, 0, -60_001, 2),
    ]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 6))
def test_decimals_are_the_integer_again(value: int, decimals: int) -> None:
    text = decimal_text(value, decimals)
    assert len(text.partition(".")[2]) == decimals
    assert int(text.replace(".", "")) == value
    assert text.startswith("-") == (value < 0)


class Pages:
    """Analytics that has so many pages of one figure each, a day later and a second older each."""

    def __init__(self, pages: int) -> None:
        self._pages = pages
        self._given: list[weakref.ref[Analytics]] = []
        self.in_memory_max = 0

    async def figures(self, query: AnalyticsQuery) -> tuple[Analytics, str | None]:
        self.in_memory_max = max(self.in_memory_max, sum(one() is not None for one in self._given))
        number = int(query.cursor or 0)
        about: dict[str, Any] = {**description_of(METRICS["sessions"]), "from": query.start, "to": query.end}
        page = Analytics(
            **about,
            by=query.by,
            grouping=query.grouping,
            time_zone=query.time_zone,
            as_of=START - timedelta(seconds=number % 3),
            pending_hours=number % 4,
            figures=[figure("sessions", number, "A", (1,))],
            next=None,
        )
        self._given.append(weakref.ref(page))
        return page, str(number + 1) if number + 1 < self._pages else None


async def test_all_pages_are_read_and_no_more_than_a_report_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one page at a time is in memory, of however many."""
    monkeypatch.setattr(figures_module, "_PAGES_MAX", 5)
    query = FigureQuery("sessions", START, START + 9 * DAY, "day", "station")
    pages = Pages(5)
    found = await FigureReader(cast(AnalyticsService, pages)).summed(query, group_and_currency)
    assert found.sums == {("A", ""): {"sessions": 5}}
    assert (found.as_of, found.pending_hours) == (START - timedelta(seconds=2), 3)
    assert pages.in_memory_max == 1
    with pytest.raises(TooMany, match="ask for whole months"):
        await FigureReader(cast(AnalyticsService, Pages(6))).summed(query, group_and_currency)
