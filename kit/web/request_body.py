"""The body of a request: none of it is read before the token is accepted, and no more than the route's bound."""

from collections.abc import Callable
from typing import Final, Protocol

from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope

from kit.auth.scopes import Scope as TokenScope
from kit.errors import Unavailable
from kit.observability.logs import get_logger
from kit.web.problem import INTERNAL, Problem, unavailable
from kit.web.route_rules import ACCEPTED, RouteRules

_DIGITS_MAX: Final = 18  # of a Content-Length: an exabyte; what has more is longer than any bound
# The server reads this much from the socket in advance: uvicorn's high-water mark.
_DISCARDED_BYTES_MAX: Final = 65_536

_log = get_logger(__name__)


class Authenticates(Protocol):
    """The Authenticator, as the body needs it."""

    async def require(self, request: HTTPConnection, scope: TokenScope, *, heeds_stations: bool = False) -> object:
        """Raises Problem 401 and 403, and Unavailable."""


class RequestBody:
    """One request's body. `receive` replaces the server's for the routes.

    It checks at the first call because the route is known only then, and because FastAPI reads and parses a body
    before it resolves any dependency.
    """

    __slots__ = ("_complete", "_declared", "_open", "_receive", "_rules", "_rules_of", "_scope", "_size")

    def __init__(
        self, scope: Scope, receive: Receive, rules_of: Callable[[Scope], RouteRules], declared: bytes, is_open: bool
    ) -> None:
        """`declared`: the Content-Length, or empty; `is_open`: by other headers, more may come."""
        self._scope = scope
        self._receive = receive
        self._rules_of = rules_of
        self._rules: RouteRules | None = None  # None: not accepted yet
        self._declared = declared
        self._open = is_open
        self._size = 0
        self._complete = False

    async def receive(self) -> Message:
        """See ASGI. Raises Problem: 401 or 403 without a token that the route takes, 413 beyond its bound."""
        rules = self._rules
        if rules is None:
            rules = await self._accepted()
            if _length(self._declared) > rules.body_bytes_max:
                raise _too_large(rules)
            self._rules = rules
        if self._size > rules.body_bytes_max:
            raise _too_large(rules)
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._size > rules.body_bytes_max:
                raise _too_large(rules)
        return message

    @property
    def abandoned(self) -> bool:
        """Whether the response goes out before a body that is more than the server would discard in passing.

        Such a connection must not be used again: how much is still to come is unknown, and a client that waits for
        100 Continue may send its next request in the place of the body.
        """
        return not self._complete and (self._open or _length(self._declared) > _DISCARDED_BYTES_MAX)

    async def _accepted(self) -> RouteRules:
        """The rules of the route, after its token is accepted."""
        try:
            rules = self._rules_of(self._scope)
            if rules.scope is not None and self._scope.get(ACCEPTED) != rules.scope:
                authenticator: Authenticates = self._scope["app"].state.authenticator
                connection = HTTPConnection(self._scope)
                await authenticator.require(connection, rules.scope, heeds_stations=rules.heeds_stations)
        except Problem:
            raise
        except Unavailable as error:
            raise unavailable(error) from None
        except Exception:  # FastAPI would make a 400 of it: a body that cannot be parsed
            _log.exception("authentication_failed")
            raise Problem(500, INTERNAL) from None
        return rules


def _length(declared: bytes) -> int:
    """A Content-Length as a number; 0 where there is none."""
    if not declared:
        return 0
    return int(declared) if declared.isdigit() and len(declared) <= _DIGITS_MAX else 10**_DIGITS_MAX


def _too_large(rules: RouteRules) -> Problem:
    return Problem(413, f"the body is larger than {rules.body_bytes_max} bytes; send less at once")
