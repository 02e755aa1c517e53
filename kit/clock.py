"""The injected clock, and RFC 3339. The only module that reads the real clock.

Instants are aware UTC datetimes or whole milliseconds since the Unix epoch; durations are seconds as float.
"""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

# RFC 3339 section 5.6, with any number of fraction digits (digits beyond microseconds are cut off).
_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Clock(Protocol):
    """The source of time, passed to whatever needs it."""

    def now(self) -> datetime:
        """The current time, aware, UTC."""

    def now_ms(self) -> int:
        """The current time in ms since the Unix epoch."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary instant; never goes back. For durations and deadlines."""

    def thread_cpu_s(self) -> float:
        """CPU time of this thread, in seconds: the cost of work, without its waiting."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The current time, aware, UTC."""
        return datetime.now(UTC)

    def now_ms(self) -> int:
        """The current time in ms since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary instant."""
        return time.monotonic()

    def thread_cpu_s(self) -> float:
        """CPU time of this thread, in seconds."""
        return time.thread_time()


class ManualClock:
    """A clock for tests, which moves only by `advance` and `set_wall`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("start must be aware")
        self._now = start.astimezone(UTC)
        self._monotonic_s = 0.0

    def now(self) -> datetime:
        """The time that the clock was set to."""
        return self._now

    def now_ms(self) -> int:
        """The time that the clock was set to, in ms since the Unix epoch."""
        return to_ms(self._now)

    def monotonic_s(self) -> float:
        """Seconds advanced since the clock was made."""
        return self._monotonic_s

    def thread_cpu_s(self) -> float:
        """Seconds advanced, as if all of them were CPU time."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both the wall and the monotonic clock forward."""
        if seconds < 0:
            raise ValueError("time does not go back; use set_wall for a correction of the wall clock")
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def set_wall(self, instant: datetime) -> None:
        """Set the wall clock, forward or back, as NTP does; the monotonic clock does not change."""
        self._now = instant.astimezone(UTC)


def to_ms(instant: datetime) -> int:
    """Ms since the Unix epoch of an aware datetime, rounded down. Exact: no float in between."""
    return (instant - EPOCH) // _MILLISECOND


def from_ms(moment_ms: int) -> datetime:
    """The aware UTC datetime of ms since the Unix epoch. Raises OverflowError outside the years 1 to 9999."""
    return EPOCH + timedelta(milliseconds=moment_ms)


def format_rfc3339(instant: datetime | int) -> str:
    """`2026-01-31T23:59:59.123Z`: always UTC, always three digits; of an aware datetime or epoch ms."""
    if isinstance(instant, int):
        instant = from_ms(instant)
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_rfc3339(text: str) -> datetime:
    """The aware UTC datetime of an RFC 3339 text. Raises ValueError, also where the offset is missing."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time with offset, like 2026-01-31T23:59:59.123Z")
    date, clock, fraction, offset = match.groups()
    micros = (fraction or "0")[:6].ljust(6, "0")
    try:
        local = datetime.fromisoformat(f"{date}T{clock}.{micros}{'+00:00' if offset in 'Zz' else offset}")
        return local.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside the years 1 to 9999 in UTC") from error
