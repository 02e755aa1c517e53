"""The rules of a route: the scope that it needs and the longest body. They are known before a body is read.

A route declares its rules by dependencies, of its own or of its router: `Depends(require_scope("stations:write"))` or
`Depends(public)`, `Depends(body_bytes_max(n))` where the default bound does not fit, and `Depends(counted)` where the
audit is to count requests by token. An app does not mount a route that is neither public nor needs one scope,
nor one that reads JSON otherwise than `kit.web.json_body` does; `kit.web.request_body` enforces the rules.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from kit.auth.scopes import Kind, kinds_with
from kit.auth.scopes import Scope as TokenScope
from kit.web.json_body import JsonRoute

ACCEPTED: Final = "voltstream.accepted"
"""Key in a request's scope: the kinds for which its token was accepted last, so that it is checked only once."""
BODY_BYTES_MAX: Final = 256 * 1024  # the longest JSON of any service, a full group of stations, is 195 kB


async def public() -> None:
    """Dependency of a route that needs no token."""


async def counted() -> None:
    """Dependency of a route whose requests are so many that the audit counts them by token and minute."""


@dataclass(frozen=True, slots=True)
class BodyBytesMax:
    """Dependency of a route whose bodies have another bound than the default."""

    bytes_max: int

    async def __call__(self) -> None:
        """Do nothing: the bound was enforced while the body was read."""


def body_bytes_max(bytes_max: int) -> BodyBytesMax:
    """The dependency that bounds bodies to `bytes_max`."""
    return BodyBytesMax(bytes_max)


@dataclass(frozen=True, slots=True)
class RouteRules:
    """The scope a route needs (None: it is public), the body's bound, and whether the route itself keeps to the
    stations of a token that is for some only."""

    scope: TokenScope | None
    body_bytes_max: int
    heeds_stations: bool = False
    counted: bool = False  # by the audit, not recorded one by one


class InvalidRouteRules(Exception):
    """A route whose rules are missing or contradict each other: an error in the program."""


def access_of(route: object) -> frozenset[Kind] | Literal["public"] | None:
    """The roles that have the scope of a route; None: it declares no rules, and no app mounts it.

    `route`: what `fastapi.routing.iter_route_contexts(app.routes)` gives, or an APIRoute.
    """
    try:
        rules = rules_of(route)
    except InvalidRouteRules:
        return None
    return "public" if rules.scope is None else frozenset(kinds_with(rules.scope))


def rules_of(route: object) -> RouteRules:
    """The rules that a route declares. Raises InvalidRouteRules."""
    calls = list(_calls(getattr(route, "dependant", None)))
    path = getattr(route, "path", route)
    required = {call.scope: call.heeds_stations for call in calls if hasattr(call, "heeds_stations")}
    if public in calls and required:
        raise InvalidRouteRules(f"{path} is public and needs {', '.join(required)}: leave one of the two out")
    if public not in calls and not required:
        raise InvalidRouteRules(
            f"{path} declares no access rule: add Depends(require_scope(…)), or Depends(public) if it needs no token"
        )
    bounds = [call.bytes_max for call in calls if isinstance(call, BodyBytesMax)]
    bytes_max = min(bounds, default=BODY_BYTES_MAX)
    is_counted = counted in calls
    if not required:
        return RouteRules(None, bytes_max, counted=is_counted)
    if len(required) > 1:
        raise InvalidRouteRules(f"{path} needs {' and '.join(required)}: a route needs one scope; leave the others out")
    ((scope, heeds_stations),) = required.items()
    return RouteRules(scope, bytes_max, heeds_stations, is_counted)


def check_rules(routes: Iterable[object]) -> None:
    """Raises InvalidRouteRules where a route's rules are missing or contradict each other, or its JSON is read
    otherwise than `JsonRoute` does."""
    for route in routes:
        rules_of(route)
        original = getattr(route, "original_route", route)
        if getattr(original, "body_field", None) is not None and not isinstance(original, JsonRoute):
            path = getattr(route, "path", route)
            raise InvalidRouteRules(f"{path} has a body that is not checked: give its router route_class=JsonRoute")


def _calls(dependant: Any) -> Iterator[Any]:
    """The dependencies of a route, at every depth."""
    for inner in () if dependant is None else dependant.dependencies:
        yield inner.call
        yield from _calls(inner)
