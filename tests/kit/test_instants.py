"""Moments in queries: RFC 3339, a date, or ms; a date is the start of that day in UTC, whichever end it names."""

import contextlib
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from kit.instants import EARLIEST, LATEST, Instant, parse_instant, parse_instant_or_date


@given(st.dates(EARLIEST.date(), LATEST.date() - timedelta(days=1)))
def test_a_date_is_the_start_of_that_day_in_utc(day: date) -> None:
    moment = parse_instant_or_date(day.isoformat())
    assert moment == datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert parse_instant_or_date(f"{day.isoformat()}T00:00:00Z") == moment


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", fullmatch=True))
def test_any_text_is_a_moment_in_bounds_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert EARLIEST <= parse_instant_or_date(text) < LATEST


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-02-30", "is no date of the calendar"),
        ("2200-01-01", "1970 to 2199"),
        ("1969-12-31", "1970 to 2199"),
        ("soon", "or a date like 2026-01-31"),
        ("2026-1-31", "or a date like 2026-01-31"),
    ],
)
def test_what_is_no_moment_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_instant_or_date(text)


def test_where_a_date_would_be_ambiguous_it_is_refused() -> None:
    """In bodies, such as a tariff's effective_from: the day begins when the station's time zone says so."""
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_instant("2026-01-31")


async def test_query_parameters_take_dates_and_the_openapi_says_so() -> None:
    app = FastAPI()

    @app.get("/")
    async def moment(since: Instant) -> datetime:
        return since

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/", params={"since": "2026-11-28"})).json() == "2026-11-28T00:00:00Z"
        assert (await client.get("/", params={"since": "2026-11-31"})).status_code == 422
        described = (await client.get("/openapi.json")).json()
    (parameter,) = described["paths"]["/"]["get"]["parameters"]
    assert {one.get("format") for one in parameter["schema"]["anyOf"]} == {"date-time", "date", None}
