"""Who sent a request, and from where."""

from contextvars import ContextVar
from typing import Final, Protocol
from uuid import UUID

from starlette.types import Scope

from kit.audit.entry import Actor, Token
from kit.web.addresses import address_of, network_of
from kit.web.request_scope import PRINCIPAL, PRINCIPALS, selected_route

current_request: Final[ContextVar[Scope | None]] = ContextVar("audited_request", default=None)
"""The ASGI scope of the request that is handled; None outside of one."""


class KnownActor(Protocol):
    """A Principal, as the audit needs it."""

    @property
    def name(self) -> str:
        """Kind, and subject or the token's id: operator/ada."""

    @property
    def kind(self) -> str:
        """The kind of token."""

    @property
    def token_id(self) -> UUID:
        """The token's id, which says nothing of the token."""


def actor_of(scope: Scope) -> Actor:
    """Who sent the request, as far as it is known by now."""
    principal: KnownActor | None = scope.get(PRINCIPAL)
    if principal is None:  # refused, or not asked yet
        principal = next(iter(scope.get(PRINCIPALS, ())), None)
    address = network_of(address_of(scope))
    if principal is None:
        return Actor(address=address)
    authorization = next((value for key, value in scope["headers"] if key == b"authorization"), b"")
    return actor_for(principal, address, authorization)


def actor_for(principal: KnownActor, address: str, authorization: bytes) -> Actor:
    """The actor that a verified token stands for. `authorization`: the header that it came in."""
    return Actor(principal.name, principal.kind, token_kind(authorization), principal.token_id, address)


def token_kind(authorization: bytes) -> Token:
    """How somebody who is known was verified: no stored token in the header has a point; without it by certificate."""
    if not authorization:
        return "certificate"
    return "signed" if b"." in authorization else "stored"


def endpoint_of(scope: Scope) -> str | None:
    """The template of the route that took the request."""
    template = getattr(selected_route(scope), "path_format", None)  # without convertors
    return template if isinstance(template, str) else None
