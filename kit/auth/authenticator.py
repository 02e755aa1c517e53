"""Authentication of HTTP requests by bearer token, from memory on the hot path.

A verified token is cached. Every second, if there are requests, one query reads which cached tokens were revoked since,
and none is used after 5 s without its result: a revoked token passes for at most that long, and the database has one
query, however many tokens are in use. The query runs in a thread of its own and the next request applies its result, so
it does not wait for the event loop, of which one iteration takes seconds when thousands of connections have unread
requests. While the database does not answer, cached tokens pass for 5 more minutes (nobody can revoke one either);
unknown ones get 503.
Signed tokens (`kit.auth.signed_tokens`) need no query: they are valid until they expire.
"""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Final, NamedTuple
from uuid import UUID

from fastapi import Security
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection, Request

from kit.auth.signed_tokens import InvalidToken, SignedTokens
from kit.auth.token_store import KINDS, Kind, Principal, TokenStore, hash_of, well_formed
from kit.clock import Clock
from kit.errors import Unavailable
from kit.futures import done_within, mark_seen
from kit.observability.logs import get_logger
from kit.validation import COPY_IT_WHOLE
from kit.web.limits.requests import QUOTA, address_of, limits_of
from kit.web.problem import Problem
from kit.web.request_scope import PRINCIPAL, PRINCIPALS
from kit.web.route_rules import ACCEPTED

REVOCATION_S: Final = 5.0
AHEAD_S: Final = 4.0  # asked so long before, so that no request waits for an answer that takes less
# Without an answer for so long, the database counts as down; a late one is taken all the same.
ANSWER_S_MAX: Final = 5.0
OUTAGE_S: Final = 300.0
CACHE_MAX: Final = 20_000  # tokens; ~700 B each with a few stations: 14 MB. Beyond, the oldest is looked up again
# Well-formed but unknown tokens, so that a misconfigured fleet does not cause a query a request. 32 B each.
REJECTED_MAX: Final = 10_000

_REALM: Final = 'Bearer realm="voltstream"'
_log = get_logger(__name__)


class _RevocationQuery(NamedTuple):
    """A query of the database for the cached tokens that are revoked."""

    sent_s: float
    result: Future[set[UUID]]


class Authenticator:
    """Verifies bearer tokens. One a process; used from one event loop."""

    def __init__(self, store: TokenStore, clock: Clock, signed: SignedTokens | None = None) -> None:
        """`signed`: None where only stored tokens are accepted."""
        self._store = store
        self._clock = clock
        self._signed = signed
        self._cached: dict[bytes, Principal] = {}
        self._rejected: set[bytes] = set()
        self._checked_s = clock.monotonic_s()
        self._due_s = self._checked_s + REVOCATION_S
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="revocations")
        self._query: _RevocationQuery | None = None

    def close(self) -> None:
        """End its thread. Call it in a thread, once the store's database is closed: it waits for a query under way."""
        self._thread.shutdown(cancel_futures=True)

    async def authenticate(self, request: HTTPConnection) -> Principal:
        """The principal of the request; of a signed token with several roles, that of the first of KINDS.

        Raises Problem 401 that says what to do, 403 where a signed token has no known role, and Unavailable.
        """
        return await self.require(request, *KINDS)

    async def require(self, request: HTTPConnection, *kinds: Kind) -> Principal:
        """The principal of the first of `kinds` that the request's token has. Raises as `authenticate`, or 403."""
        principals: tuple[Principal, ...] | None = request.scope.get(PRINCIPALS)
        if principals is None:
            principals = request.scope[PRINCIPALS] = await self._within_limits(request)
        for kind in kinds:
            for principal in principals:
                if principal.kind == kind:
                    request.scope[ACCEPTED] = kinds
                    request.scope.setdefault(PRINCIPAL, principal)
                    return principal
        yours = " and ".join(principal.kind for principal in principals) or "none that is known here"
        raise Problem(403, f"this needs a token of kind {' or '.join(kinds)}; yours is of kind {yours}")

    def known(self, authorization: bytes, kinds: tuple[Kind, ...]) -> Principal | None:
        """The principal that `require` gives for this header without waiting or verifying; None where it would have
        to, or refuses the token."""
        token = _token_in(authorization)
        if token is None:
            return None
        principals: tuple[Principal, ...] | None
        if self._signed is not None and "." in token:
            principals = self._signed.known(token)
        elif not self._is_fresh():
            return None
        else:
            principal = self._cached.get(hash_of(token))
            principals = None if principal is None else (principal,)
        if principals is not None:
            for kind in kinds:
                for principal in principals:
                    if principal.kind == kind:
                        return principal
        return None

    def _is_fresh(self) -> bool:
        """Whether the cache may be used as it is. Applies the result of a query that is done, and sends the next one
        where it is due soon."""
        if self._query is not None and self._query.result.done():
            self._apply_result(self._query)
        left_s = self._due_s - self._clock.monotonic_s()
        if left_s <= AHEAD_S and self._query is None:
            self._send_query()
        return left_s > 0

    async def _within_limits(self, request: HTTPConnection) -> tuple[Principal, ...]:
        """The token's principals, its request counted. Raises as `authenticate`, and Problem 429."""
        limits = limits_of(request.scope)
        if limits is None:
            return await self._principals(request)
        address = address_of(request.scope)
        try:
            principals = await self._principals(request)
        except Problem as refused:
            if refused.status == 401:
                limits.fail(address)
            raise
        if principals:
            try:
                request.scope[QUOTA] = limits.spend(principals[0])
            except Problem:
                request.scope[PRINCIPAL] = principals[0]  # whom the audit names
                raise
        else:
            limits.fail(address)
        return principals

    async def _principals(self, request: HTTPConnection) -> tuple[Principal, ...]:
        """One principal for a stored token, one for each role of a signed one."""
        token = _bearer_token(request)
        if self._signed is not None and "." in token:  # no stored token has one
            if self._signed.known(token) is None:
                _check_look_up(request)
            try:
                return self._signed.verify(token)
            except InvalidToken as error:
                _looked_up_in_vain(request)
                raise _unauthorized(str(error), invalid=True) from None
        if not self._is_fresh():
            await self._refresh()
        token_hash = hash_of(token)
        principal = self._cached.get(token_hash)
        return (principal if principal is not None else await self._look_up(request, token, token_hash),)

    async def _look_up(self, request: HTTPConnection, token: str, token_hash: bytes) -> Principal:
        if not well_formed(token):
            raise _unauthorized(COPY_IT_WHOLE, invalid=True)
        if token_hash in self._rejected:
            raise _unauthorized("the token is unknown or revoked; ask an operator for a new one", invalid=True)
        _check_look_up(request)
        principal = await self._store.find(token_hash)
        if principal is None:
            _looked_up_in_vain(request)
            if len(self._rejected) >= REJECTED_MAX:
                self._rejected.clear()
            self._rejected.add(token_hash)
            raise _unauthorized("the token is unknown or revoked; ask an operator for a new one", invalid=True)
        if len(self._cached) >= CACHE_MAX:
            del self._cached[next(iter(self._cached))]
        self._cached[token_hash] = principal
        return principal

    def _send_query(self) -> _RevocationQuery:
        """Query in the thread which cached tokens are revoked."""
        self._rejected.clear()
        token_ids = [principal.token_id for principal in self._cached.values()]
        query = _RevocationQuery(self._clock.monotonic_s(), self._thread.submit(self._store.revoked, token_ids))
        self._query = query
        return query

    def _apply_result(self, query: _RevocationQuery) -> None:
        """Drop revoked tokens from the cache."""
        self._query = None
        error = query.result.exception()
        if error is not None:
            self._extend_in_outage(error)
            return
        gone = query.result.result()
        self._cached = {key: value for key, value in self._cached.items() if value.token_id not in gone}
        self._checked_s = query.sent_s
        self._due_s = query.sent_s + REVOCATION_S

    async def _refresh(self) -> None:
        """Wait until the cache may be used again: for the result, or until the database counts as down."""
        while (now_s := self._clock.monotonic_s()) >= self._due_s:
            query = self._query or self._send_query()
            left_s = query.sent_s + ANSWER_S_MAX - now_s
            if left_s > 0 and not query.result.done():
                result = asyncio.wrap_future(query.result)
                result.add_done_callback(mark_seen)  # the first request to go on handles the error
                await done_within(result, left_s)
            if query is not self._query:
                continue  # applied meanwhile
            if query.result.done():
                self._apply_result(query)
            else:
                self._extend_in_outage(Unavailable(f"PostgreSQL does not answer within {ANSWER_S_MAX:.0f} s"))

    def _extend_in_outage(self, error: BaseException) -> None:
        """Use the cache for longer while the database is down, but not for ever."""
        now_s = self._clock.monotonic_s()
        if now_s - self._checked_s >= OUTAGE_S:
            self._cached.clear()
        unforeseen = None if isinstance(error, Unavailable) else error
        _log.warning("revocations_unknown", error=str(error), remembered=len(self._cached), exc_info=unforeseen)
        self._due_s = now_s + REVOCATION_S


# Only for the OpenAPI: the header is read in one place, `_bearer_token`.
_BEARER_SCHEME: Final = HTTPBearer(auto_error=False, scheme_name="bearer", description="An access token of voltstream")


@dataclass(frozen=True, slots=True)
class RequireKinds:
    """A FastAPI dependency: the principal of the first of `kinds` that the request's token has. Else 401, 403.

    The Authenticator is `app.state.authenticator`. `kit.web.route_rules` reads `kinds`, so that a route's body is not
    read for anyone else.
    """

    kinds: tuple[Kind, ...]

    async def __call__(self, request: Request, _: Annotated[object, Security(_BEARER_SCHEME)]) -> Principal:
        """Raises as `Authenticator.require`."""
        authenticator: Authenticator = request.app.state.authenticator
        return await authenticator.require(request, *self.kinds)


@cache  # one object per kinds, so that FastAPI resolves it once per request, however often it is depended on
def require_kinds(*kinds: Kind) -> RequireKinds:
    """The dependency that requires a token of one of these kinds."""
    return RequireKinds(kinds)


require_device: Final = require_kinds("device")
require_operator: Final = require_kinds("operator")


def _check_look_up(request: HTTPConnection) -> None:
    limits = limits_of(request.scope)
    if limits is not None:
        limits.check_look_up(address_of(request.scope))


def _looked_up_in_vain(request: HTTPConnection) -> None:
    limits = limits_of(request.scope)
    if limits is not None:
        limits.looked_up_in_vain(address_of(request.scope))


def _bearer_token(request: HTTPConnection) -> str:
    for key, value in request.scope["headers"]:
        if key == b"authorization":
            token = _token_in(value)
            if token is not None:
                return token
            raise _unauthorized("write the header as: Authorization: Bearer <token>", invalid=False)
    raise _unauthorized("a token is needed: Authorization: Bearer <token>", invalid=False)


def _token_in(authorization: bytes) -> str | None:
    """The token of an Authorization header; None where the header has another form."""
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


def _unauthorized(detail: str, *, invalid: bool) -> Problem:
    challenge = f'{_REALM}, error="invalid_token"' if invalid else _REALM
    return Problem(401, detail, headers={"WWW-Authenticate": challenge})
