"""Who asks, and for which driver."""

from typing import Annotated, Final

from fastapi import Depends

from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.web.errors import BadQuery, Forbidden

FORBIDDEN: Final = {403: "A token without the scope, or for other stations, or another driver's"}
Reader = Annotated[Principal, Depends(require_scope("reservations:read", heeds_stations=True))]
Caller = Annotated[Principal, Depends(require_scope("reservations:write", heeds_stations=True))]
"""Reserves: a driver for themself, anyone else for the driver whom they name."""
LineReader = Annotated[Principal, Depends(require_scope("reservations:read"))]
LineCaller = Annotated[Principal, Depends(require_scope("reservations:write"))]
"""Of lines, which are a site's: whoever is limited to some stations sees none."""


def check_line(caller: Principal) -> None:
    """Raises Forbidden where the token is for some stations, a driver's too: a line may offer any of a site."""
    if caller.bound.is_limited:
        raise Forbidden("the token is for some stations, and a line is of all of a site: reserve at a station")


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
