"""Local time: where the clock on the wall decides about money."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating.local_time import boundaries_ms, local_time
from schemas.tariff import Dimension
from tests.billing.rating.making import HOUR_MS, MINUTE_MS, element, stretch, tariff, usage, utc_ms, volumes
from tests.billing.rating.strategies import MOMENTS

# Zone, start (UTC), hours, restrictions, how many minutes of it they hold.
CASES = [
    # 02:00 -> 03:00
    ("Europe/Amsterdam", "2026-03-29T00:00", 3, {"start_time": "02:00", "end_time": "03:00"}, 0),
    ("Europe/Amsterdam", "2026-03-29T00:00", 3, {"start_time": "01:30", "end_time": "03:30"}, 60),
    ("Europe/Amsterdam", "2026-03-29T00:00", 3, {"start_time": "02:30", "end_time": "04:00"}, 60),
    ("America/New_York", "2026-03-08T06:00", 3, {"start_time": "01:30", "end_time": "02:30"}, 30),
    ("America/New_York", "2026-03-08T06:00", 3, {"start_time": "02:15", "end_time": "03:15"}, 15),
    # 03:00 -> 02:00, and 02:00 -> 01:00
    ("Europe/Amsterdam", "2026-10-25T00:00", 3, {"start_time": "02:00", "end_time": "03:00"}, 120),
    ("Europe/Amsterdam", "2026-10-25T00:00", 3, {"start_time": "02:30", "end_time": "03:30"}, 90),
    ("America/New_York", "2026-11-01T05:00", 3, {"start_time": "01:30", "end_time": "02:30"}, 90),
    # by half an hour: 02:00 -> 02:30, and 02:00 -> 01:30
    ("Australia/Lord_Howe", "2026-10-03T14:30", 2, {"start_time": "02:00", "end_time": "02:30"}, 0),
    ("Australia/Lord_Howe", "2026-10-03T14:30", 2, {"start_time": "01:45", "end_time": "02:45"}, 30),
    ("Australia/Lord_Howe", "2026-04-04T14:00", 2, {"start_time": "01:30", "end_time": "02:00"}, 60),
    ("Australia/Lord_Howe", "2026-04-04T14:00", 2, {"start_time": "01:45", "end_time": "02:15"}, 45),
    # a day without a midnight: 00:00 -> 01:00
    ("Africa/Cairo", "2026-04-23T21:00", 2, {"start_date": "2026-04-24"}, 60),
    ("Africa/Cairo", "2026-04-23T21:00", 2, {"start_time": "00:00", "end_time": "01:00"}, 0),
    # midnight and the end of the year; 2026 begins on a Thursday
    ("Europe/Amsterdam", "2025-12-31T22:00", 2, {"start_date": "2026-01-01"}, 60),
    ("Europe/Amsterdam", "2025-12-31T22:00", 2, {"end_date": "2026-01-01"}, 60),
    ("America/New_York", "2026-01-01T04:30", 2, {"day_of_week": ["THURSDAY"]}, 90),
    ("America/New_York", "2026-01-01T04:30", 2, {"day_of_week": ["WEDNESDAY"], "start_time": "23:45"}, 15),
    ("Asia/Kathmandu", "2026-06-01T18:00", 1, {"start_time": "00:00", "end_time": "00:15"}, 15),
    # around midnight; the day is that of the moment, not of the evening before
    ("UTC", "2026-01-01T20:00", 12, {"start_time": "22:00", "end_time": "06:00"}, 480),
    ("UTC", "2026-01-01T20:00", 12, {"start_time": "22:00", "end_time": "06:00", "day_of_week": ["THURSDAY"]}, 120),
    ("UTC", "2026-01-01T20:00", 12, {"start_time": "06:00", "end_time": "22:00"}, 240),
    ("UTC", "2026-01-01T20:00", 12, {"start_time": "22:00", "end_time": "00:00"}, 120),
    ("UTC", "2026-01-01T20:00", 12, {"end_time": "00:00"}, 720),
    ("UTC", "2026-01-01T20:00", 12, {"end_time": "06:00"}, 360),
    ("UTC", "2026-01-01T20:00", 12, {"start_time": "22:00"}, 120),
    ("UTC", "2026-01-01T20:00", 48, {"start_time": "09:00", "end_time": "09:00"}, 2880),
    ("UTC", "2026-01-01T20:00", 48, {"start_time": "00:00", "end_time": "00:00"}, 2880),
]


@pytest.mark.parametrize(("zone", "start", "hours", "restrictions", "minutes"), CASES)
def test_time_is_cut_where_the_clock_on_the_wall_says(
    zone: str, start: str, hours: int, restrictions: dict[str, object], minutes: int
) -> None:
    priced = tariff(element("TIME", **restrictions), element("TIME"))
    found = volumes(priced, usage(stretch(utc_ms(start), hours * 60)), ZoneInfo(zone))
    assert found.get((0, Dimension.TIME), 0) == minutes * MINUTE_MS
    assert sum(found.values()) == hours * HOUR_MS


def test_local_time_is_to_the_millisecond() -> None:
    shown = local_time(utc_ms("2026-06-01T09:30") + 7, ZoneInfo("Asia/Kathmandu"))
    assert (str(shown.day), shown.ms) == ("2026-06-01", 15 * HOUR_MS + 15 * MINUTE_MS + 7)


@given(st.data())
def test_boundaries_are_where_a_minute_by_minute_watch_sees_them(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MOMENTS)))
    zone, near_ms = ZoneInfo(name), utc_ms(data.draw(st.sampled_from(MOMENTS[name])))
    start_ms = near_ms - data.draw(st.integers(0, 36 * 60)) * MINUTE_MS
    end_ms = near_ms + data.draw(st.integers(0, 36 * 60)) * MINUTE_MS
    minutes_of_day = data.draw(
        st.sets(st.sampled_from([15, 60, 90, 120, 135, 150]) | st.integers(0, 1_439), max_size=4)
    )

    seen = []
    for moment_ms in range(start_ms + MINUTE_MS, end_ms, MINUTE_MS):
        before, now = local_time(moment_ms - MINUTE_MS, zone), local_time(moment_ms, zone)
        jumped = (now.ms - before.ms) % (24 * HOUR_MS) != MINUTE_MS
        if jumped or now.ms // MINUTE_MS in {0, *minutes_of_day}:
            seen.append(moment_ms)
    assert boundaries_ms(start_ms, end_ms, zone, minutes_of_day) == seen
