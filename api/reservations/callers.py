"""Who asks, and for which driver."""

from typing import Annotated, Final

from fastapi import Depends

from kit.auth.authenticator import require_kinds
from kit.auth.token_store import Principal
from kit.web.errors import BadQuery, Forbidden

FORBIDDEN: Final = {403: "This is for operators and drivers"}
ALLOWED: Final = require_kinds("operator", "driver")  # a token that is both counts as an operator's
Caller = Annotated[Principal, Depends(ALLOWED)]


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
