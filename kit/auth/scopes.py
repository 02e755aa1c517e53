"""Who may do what: a role is a set of scopes, and each route names the one scope that it needs.

A scope is `what:how`. `read` changes nothing; what else there is (`write`, `refund`, …) changes something. `_ROLES` is
the only place where a role gets a scope: the routes, their OpenAPI and the test of every route with every role follow.
"""

from collections.abc import Iterable
from typing import Final, Literal, get_args

Scope = Literal[
    "analytics:read",  # figures, CO2 factors, exclusions from uptime
    "analytics:write",
    "audit:read",
    "billing:cancel",
    "billing:credit",
    "billing:issue",  # statements
    "billing:pay",
    "billing:read",  # invoices, payments and balances: a driver's their own
    "billing:read_all",  # charges under review, exports
    "billing:refund",
    "billing:review",
    "billing:settle",  # tells the result of a manual payment
    "config:read",  # of settings those that concern money
    "config:read_all",
    "config:write",
    "credentials:read",  # of stations; without their secrets
    "credentials:write",
    "customers:read",
    "customers:write",
    "deliveries:read",  # of notifications, everybody's
    "demand:read",
    "demand:write",
    "locations:read",  # what a driver needs to know of a station: where it is, and whether it is free
    "notifications:read",
    "notifications:send",
    "parking:read",
    "preferences:read",
    "preferences:write",  # and the secret that webhooks are signed with
    "prices:read",  # what a station costs
    "privacy:erase",  # a driver's data: a driver their own
    "privacy:read",
    "readings:write",
    "reports:read",
    "reports:write",
    "reservations:read",
    "reservations:write",
    "sessions:read",
    "sessions:write",
    "stations:read",  # all of the registry
    "stations:write",
    "tariffs:read",
    "tariffs:write",
    "telemetry:read",
    "telemetry:write",  # items in quarantine: release and replay
    "templates:read",
    "templates:write",
]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

Kind = Literal["admin", "operator", "finance", "support", "auditor", "driver", "device"]
"""A role. Of a signed token with several, the first in this order that has the scope of the route is the one."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_DRIVER: Final[frozenset[Scope]] = frozenset({
    "billing:pay", "billing:read", "locations:read", "notifications:read", "preferences:read", "preferences:write",
    "prices:read", "privacy:erase", "privacy:read", "reservations:read", "reservations:write", "sessions:read",
    "sessions:write",
})  # fmt: skip
_OPERATOR: Final[frozenset[Scope]] = frozenset({
    "analytics:read", "analytics:write", "audit:read", "billing:read", "billing:read_all", "billing:review",
    "config:read", "config:read_all", "config:write", "credentials:read", "credentials:write", "customers:read",
    "customers:write", "deliveries:read", "demand:read", "demand:write", "locations:read", "notifications:read",
    "notifications:send", "parking:read", "preferences:read", "preferences:write", "prices:read", "reports:read",
    "reports:write", "reservations:read", "reservations:write", "sessions:read", "sessions:write", "stations:read",
    "stations:write", "tariffs:read", "tariffs:write", "telemetry:read", "telemetry:write", "templates:read",
    "templates:write",
})  # fmt: skip
_FINANCE: Final[frozenset[Scope]] = frozenset({
    "analytics:read", "billing:cancel", "billing:credit", "billing:issue", "billing:pay", "billing:read",
    "billing:read_all", "billing:refund", "billing:review", "billing:settle", "config:read", "customers:read",
    "customers:write", "locations:read", "prices:read", "reports:read", "reports:write", "stations:read",
    "tariffs:read",
})  # fmt: skip
_READS: Final[frozenset[Scope]] = frozenset(scope for scope in SCOPES if scope.endswith((":read", ":read_all")))

_ROLES: Final[dict[Kind, frozenset[Scope]]] = {
    "admin": frozenset(SCOPES),
    "operator": _OPERATOR,
    "finance": _FINANCE,
    "support": _READS - {"audit:read", "credentials:read", "privacy:read"},
    "auditor": _READS,
    "driver": _DRIVER,
    "device": frozenset({"readings:write"}),
}
assert _ROLES.keys() == set(KINDS)  # noqa: S101  # an error of this file


def scopes_of(kind: Kind, limited_to: Iterable[Scope] | None = None) -> frozenset[Scope]:
    """What a token of this role may do; of that only `limited_to` where it was issued for less."""
    scopes = _ROLES[kind]
    return scopes if limited_to is None else scopes.intersection(limited_to)


def kinds_with(scope: Scope) -> tuple[Kind, ...]:
    """The roles that have the scope, in the order of KINDS."""
    return tuple(kind for kind in KINDS if scope in _ROLES[kind])
