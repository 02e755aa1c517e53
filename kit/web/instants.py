"""Moments as query parameters: RFC 3339, or ms since the Unix epoch."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

from kit.clock import EPOCH, from_ms, parse_rfc3339

# PostgreSQL, Python and nanosecond clocks agree on these years, with room for a window before and after.
EARLIEST: Final = EPOCH
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_EPOCH_DIGITS_MAX: Final = 13  # the year 2286


def parse_instant(text: str) -> datetime:
    """The aware UTC datetime that the text names. Raises ValueError with the mend, also outside 1970 to 2199."""
    if text.isascii() and text.isdigit() and len(text) <= _EPOCH_DIGITS_MAX:
        moment = from_ms(int(text))
    else:
        try:
            moment = parse_rfc3339(text)
        except ValueError:
            raise ValueError(
                "is no moment: write RFC 3339 with offset, like 2026-01-31T23:59:59Z (a + in a URL is %2B), "
                "or ms since the Unix epoch"
            ) from None
    if not EARLIEST <= moment < LATEST:
        raise ValueError("is outside the years 1970 to 2199")
    return moment


def floor_to(moment: datetime, width: timedelta) -> datetime:
    """The last whole multiple of `width` since the Unix epoch that is not after `moment`."""
    return moment - (moment - EPOCH) % width


Instant = Annotated[
    datetime,
    BeforeValidator(parse_instant),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": "^[0-9]{1,13}$"}]}
    ),
]
"""A query parameter that is a moment."""
