"""How many requests a token may send, and an address whose requests have no accepted token.

Every process counts for itself; processes of the API also share what they counted (`kit.web.limits.shared`). A request
costs a look-up and an addition here, ~0.4 us.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from starlette.types import Scope

from kit.web.addresses import network_of
from kit.web.limits.buckets import Buckets
from kit.web.limits.refusals import MINUTE_S, REQUESTS, UNAUTHENTICATED, Refusals, quota_headers
from kit.web.limits.settings import RequestLimitSettings

if TYPE_CHECKING:
    from kit.auth.token_store import Principal

Lines = tuple[tuple[bytes, bytes], ...]
"""Headers as ASGI has them."""

QUOTA: Final = "voltstream.quota"
"""Key in a request's scope: the headers of its response that say that its token's bound is near."""
_NEAR_S: Final = MINUTE_S / 10  # of the window is left: from then on the client is told
_DEFAULT: Final = RequestLimitSettings()


class SharedRequests(Protocol):
    """What all processes counted together."""

    def wait_s(self, token_id: UUID) -> float:
        """Above 0: the token has sent too many to all processes, for so many seconds."""

    def count(self, token_id: UUID, bound: int, requests: int = 1) -> None:
        """Count requests that were taken; fewer than none are given back."""


class RequestLimits:
    """Of one app. Used from one event loop."""

    def __init__(self, monotonic_s: Callable[[], float], refusals: Refusals) -> None:
        self._settings: Callable[[], RequestLimitSettings] = lambda: _DEFAULT
        self._refusals = refusals
        self._requests: Buckets[int] = Buckets(MINUTE_S, monotonic_s)  # by token
        self._failed: Buckets[str] = Buckets(MINUTE_S, monotonic_s)  # by address
        self._looked_up: Buckets[str] = Buckets(MINUTE_S, monotonic_s)  # in vain, by address
        self.shared: SharedRequests | None = None

    def follow(self, settings: Callable[[], RequestLimitSettings]) -> None:
        """Obey these settings, as they are with each request, instead of the defaults."""
        self._settings = settings

    def spend(self, principal: "Principal") -> Lines:
        """Count a request of that token. The headers that say that its bound is near; none while it is not.

        Raises Problem 429.
        """
        bound = self._bound_of(principal)
        if not bound:
            return ()
        shared = self._shared_of(principal)
        wait_s = 0.0 if shared is None else shared.wait_s(principal.token_id)
        cost_s = MINUTE_S / bound
        left_s = wait_s if wait_s > 0 else self._requests.spend(principal.token_id.int, cost_s, cost_s)
        if left_s > 0:
            raise self._refusals.refuse(REQUESTS, bound, left_s, principal.name)
        if shared is not None:
            shared.count(principal.token_id, bound)
        if left_s < -_NEAR_S:
            return ()
        headers = quota_headers(REQUESTS, bound, int(-left_s / cost_s), math.ceil(MINUTE_S + left_s))
        return tuple((name.lower().encode(), value.encode()) for name, value in headers.items())

    def give_back(self, principal: "Principal") -> None:
        """The request was not answered, and comes again on another way."""
        bound = self._bound_of(principal)
        if bound:
            self._requests.give_back(principal.token_id.int, MINUTE_S / bound)
            shared = self._shared_of(principal)
            if shared is not None:
                shared.count(principal.token_id, bound, -1)

    def check_look_up(self, address: str) -> None:
        """Raise Problem 429 where so many tokens of this address were looked up in vain that no more are: a guess costs
        the database a query. Tokens that are known, or signed, pass."""
        bound = self._settings().unauthenticated_per_minute_max
        if bound:
            wait_s = self._looked_up.wait_s(network_of(address), MINUTE_S / bound)
            if wait_s > 0:
                raise self._refusals.refuse(UNAUTHENTICATED, bound, wait_s, address)

    def looked_up_in_vain(self, address: str) -> None:
        """A token was looked up and is none."""
        bound = self._settings().unauthenticated_per_minute_max
        if bound:
            self._looked_up.spend(network_of(address), MINUTE_S / bound, 0.0)

    def fail(self, address: str) -> None:
        """Count a request without an accepted token. Raises Problem 429."""
        bound = self._settings().unauthenticated_per_minute_max
        if bound:
            cost_s = MINUTE_S / bound
            wait_s = self._failed.spend(network_of(address), cost_s, cost_s)
            if wait_s > 0:
                raise self._refusals.refuse(UNAUTHENTICATED, bound, wait_s, address)

    def _shared_of(self, principal: "Principal") -> SharedRequests | None:
        """Where its requests are summed, too; of a device nowhere: the way of a reading is short."""
        return None if principal.kind == "device" else self.shared

    def _bound_of(self, principal: "Principal") -> int:
        """Requests a minute; 0: any number."""
        settings = self._settings()
        if principal.kind != "device":
            return settings.requests_per_minute_max
        stations = principal.stations
        if stations is None:
            return settings.fleet_requests_per_minute_max
        return settings.station_requests_per_minute_max * (len(stations) or 1)


def limits_of(scope: Scope) -> RequestLimits | None:
    """The limits of the app that answers a request; None: it has none."""
    app = scope.get("app")
    return None if app is None else getattr(app.state, "request_limits", None)
