"""Names of time zones, as requests of several services give them. Pure but for the machine's list of zones."""

from functools import cache
from typing import Final
from zoneinfo import available_timezones

_NO_PLACES: Final = frozenset({"localtime", "Factory"})  # the machine's own, and none at all


@cache  # it reads folders of the machine
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_PLACES


def checked_time_zone(name: str) -> str:
    """The name. Raises ValueError where the IANA time zone database has no such place."""
    if name not in _time_zones():
        raise ValueError("is no IANA time zone: write one like Europe/Amsterdam, with its upper and lower case")
    return name
