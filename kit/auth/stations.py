"""Tokens that are for some stations only, on routes that name the station elsewhere than in the path."""

from collections.abc import Iterable

from kit.auth.station_filter import Queries, sees
from kit.auth.token_store import Principal
from kit.web.errors import Forbidden, NotFound


def check_covered(principal: Principal, station_id: str) -> None:
    """Raises Forbidden where the token is not for this station."""
    if not principal.covers(station_id):
        raise Forbidden(f"the token is not for station {station_id}")


def stations_within(principal: Principal, asked: Iterable[str] | None) -> list[str] | None:
    """The stations that are asked for, or without any those that the token names; None: all there are. Never empty.

    Raises Forbidden where one is asked for that the token is not for, or the token is for none. Which of them are its
    organisation's only the registry can say.
    """
    wanted = list(asked or ())
    if principal.stations is None:
        return wanted or None
    for station_id in wanted:
        check_covered(principal, station_id)
    if not (wanted or principal.stations):
        raise Forbidden("the token is for no station at all")
    return wanted or sorted(principal.stations)


async def check_use(database: Queries, principal: Principal, station_id: str) -> None:
    """For a route that a body names a station to: whether the token may be used for it.

    Raises Forbidden where the token names others, NotFound where the station is not its organisation's, registered or
    not, and Unavailable.
    """
    check_covered(principal, station_id)
    if not await sees(database, principal.bound, station_id):
        raise NotFound(f"there is no station {station_id}")
