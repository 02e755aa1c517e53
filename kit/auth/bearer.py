"""The Authorization header of a request, and how one is refused."""

from collections.abc import Hashable
from typing import Final, cast

from starlette.requests import HTTPConnection
from starlette.types import Scope as ASGIScope

from kit.auth.scopes import Scope, kinds_with
from kit.auth.token_store import Principal, hash_of
from kit.web.addresses import network_of
from kit.web.problem import Problem
from kit.web.request_scope import PRINCIPALS

NO_ROLE: Final = "your token has no role that is known here"
_REALM: Final = 'Bearer realm="voltstream"'


def check_station(principal: Principal, station_id: str | None) -> None:
    """Raises Problem 403 where a token for some stations asks for another, or for all. What is a driver's own is so at
    every station."""
    if station_id is None:
        if principal.kind != "driver":
            whose = "some" if principal.organisation is None else f"those of {principal.organisation} only"
            raise Problem(403, f"this is about all stations, and your token is for {whose}: use one for all of them")
    elif not principal.covers(station_id):
        raise Problem(403, f"your token is not for station {station_id}")


def forbidden(scope: Scope, principals: tuple[Principal, ...]) -> Problem:
    """403, for want of the scope."""
    allowed = kinds_with(scope)
    yours = NO_ROLE
    if principals:
        yours = f"your token is of {' and '.join(principal.kind for principal in principals)}"
        yours += ", and was issued for less" if any(one.kind in allowed for one in principals) else ""
    challenge = f'{_REALM}, error="insufficient_scope", scope="{scope}"'
    detail = f"this needs the scope {scope}, which {' and '.join(allowed)} have; {yours}"
    return Problem(403, detail, headers={"WWW-Authenticate": challenge})


def bearer_token(request: HTTPConnection) -> str:
    """The token of a request. Raises Problem 401."""
    for key, value in request.scope["headers"]:
        if key == b"authorization":
            token = token_in(value)
            if token is not None:
                return token
            raise unauthorized("write the header as: Authorization: Bearer <token>", invalid=False)
    raise unauthorized("a token is needed: Authorization: Bearer <token>", invalid=False)


def has_authorization(request: HTTPConnection) -> bool:
    """Whether it has the header, whatever is in it."""
    return any(key == b"authorization" for key, _ in request.scope["headers"])


def asker_of(scope: ASGIScope) -> Hashable:
    """Who sent the request: the token's id once it is verified, however it was written; until then the token, or the
    address."""
    for principal in scope.get(PRINCIPALS) or ():
        return cast(Principal, principal).token_id
    for key, value in scope["headers"]:
        if key == b"authorization" and (token := token_in(value)) is not None:
            return hash_of(token)
    return network_of(str((scope.get("client") or ("",))[0]))


def token_in(authorization: bytes) -> str | None:
    """The token of an Authorization header; None where the header has another form."""
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


def unauthorized(detail: str, *, invalid: bool) -> Problem:
    """401; `invalid`: there is a token, and it is not accepted."""
    challenge = f'{_REALM}, error="invalid_token"' if invalid else _REALM
    return Problem(401, detail, headers={"WWW-Authenticate": challenge})
