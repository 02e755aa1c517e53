"""Buckets of time zones: whole, without gaps, by the calendar; and the rows that they are read from."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.reporting.analytics.buckets import BUCKETS_MAX, Width, buckets_of, segments_of
from kit.web.errors import BadQuery
from tests.api.reporting.recomputation import bucket_of

ZONES = ("UTC", "Europe/Berlin", "America/Los_Angeles", "America/Santiago", "Asia/Beirut", "Pacific/Auckland")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_MOMENTS = st.integers(0, 10 * 365 * 86_400).map(lambda s: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
_SPANS = st.tuples(_MOMENTS, st.integers(1, 5_000).map(lambda hours: hours * HOUR))


@given(span=_SPANS, width=st.sampled_from(get_args(Width)), zone=st.sampled_from(ZONES))
def test_buckets_are_the_calendars_and_leave_nothing_out(
    span: tuple[datetime, timedelta], width: Width, zone: str
) -> None:
    start, end = span[0], span[0] + span[1]
    buckets = buckets_of(start, end, width, ZoneInfo(zone))
    assert buckets[0].start <= start < buckets[0].end
    assert buckets[-1].start < end <= buckets[-1].end
    assert all(before.end == after.start for before, after in pairwise(buckets))
    names = [bucket_of(bucket.start, width, zone) for bucket in buckets]
    assert names == [bucket_of(bucket.end - HOUR, width, zone) for bucket in buckets]
    if width != "hour":
        assert len(set(names)) == len(names)


@given(span=_SPANS, width=st.sampled_from(get_args(Width)), zone=st.sampled_from(ZONES))
def test_segments_are_the_buckets_and_their_days_are_whole_days_of_utc(
    span: tuple[datetime, timedelta], width: Width, zone: str
) -> None:
    buckets = buckets_of(span[0], span[0] + span[1], width, ZoneInfo(zone))
    segments = segments_of(buckets, range(len(buckets)))
    for place, bucket in enumerate(buckets):
        own = [one for one in segments if one.bucket == place]
        assert (own[0].start, own[-1].end) == bucket
        assert all(before.end == after.start for before, after in pairwise(own))
        hours = [one for one in own if not one.daily]
        assert all(one.end - one.start < 2 * DAY for one in hours)
        assert all(one.start.hour == one.end.hour == 0 for one in own if one.daily)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Australia/Adelaide"])
def test_a_zone_of_half_hours_is_refused_but_for_hours(zone: str) -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
    assert len(buckets_of(start, end, "hour", ZoneInfo(zone))) == 48
    with pytest.raises(BadQuery, match=zone):
        buckets_of(start, end, "day", ZoneInfo(zone))


def test_too_many_buckets_are_refused() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert len(buckets_of(start, start + BUCKETS_MAX * HOUR, "hour", ZoneInfo("UTC"))) == BUCKETS_MAX
    for end in (start + (BUCKETS_MAX + 1) * HOUR, start):
        with pytest.raises(BadQuery):
            buckets_of(start, end, "hour", ZoneInfo("UTC"))
