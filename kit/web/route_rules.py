"""The rules of a route: the kinds of token it accepts and the longest body. They are known before a body is read.

A route declares its rules by dependencies, of its own or of its router: `Depends(require_kinds("operator"))` or
`Depends(public)`, `Depends(body_bytes_max(n))` where the default bound does not fit, and `Depends(counted)` where the
audit is to count requests by token. An app does not mount a route that is neither public nor for some kinds of token,
nor one that reads JSON otherwise than `kit.web.json_body` does; `kit.web.request_body` enforces the rules.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from kit.web.json_body import JsonRoute

if TYPE_CHECKING:  # at run time the rules need no token store, and a worker has none
    from kit.auth.token_store import Kind

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
    """The kinds of token a route accepts, preferred ones first (None: it is public), and the body's bound."""

    kinds: "tuple[Kind, ...] | None"
    body_bytes_max: int
    counted: bool = False  # by the audit, not recorded one by one


class InvalidRouteRules(Exception):
    """A route whose rules are missing or contradict each other: an error in the program."""


def access_of(route: object) -> 'frozenset[Kind] | Literal["public"] | None':
    """The kinds of token that a route accepts; None: it declares no rules, and no app mounts it.

    `route`: what `fastapi.routing.iter_route_contexts(app.routes)` gives, or an APIRoute.
    """
    try:
        rules = rules_of(route)
    except InvalidRouteRules:
        return None
    return "public" if rules.kinds is None else frozenset(rules.kinds)


def rules_of(route: object) -> RouteRules:
    """The rules that a route declares; a token must satisfy all rules of kinds. Raises InvalidRouteRules."""
    calls = list(_calls(getattr(route, "dependant", None)))
    path = getattr(route, "path", route)
    required = [call.kinds for call in calls if hasattr(call, "kinds")]
    if public in calls and required:
        raise InvalidRouteRules(f"{path} is public and requires tokens of {required[0]}: leave one of the two out")
    if public not in calls and not required:
        raise InvalidRouteRules(
            f"{path} declares no access rule: add Depends(require_kinds(…)), or Depends(public) if it needs no token"
        )
    bounds = [call.bytes_max for call in calls if isinstance(call, BodyBytesMax)]
    bytes_max = min(bounds, default=BODY_BYTES_MAX)
    is_counted = counted in calls
    if not required:
        return RouteRules(None, bytes_max, is_counted)
    kinds = tuple(kind for kind in required[0] if all(kind in others for others in required))
    if not kinds:
        raise InvalidRouteRules(f"{path} takes no token at all: its rules {required} exclude each other")
    return RouteRules(kinds, bytes_max, is_counted)


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
