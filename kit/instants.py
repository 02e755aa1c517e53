"""Instants in HTTP queries and CLI options: RFC 3339, a plain date, or ms since the Unix epoch."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

from kit.clock import EPOCH, from_ms, parse_rfc3339

# PostgreSQL, Python and nanosecond clocks agree on these years, with room for a window before and after.
EARLIEST: Final = EPOCH
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_EPOCH_DIGITS_MAX: Final = 13  # the year 2286
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_instant(text: str) -> datetime:
    """The aware UTC datetime of the text. Raises ValueError, which says what to write, also outside 1970 to 2199."""
    return _parse(text, "")


def parse_instant_or_date(text: str) -> datetime:
    """As `parse_instant`; a plain date is the start of that day in UTC, whichever end of an interval it names."""
    if not _DATE.fullmatch(text):
        return _parse(text, ", or a date like 2026-01-31, the start of that day in UTC")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError("is no date of the calendar: write YYYY-MM-DD") from None
    return _in_range(datetime.combine(day, time(), UTC))


def floor_to(instant: datetime, width: timedelta) -> datetime:
    """The last whole multiple of `width` since the Unix epoch that is not after `instant`."""
    return instant - (instant - EPOCH) % width


def _parse(text: str, or_else: str) -> datetime:
    if text.isascii() and text.isdigit() and len(text) <= _EPOCH_DIGITS_MAX:
        instant = from_ms(int(text))
    else:
        try:
            instant = parse_rfc3339(text)
        except ValueError:
            raise ValueError(
                "is not an instant: write RFC 3339 with offset, like 2026-01-31T23:59:59Z (a + in a URL is %2B), "
                f"or ms since the Unix epoch{or_else}"
            ) from None
    return _in_range(instant)


def _in_range(instant: datetime) -> datetime:
    if not EARLIEST <= instant < LATEST:
        raise ValueError("is outside the years 1970 to 2199")
    return instant


def _of_text(value: object) -> datetime:
    """In a body it may be anything. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("is not an instant: write it as text, like 2026-01-31T23:59:59Z")
    return parse_instant_or_date(value)


Instant = Annotated[
    datetime,
    BeforeValidator(_of_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "string", "format": "date", "description": "the start of that day, UTC"},
                {"type": "string", "pattern": "^[0-9]{1,13}$", "description": "ms since the Unix epoch"},
            ]
        }
    ),
]
"""An instant as query parameter, or as text in a body."""
