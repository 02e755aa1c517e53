"""Routes whose bodies have a bound, whatever the sender says of their size, and are read exactly."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from api.pricing.documents.exact_json import ExactRequest

BODY_BYTES_MAX: Final = 256 * 1024  # a tariff at every bound of schemas/tariff.py is 150 kB, a full group 195 kB


class BoundedRoute(APIRoute):
    """A route that answers 413 where the body is longer than BODY_BYTES_MAX, and reads no more of it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handle(ExactRequest(request.scope, _bounded(request.receive)))

        return bounded


def _bounded(receive: Receive) -> Receive:
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > BODY_BYTES_MAX:
            # Of all exceptions only this one is not taken for a body that is no JSON.
            raise HTTPException(413, f"the body is larger than {BODY_BYTES_MAX // 1024} KiB: send less")
        return message

    return counted
