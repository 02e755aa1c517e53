"""What a route requires of the token: one scope."""

from dataclasses import dataclass
from functools import cache
from inspect import Parameter, Signature
from typing import Annotated, Final

from fastapi import Depends, Security
from fastapi.security import HTTPBearer
from starlette.requests import Request

from kit.auth.authenticator import Authenticator, TokenCheck
from kit.auth.scopes import Scope
from kit.auth.token_store import Principal

# Only for the OpenAPI: the header is read in one place, `kit.auth.bearer`.
_BEARER_SCHEME: Final = HTTPBearer(auto_error=False, scheme_name="bearer", description="An access token of voltstream")


@dataclass(frozen=True)
class RequireScope:
    """A FastAPI dependency: the principal that has the scope, of the request's token. Else 401, 403.

    The Authenticator is `app.state.authenticator`. `kit.web.route_rules` reads the fields, so that a route's body is
    not read for anyone else.
    """

    scope: Scope
    heeds_stations: bool

    async def __call__(self, request: Request, _: object) -> Principal:
        """Raises as `Authenticator.require`."""
        authenticator: Authenticator = request.app.state.authenticator
        return await authenticator.require(request, self.scope, heeds_stations=self.heeds_stations)

    @property
    def __signature__(self) -> Signature:
        """As FastAPI reads it: with the scope, which the OpenAPI document names beside the scheme."""
        scheme = Annotated[object, Security(_BEARER_SCHEME, scopes=[self.scope])]
        of_request = Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        return Signature([of_request, Parameter("_", Parameter.POSITIONAL_OR_KEYWORD, annotation=scheme)])


@cache  # one object per scope, so that FastAPI resolves it once per request, however often it is depended on
def require_scope(scope: Scope, *, heeds_stations: bool = False) -> RequireScope:
    """The dependency that requires a token with this scope.

    `heeds_stations`: the route itself keeps to what the principal is limited to (`only`, or `bound` where a station is
    used); else a limited token is accepted only for a station that the path names.
    """
    return RequireScope(scope, heeds_stations)


async def _token_check(request: Request) -> TokenCheck:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator.check_of(request)


StillValid = Annotated[TokenCheck, Depends(_token_check)]
"""Of a route whose response goes on for long: whether the request's token is still valid and has the scope."""
