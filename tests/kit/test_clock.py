"""Instants and their RFC 3339 texts; the manual clock."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.clock import ManualClock, SystemClock, format_rfc3339, from_ms, parse_rfc3339, to_ms

moments_ms = st.integers(-62_135_596_800_000, 253_402_300_799_999)  # the years 1 to 9999


@given(moments_ms)
def test_a_moment_survives_its_text(moment_ms: int) -> None:
    assert to_ms(parse_rfc3339(format_rfc3339(moment_ms))) == moment_ms
    assert format_rfc3339(from_ms(moment_ms)) == format_rfc3339(moment_ms)


@given(st.text())
def test_any_text_is_a_moment_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_rfc3339(text).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T23:59:59Z", datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)),
        ("2026-01-31t23:59:59.5z", datetime(2026, 1, 31, 23, 59, 59, 500_000, tzinfo=UTC)),
        ("2026-01-31 23:59:59.123456789+02:00", datetime(2026, 1, 31, 21, 59, 59, 123_456, tzinfo=UTC)),
    ],
)
def test_what_rfc_3339_allows_is_read(text: str, moment: datetime) -> None:
    assert parse_rfc3339(text) == moment


@pytest.mark.parametrize(
    "text",
    ["2026-01-31T23:59:59", "2026-01-31", "20260131T235959Z", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+23:00", ""],
)
def test_what_rfc_3339_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


def test_a_text_is_always_utc() -> None:
    moment = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert format_rfc3339(moment) == "2026-01-01T00:00:00.000Z"


def test_a_manual_clock_moves_only_when_advanced_and_its_monotonic_time_never_back() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.advance(1.5)
    assert clock.now_ms() == to_ms(datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC))
    clock.set_wall(datetime(2025, 1, 1, tzinfo=UTC))
    assert clock.now() == datetime(2025, 1, 1, tzinfo=UTC)
    assert clock.monotonic_s() == 1.5
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_the_system_clock_is_aware() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    assert abs(clock.now_ms() - to_ms(clock.now())) < 60_000
