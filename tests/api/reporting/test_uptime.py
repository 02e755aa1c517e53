"""Uptime by 23 CFR 680.116 equals a count minute by minute, written apart."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.reporting.uptime.intervals import Intervals, covered, difference, intersection, merged
from api.reporting.uptime.months import is_month_start, month_start, months_between, shifted, to_column_ms
from api.reporting.uptime.outages import excluded_by_each, outages_of
from api.reporting.uptime.ports import PortLine, Spans
from api.reporting.uptime.repairs import ended_outages
from api.reporting.uptime.uptime import (
    MINUTE_MS,
    UP_STATUSES,
    YEAR_MIN,
    YEAR_MS,
    PortTimes,
    meets_minimum,
    monthly,
    of_twelve_months,
    port_times,
    share_up_mpct,
    uptime_mpct,
)
from schemas.reading import SILENT, Status

MINUTES = 200  # of a line; its "months" are of any length
PORTS = 3


class Span(NamedTuple):
    port: int
    start: int  # minutes from the line's start; below 0 and beyond its end, too
    end: int


def spans_of(spans: list[Span]) -> Spans:
    columns = zip(*spans, strict=True) if spans else ((), (), ())
    port, start, end = (np.array(column, np.int64) for column in columns)
    return Spans(port, start * MINUTE_MS, end * MINUTE_MS)


moments = st.integers(-40, MINUTES + 40)
some_spans = st.lists(st.builds(Span, st.integers(0, PORTS - 1), moments, moments), max_size=12)


@st.composite
def statuses(draw: st.DrawFn) -> list[tuple[Span, int]]:
    """As status_intervals gives them: of a port one after the other, from some moment on, silences among them."""
    found = []
    for port in range(PORTS):
        bounds = sorted(draw(st.lists(moments, max_size=10)))
        for start, end in itertools.pairwise(bounds):
            status = draw(st.sampled_from([SILENT, *(int(one) for one in Status if one is not Status.NONE)]))
            found.append((Span(port, start, end), status))
    return found


@st.composite
def services(draw: st.DrawFn) -> list[Span]:
    """Registered before or midway, removed midway or not at all, or registered again."""
    found = []
    for port in range(PORTS):
        bounds = sorted(draw(st.lists(moments, max_size=4)))
        found += [Span(port, start, end) for start, end in zip(bounds[::2], bounds[1::2], strict=False)]
    return found


def minutes_in(spans: list[Span], port: int) -> set[int]:
    """The plain count: minutes that are in one of the spans at least."""
    return {minute for one in spans if one.port == port for minute in range(max(one.start, 0), min(one.end, MINUTES))}


def times_of(service: list[Span], stated: list[tuple[Span, int]], exclusions: list[Span]) -> PortTimes:
    status = np.array([status for _, status in stated], np.int64)
    spans = spans_of([span for span, _ in stated])
    up = Spans(*(column[np.isin(status, UP_STATUSES)] for column in spans))
    return port_times(PortLine(PORTS, 0, MINUTES * MINUTE_MS), spans_of(service), up, spans_of(exclusions))


@given(services(), statuses(), some_spans, st.lists(st.integers(0, MINUTES), min_size=2, max_size=6))
def test_uptime_equals_the_count_of_minutes(
    service: list[Span], stated: list[tuple[Span, int]], exclusions: list[Span], bounds: list[int]
) -> None:
    bounds = sorted(bounds)
    counted = monthly(times_of(service, stated, exclusions), np.array(bounds, np.int64) * MINUTE_MS)
    available = {1, 2, 3, 4, 5, 6, 7}  # all but Unavailable, Faulted, Silent and Unknown
    for port in range(PORTS):
        in_service = minutes_in(service, port)
        up = minutes_in([span for span, status in stated if status in available], port)
        excluded = minutes_in(exclusions, port)
        for place, (start, end) in enumerate(itertools.pairwise(bounds)):
            month = set(range(start, end)) & in_service
            assert counted.service_ms[port, place] == len(month) * MINUTE_MS
            assert counted.outage_ms[port, place] == len(month - up) * MINUTE_MS
            assert counted.excluded_ms[port, place] == len((month - up) & excluded) * MINUTE_MS


@given(services(), statuses(), some_spans)
def test_outages_equal_the_runs_of_minutes(
    service: list[Span], stated: list[tuple[Span, int]], exclusions: list[Span]
) -> None:
    times = times_of(service, stated, exclusions)
    outages = outages_of(times)
    expected = []
    for port in range(PORTS):
        in_service = minutes_in(service, port)
        up = minutes_in([span for span, status in stated if status in UP_STATUSES], port)
        down, excluded = in_service - up, minutes_in(exclusions, port)
        for start in sorted(minute for minute in down if minute - 1 not in down):
            end = next(minute for minute in range(start, MINUTES + 1) if minute not in down)
            taken = len(set(range(start, end)) & excluded)
            expected.append((port, start, end, taken, end in in_service))
    found = zip(*outages.spans, outages.excluded_ms, outages.ended, strict=True)
    minutes = [
        (int(p), int(s) // MINUTE_MS, int(e) // MINUTE_MS, int(x) // MINUTE_MS, bool(b)) for p, s, e, x, b in found
    ]
    assert minutes == expected
    repairs = ended_outages(times, 50 * MINUTE_MS, 150 * MINUTE_MS).repairs()
    counted = [(one[0], one[2], one[2] - one[1] - one[3]) for one in expected if one[4] and 50 <= one[2] < 150]
    found_repairs = zip(*(column.tolist() for column in repairs[:3]), strict=True)
    assert [(port, end // MINUTE_MS, counted_ms // MINUTE_MS) for port, end, counted_ms in found_repairs] == [
        one for one in counted if one[2] > 0
    ]
    each = excluded_by_each(times, spans_of(exclusions))
    for exclusion, covered_ms in zip(exclusions, each, strict=True):
        down = minutes_in(service, exclusion.port) - minutes_in(
            [span for span, status in stated if status in UP_STATUSES], exclusion.port
        )
        assert covered_ms == len(down & minutes_in([exclusion], exclusion.port)) * MINUTE_MS


lines = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


def set_of(pairs: list[tuple[int, int]]) -> set[int]:
    return {point for start, end in pairs for point in range(start, end)}


def intervals_of(pairs: list[tuple[int, int]]) -> Intervals:
    starts, ends = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    return merged(starts, ends)


@given(lines, lines)
def test_intervals_are_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    left, right = intervals_of(one), intervals_of(other)

    def points(intervals: Intervals) -> set[int]:
        return set_of(list(zip(intervals.starts.tolist(), intervals.ends.tolist(), strict=True)))

    assert points(left) == set_of(one)
    assert points(intersection(left, right)) == set_of(one) & set_of(other)
    assert points(difference(left, right)) == set_of(one) - set_of(other)
    for made in (left, intersection(left, right), difference(left, right)):
        assert (made.ends > made.starts).all()
        assert (made.starts[1:] > made.ends[:-1]).all()
    upto = np.arange(62, dtype=np.int64)
    assert covered(left, upto).tolist() == [sum(point < end for point in set_of(one)) for end in upto.tolist()]


def test_the_equation_is_the_rules() -> None:
    """((525,600 - (T_outage - T_excluded)) / 525,600) x 100."""
    outage = np.array([0, 3 * YEAR_MS // 100, 3 * YEAR_MS // 100 - 1, YEAR_MS, 1_440 * MINUTE_MS], np.int64)
    excluded = np.array([0, 0, 0, 0, 720 * MINUTE_MS], np.int64)
    assert uptime_mpct(outage, excluded).tolist() == [
        100_000,
        97_000,
        97_000,
        0,
        (YEAR_MIN - 720) * 100_000 // YEAR_MIN,
    ]
    assert meets_minimum(outage, excluded).tolist() == [True, False, True, False, True]


def test_a_silent_year_is_an_outage_of_all_its_minutes() -> None:
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    bounds = to_column_ms([*months_between(start, end), end])
    whole = Spans(np.zeros(1, np.int64), bounds[:1], bounds[-1:])
    times = port_times(PortLine(1, int(bounds[0]), int(bounds[-1])), whole, spans_of([]), spans_of([]))
    counted = monthly(times, bounds)
    assert counted.outage_ms[0, 1] == 28 * 1_440 * MINUTE_MS
    outage = of_twelve_months(counted.outage_ms)
    assert outage.tolist() == [[YEAR_MS]]
    assert uptime_mpct(outage, np.zeros_like(outage)).tolist() == [[0]]


def test_a_port_registered_midway_was_not_down_before() -> None:
    """Nor is one that was removed down afterwards. Its share of the time in service is told apart."""
    start, end = datetime(2024, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC)
    bounds = to_column_ms([*months_between(start, end), end])
    registered, removed = to_column_ms([datetime(2024, 12, 1, tzinfo=UTC), datetime(2024, 12, 11, tzinfo=UTC)])
    service = Spans(*(np.array([value], np.int64) for value in (0, registered, removed)))
    up = Spans(*(np.array([value], np.int64) for value in (0, registered, removed - 24 * 60 * MINUTE_MS)))
    counted = monthly(port_times(PortLine(1, int(bounds[0]), int(bounds[-1])), service, up, spans_of([])), bounds)
    service_ms, outage_ms, excluded_ms = (of_twelve_months(values) for values in counted)
    assert service_ms.shape == (1, 2)
    assert outage_ms.tolist() == [[1_440 * MINUTE_MS] * 2]
    assert uptime_mpct(outage_ms, excluded_ms).tolist() == [[99_726] * 2]
    assert share_up_mpct(service_ms, outage_ms, excluded_ms).tolist() == [[90_000] * 2]
    assert share_up_mpct(*(np.zeros((1, 1), np.int64),) * 3).tolist() == [[-1]]


@given(st.lists(st.lists(st.integers(0, 10**9), min_size=14, max_size=14), min_size=1, max_size=3))
def test_twelve_months_are_summed(rows: list[list[int]]) -> None:
    expected = [[sum(row[place : place + 12]) for place in range(3)] for row in rows]
    assert of_twelve_months(np.array(rows, np.int64)).tolist() == expected


@given(st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1)), st.integers(0, 40))  # noqa: DTZ001  # hypothesis takes naive bounds
def test_months_follow_each_other(moment: datetime, count: int) -> None:
    start = month_start(moment.replace(tzinfo=UTC))
    assert is_month_start(start)
    assert not is_month_start(start + timedelta(minutes=1))
    assert shifted(shifted(start, count), -count) == start
    months = [*months_between(start, shifted(start, count)), shifted(start, count)]
    assert len(months) == count + 1
    for one, following in itertools.pairwise(months):
        assert month_start(one + timedelta(days=31)) == following or (following - one).days == 31
        assert 28 <= (following - one).days <= 31


def test_statuses_are_divided_into_up_and_down_once() -> None:
    assert {status for status in Status if status not in UP_STATUSES} == {
        Status.NONE,
        Status.UNAVAILABLE,
        Status.FAULTED,
    }
    assert SILENT not in UP_STATUSES


def test_what_is_no_line_is_refused() -> None:
    with pytest.raises(ValueError, match="no line"):
        PortLine(1, 5, 5)
