"""One alarm of a place and cause, then digests: which of a series of alarms is sent at once. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class AlarmWindow:
    """Until it ends, further alarms of the place and cause are collected for one digest."""

    ends_at: datetime
    collected: int = 0


def next_window(window: AlarmWindow | None, now: datetime, length: timedelta) -> tuple[AlarmWindow, datetime | None]:
    """The window after an alarm at `now`, and when the digest is due that it goes to; None: it is sent at once.

    As long as each window collects something, the next one follows it: a cause that stays is told once in `length`.
    """
    if window is None:
        return AlarmWindow(now + length), None
    if now < window.ends_at:
        return AlarmWindow(window.ends_at, window.collected + 1), window.ends_at
    following = window.ends_at + length
    if window.collected and now < following:
        return AlarmWindow(following, 1), following
    return AlarmWindow(now + length), None
