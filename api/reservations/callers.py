"""Who asks, and for which driver."""

from typing import Annotated, Final

from fastapi import Depends

from kit.auth.requirements import require_scope
from kit.auth.stations import check_covered
from kit.auth.token_store import Principal
from kit.web.errors import BadQuery, Forbidden

FORBIDDEN: Final = {403: "A token without the scope, or for other stations, or another driver's"}
Reader = Annotated[Principal, Depends(require_scope("reservations:read"))]
Caller = Annotated[Principal, Depends(require_scope("reservations:write"))]
"""Reserves: a driver for themself, anyone else for the driver whom they name."""
Reserver = Annotated[Principal, Depends(require_scope("reservations:write", heeds_stations=True))]
"""As Caller, at the stations of their token: see check_place."""


def check_place(caller: Principal, station_id: str | None) -> None:
    """Raises Forbidden where the token is for other stations, or for some, and any of a site is asked for (None)."""
    if caller.stations is None:
        return
    if station_id is None:
        raise Forbidden("the token is for some stations, and a site may have others: name the station")
    check_covered(caller, station_id)


def driver_for(caller: Principal, named: str | None) -> str:
    """The driver for whom it is asked. Raises BadQuery, Forbidden."""
    own = caller.own_driver
    if own is None:
        if named is None:
            raise BadQuery("body/driver_id: an operator names the driver")
        return named
    if named not in (None, own):
        raise Forbidden("a driver reserves for themself; leave driver_id out")
    return own
