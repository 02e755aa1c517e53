"""The HTTP client of the `stripe` library: it sends what a request needs, and nothing about the machine.

The library's own client reports the platform, the process's environment and the time of the last request. Its global
switch stops a part of that; this one sends only the headers that the API requires.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import httpx
import stripe

_HEADERS: Final = frozenset({"authorization", "content-type", "idempotency-key", "stripe-version"})
_USER_AGENT: Final = "voltstream"


class QuietClient(stripe.HTTPClient):
    """The library's HTTP client, on httpx."""

    name = "httpx"

    def __init__(self, timeout_s: int, sleep: Callable[[Any], Awaitable[None]] = asyncio.sleep) -> None:
        """`sleep` makes the pauses between tries."""
        super().__init__()
        self._client = httpx.AsyncClient(timeout=timeout_s)
        self._sleep = sleep

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """See stripe.HTTPClient."""
        sent = {name: value for name, value in headers.items() if name.lower() in _HEADERS}
        sent["User-Agent"] = _USER_AGENT
        try:
            response = await self._client.request(method, url, headers=sent, content=post_data or None)
        except httpx.HTTPError as error:
            # Every try has the same idempotency key, so one whose response was lost is safe to repeat.
            raise stripe.APIConnectionError(type(error).__name__, should_retry=True) from error  # type: ignore[no-untyped-call]  # theirs
        return response.content, response.status_code, response.headers

    def sleep_async(self, secs: Any) -> Awaitable[None]:
        """See stripe.HTTPClient."""
        return self._sleep(secs)

    async def close_async(self) -> None:
        """See stripe.HTTPClient."""
        await self._client.aclose()
