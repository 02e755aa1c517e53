"""What is noted in the ASGI scope of a request, by whom and for whom."""

from typing import Final

from starlette.types import Scope

PRINCIPALS: Final = "voltstream.principals"
"""Key in the scope of a request whose token is verified: its principals."""
PRINCIPAL: Final = "voltstream.principal"
"""Key in the scope of a request whose token was accepted: for which principal first, by the route's rules."""
CERTIFICATE: Final = "voltstream.client_certificate"
"""Key in the scope of a request whose client showed a trusted proxy a certificate: its header's value."""


def selected_route(scope: Scope) -> object:
    """The route that took the request, as `kit.web.route_rules` understands it; None before there is one."""
    # FastAPI keeps the route of an included router, with the router's path and dependencies, in its part of the scope.
    return scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
