"""Authentication of HTTP requests by bearer token or client certificate, from memory on the hot path.

A verified token is cached. Every second, if there are requests, one query reads which cached tokens are no longer valid
and which signed ones (`kit.auth.signed_tokens`) are revoked, and none is used after 5 s without its result: a revoked
token passes for at most that long, and the database has one query, however many tokens are in use. The query runs in a
thread of its own and the next request applies its result, so it does not wait for the event loop, of which one
iteration takes seconds when thousands of connections have unread requests. While the database does not answer, cached
and signed tokens pass for 5 more minutes (nobody can revoke one either); unknown ones get 503.

A token that expires is not used from that moment on. Which stored tokens were used is written every minute, by one
statement for all.

A request without a token is its certificate's (`kit.auth.client_certificates`), whose station is asked for again in the
same way. Where a device's token and a certificate come together, both have to be accepted, and the token has to be for
the certificate's station: a stolen token is of no use on another's connection. Beside other tokens a certificate says
nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple

from starlette.requests import HTTPConnection

from kit.auth.bearer import (
    NO_ROLE,
    bearer_token,
    check_station,
    forbidden,
    has_authorization,
    token_in,
    unauthorized,
)
from kit.auth.client_certificates import ClientCertificates
from kit.auth.errors import InvalidToken, UnknownKey
from kit.auth.revocations import NONE_REVOKED, SignedRevocations
from kit.auth.scopes import Scope
from kit.auth.signed_tokens import SignedTokens
from kit.auth.token_store import Principal, TokenStore, hash_of, well_formed
from kit.clock import Clock
from kit.errors import Unavailable
from kit.futures import done_within, mark_seen
from kit.observability.logs import get_logger
from kit.validation import COPY_IT_WHOLE
from kit.web.addresses import address_of
from kit.web.limits.requests import QUOTA, RequestLimits, limits_of
from kit.web.problem import Problem
from kit.web.request_scope import CERTIFICATE, PRINCIPAL, PRINCIPALS
from kit.web.route_rules import ACCEPTED

REVOCATION_S: Final = 5.0
AHEAD_S: Final = 4.0  # asked so long before, so that no request waits for an answer that takes less
# Without an answer for so long, the database counts as down; a late one is taken all the same.
ANSWER_S_MAX: Final = 5.0
OUTAGE_S: Final = 300.0
USES_S: Final = 60.0  # from the first use of a token until it is written, with those of all others
CACHE_MAX: Final = 20_000  # tokens; ~800 B each with a few stations: 16 MB. Beyond, the oldest is looked up again
# Well-formed but unknown tokens, so that a misconfigured fleet does not cause a query a request. 32 B each.
REJECTED_MAX: Final = 10_000

TokenCheck = Callable[[], Awaitable[bool]]
"""Whether a token that was accepted for a request would be so now."""

_UNKNOWN: Final = "the token is unknown, revoked or expired; ask an operator for a new one"
_NEVER_S: Final = float("inf")
_log = get_logger(__name__)


class _Answer(NamedTuple):
    gone: set[bytes]  # hashes of cached tokens
    moved: set[str]  # common names of certificates
    revocations: SignedRevocations


class _Query(NamedTuple):
    """A query of the database for the cached tokens that are no longer valid."""

    sent_s: float
    result: Future[_Answer]


class _Guesses(NamedTuple):
    """Tokens of an address that have to be looked up, each of which costs the database a query."""

    limits: RequestLimits
    address: str

    def check(self) -> None:
        """Raises Problem 429 where too many were none."""
        self.limits.check_look_up(self.address)

    def fail(self) -> None:
        """One more is none."""
        self.limits.looked_up_in_vain(self.address)


class _Entry:
    """A cached token."""

    __slots__ = ("principals", "used")

    def __init__(self, principal: Principal) -> None:
        self.principals = (principal,)
        self.used = False  # since its uses were written last

    @property
    def principal(self) -> Principal:
        return self.principals[0]


class Authenticator:
    """Verifies bearer tokens and knows certificates. One a process; used from one event loop."""

    def __init__(
        self,
        store: TokenStore,
        clock: Clock,
        signed: SignedTokens | None = None,
        certificates: ClientCertificates | None = None,
    ) -> None:
        """`signed`: None where only stored tokens are accepted; `certificates`: None where none are."""
        self._store = store
        self._clock = clock
        self._signed = signed
        self._certificates = certificates
        self._revocations: SignedRevocations | None = None  # of signed tokens; None: not known
        self._cached: dict[bytes, _Entry] = {}
        self._rejected: set[bytes] = set()
        self._checked_s = clock.monotonic_s()
        self._due_s = self._checked_s + (REVOCATION_S if signed is None else 0.0)
        self._expiry_s = _NEVER_S  # when the first of the cached tokens expires
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="revocations")
        self._query: _Query | None = None
        self._used: list[_Entry] = []  # each once
        self._writing: asyncio.TimerHandle | asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Write which tokens were used. Call it before the store's database is closed."""
        if self._writing is not None:
            self._writing.cancel()
        await self.write_uses()

    def close(self) -> None:
        """End its thread. Call it in a thread, once the store's database is closed: it waits for a query under way."""
        self._thread.shutdown(cancel_futures=True)

    async def authenticate(self, request: HTTPConnection) -> Principal:
        """The principal of the request; of a signed token with several roles, that of the first in the order of KINDS.

        Raises Problem 401 that says what to do, 403 where a signed token has no known role, and Unavailable.
        """
        for principal in await self._verified(request):
            return principal
        raise Problem(403, NO_ROLE)

    async def require(self, request: HTTPConnection, scope: Scope, *, heeds_stations: bool = False) -> Principal:
        """The first principal of the request's token that has the scope.

        A token that is for some stations only is for a route about one of them, by its path, or for one that itself
        `heeds_stations`. Raises as `authenticate`, Problem 403, and 404 where the station is not its organisation's.
        """
        principals = await self._verified(request)
        for principal in principals:
            if scope in principal.scopes:
                if principal.kind == "device":
                    await self._check_certificate(principal, request)
                if principal.is_limited and not heeds_stations:
                    await self._check_station(principal, request)
                request.scope[ACCEPTED] = scope
                request.scope.setdefault(PRINCIPAL, principal)
                return principal
        raise forbidden(scope, principals)

    def known(self, authorization: bytes, scope: Scope) -> Principal | None:
        """The principal that `require` gives for this header without waiting or verifying, for a route that heeds
        stations; None where it would have to, or refuses the token."""
        token = token_in(authorization)
        if token is None or not self._is_fresh():
            return None
        principals: tuple[Principal, ...] | None
        if self._signed is not None and "." in token:
            principals = None if self._revocations is None else self._signed.known(token)
        else:
            entry = self._cached.get(hash_of(token))
            if entry is None:
                return None
            if not entry.used:
                self._note_use(entry)
            principals = entry.principals
        if principals is not None:
            for principal in principals:
                if scope in principal.scopes:
                    # Whose a station is takes a look at the registry.
                    return None if principal.organisation is not None else principal
        return None

    def known_by_certificate(self, certificate: bytes, authorization: bytes | None, scope: Scope) -> Principal | None:
        """As `known`, for a request that has this certificate, and maybe a token."""
        if authorization is not None:
            by_token = self.known(authorization, scope)
            if by_token is None or by_token.kind != "device" or self._certificates is None:
                return by_token
            device = self._certificates.known(certificate)
            return by_token if device is not None and _agree(by_token, device) else None
        if self._certificates is None or not self._is_fresh():
            return None
        device = self._certificates.known(certificate)
        return device if device is not None and scope in device.scopes else None

    def check_of(self, request: HTTPConnection) -> TokenCheck:
        """For a response that goes on for long: whether the token of this request, which was accepted, still is. One
        that has expired is not: the leeway of a signed one is for requests."""
        scope: Scope = request.scope[ACCEPTED]
        token = bearer_token(request)

        async def check() -> bool:
            try:
                principals = await self._principals(token)
            except (Problem, Unavailable):
                return False
            now_s = self._clock.now_ms() / 1000
            valid = next((one for one in principals if scope in one.scopes and _left_s(one, now_s) > 0), None)
            station_id = _station_in_path(request)
            if valid is None or station_id is None or valid.organisation is None:
                return valid is not None
            try:
                return await self._store.sees(valid.bound, station_id)
            except Unavailable:  # as with revocations: nobody can change it either
                return True

        return check

    async def write_uses(self) -> None:
        """Write which tokens were used since the last time."""
        used, self._used, self._writing = self._used, [], None
        for entry in used:
            entry.used = False
        if not used:
            return
        try:
            await self._store.record_use([entry.principal.token_id for entry in used])
        except Unavailable as error:  # the last use is told for people, and not worth a queue
            _log.warning("token_uses_lost", error=str(error), tokens=len(used))

    async def _check_station(self, principal: Principal, request: HTTPConnection) -> None:
        """Raises Problem 403 and 404, see `require`."""
        station_id = _station_in_path(request)
        check_station(principal, station_id)
        if station_id is None or principal.organisation is None:
            return
        if not await self._store.sees(principal.bound, station_id):
            raise Problem(404, f"there is no station {station_id}")

    async def _check_certificate(self, device: Principal, request: HTTPConnection) -> None:
        """Raises Problem 401 and 403 where the request has a certificate that contradicts the device's token."""
        certificate: bytes | None = request.scope.get(CERTIFICATE)
        if certificate is None or self._certificates is None:
            return
        if not _agree(device, await self._certificates.identify(certificate)):
            raise Problem(403, "the client certificate is of a station that the token is not for: send one of the two")

    async def _verified(self, request: HTTPConnection) -> tuple[Principal, ...]:
        """What the request's token stands for. It is verified once a request."""
        principals: tuple[Principal, ...] | None = request.scope.get(PRINCIPALS)
        if principals is None:
            principals = request.scope[PRINCIPALS] = await self._within_limits(request)
        return principals

    async def _within_limits(self, request: HTTPConnection) -> tuple[Principal, ...]:
        """The token's principals, its request counted. Raises as `authenticate`, and Problem 429."""
        limits = limits_of(request.scope)
        if limits is None:
            return await self._principals_of(request)
        address = address_of(request.scope)
        try:
            principals = await self._principals_of(request, _Guesses(limits, address))
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

    async def _principals_of(self, request: HTTPConnection, guesses: _Guesses | None = None) -> tuple[Principal, ...]:
        """Those of its token, or of its certificate where it has no token."""
        certificate: bytes | None = request.scope.get(CERTIFICATE)
        if certificate is None or self._certificates is None or has_authorization(request):
            return await self._principals(bearer_token(request), guesses)
        if not self._is_fresh():
            await self._refresh()
        return (await self._certificates.identify(certificate, guesses),)

    async def _principals(self, token: str, guesses: _Guesses | None = None) -> tuple[Principal, ...]:
        """One principal for a stored token, one for each role of a signed one. `guesses`: those of the address that
        the token comes from; None: it is no guess, for it was accepted before."""
        if not self._is_fresh():
            await self._refresh()
        if self._signed is not None and "." in token:  # no stored token has one
            if self._revocations is None:
                raise Unavailable("which signed tokens are revoked is not known: PostgreSQL does not answer")
            known = self._signed.known(token)
            if known is not None:
                return known
            try:
                return await _signed_by_a_key_of(self._signed, token)
            except InvalidToken as error:
                raise unauthorized(str(error), invalid=True) from None
        token_hash = hash_of(token)
        entry = self._cached.get(token_hash)
        if entry is None:
            entry = await self._look_up(token, token_hash, guesses)
        if not entry.used:
            self._note_use(entry)
        return entry.principals

    async def _look_up(self, token: str, token_hash: bytes, guesses: _Guesses | None) -> _Entry:
        if not well_formed(token):
            raise unauthorized(COPY_IT_WHOLE, invalid=True)
        if token_hash in self._rejected:
            raise unauthorized(_UNKNOWN, invalid=True)
        if guesses is not None:
            guesses.check()
        principal = await self._store.find(token_hash)
        left_s = _NEVER_S
        if principal is not None and principal.expires_s is not None:
            left_s = principal.expires_s - self._clock.now_ms() / 1000
        if principal is None or left_s <= 0:
            if guesses is not None:
                guesses.fail()
            if len(self._rejected) >= REJECTED_MAX:
                self._rejected.clear()
            self._rejected.add(token_hash)
            raise unauthorized(_UNKNOWN, invalid=True)
        if len(self._cached) >= CACHE_MAX:
            del self._cached[next(iter(self._cached))]
        self._expiry_s = min(self._expiry_s, self._clock.monotonic_s() + left_s)
        entry = self._cached[token_hash] = _Entry(principal)
        return entry

    def _note_use(self, entry: _Entry) -> None:
        """It is written with those of others, within USES_S."""
        entry.used = True
        self._used.append(entry)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(USES_S, self._begin_to_write)

    def _begin_to_write(self) -> None:
        self._writing = asyncio.ensure_future(self.write_uses())

    def _is_fresh(self) -> bool:
        """Whether the cache may be used as it is. Applies the result of a query that is done, and sends the next one
        where it is due soon."""
        if self._query is not None and self._query.result.done():
            self._apply_result(self._query)
        now_s = self._clock.monotonic_s()
        if now_s >= self._expiry_s:
            self._drop_expired(now_s)
        left_s = self._due_s - now_s
        if left_s <= AHEAD_S and self._query is None:
            self._send_query()
        return left_s > 0

    def _drop_expired(self, now_s: float) -> None:
        """Drop tokens that have expired from the cache."""
        wall_s = self._clock.now_ms() / 1000
        self._cached = {key: one for key, one in self._cached.items() if _left_s(one.principal, wall_s) > 0}
        self._expiry_s = now_s + min(
            (_left_s(one.principal, wall_s) for one in self._cached.values()), default=_NEVER_S
        )

    def _send_query(self) -> _Query:
        """Query in the thread which cached tokens are no longer valid."""
        self._rejected.clear()
        stations: dict[str, str] = {}
        if self._certificates is not None:
            self._certificates.retry()
            stations = self._certificates.stations
        if self._signed is not None:
            self._signed.keys.poll()
        asked = self._thread.submit(self._ask, list(self._cached), stations, self._revocations)
        query = self._query = _Query(self._clock.monotonic_s(), asked)
        return query

    def _ask(
        self, token_hashes: list[bytes], stations: dict[str, str], revocations: SignedRevocations | None
    ) -> _Answer:
        known = revocations or NONE_REVOKED
        gone = self._store.gone(token_hashes)
        moved = self._store.certificates_moved(stations) if stations else set()
        return _Answer(gone, moved, known if self._signed is None else self._store.signed_revocations(known))

    def _apply_result(self, query: _Query) -> None:
        """Drop tokens that are no longer valid from the cache."""
        self._query = None
        error = query.result.exception()
        if error is not None:
            self._extend_in_outage(error)
            return
        gone, moved, revocations = query.result.result()
        for token_hash in gone:
            self._cached.pop(token_hash, None)
        if self._certificates is not None:
            self._certificates.forget(moved)
        if self._signed is not None and revocations is not self._revocations:
            self._signed.set_revocations(revocations)
        self._revocations = revocations
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
            if self._certificates is not None:
                self._certificates.clear()
            self._revocations = None
        unforeseen = None if isinstance(error, Unavailable) else error
        _log.warning("revocations_unknown", error=str(error), remembered=len(self._cached), exc_info=unforeseen)
        self._due_s = now_s + REVOCATION_S


async def _signed_by_a_key_of(signed: SignedTokens, token: str) -> tuple[Principal, ...]:
    """Verify a token; where its key is not known, after another look for keys. Raises InvalidToken, Unavailable."""
    try:
        return signed.verify(token)
    except UnknownKey:
        if not await signed.keys.refresh():
            raise
    return signed.verify(token)


def _agree(token: Principal, certificate: Principal) -> bool:
    """Whether the token is for the station of the certificate."""
    return all(token.covers(station_id) for station_id in certificate.stations or ())


def _station_in_path(request: HTTPConnection) -> str | None:
    station_id: str | None = request.scope.get("path_params", {}).get("station_id")
    return station_id


def _left_s(principal: Principal, now_s: float) -> float:
    """Seconds until it expires; never, infinitely many."""
    return _NEVER_S if principal.expires_s is None else principal.expires_s - now_s
