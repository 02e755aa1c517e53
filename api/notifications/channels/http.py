"""What the channels over HTTP have in common: a bounded answer, and what its status means."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from api.notifications.channels.channel import Gone, Outcome, Receipt, Rejected, RetryAfter, reason_of
from kit.masking import mask_secrets

ANSWER_BYTES_MAX: Final = 64 * 1024  # read of an answer; providers send hundreds of bytes
RETRY_AFTER_S_MAX: Final = 86_400.0
CONNECTIONS_MAX: Final = 32
_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, its body cut at ANSWER_BYTES_MAX."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """Status and the beginning of the body, without secrets."""
        return reason_of(mask_secrets(f"HTTP {self.status} {self.body[:200].decode('utf-8', 'replace')}"))

    def outcome(self, now: datetime, receipt: str = "") -> Outcome:
        """By the status alone: 2xx taken, 410 gone, 429 and 503 with Retry-After then, 401, 403, 408, 425, other 429
        and 5xx later, all else never."""
        if 200 <= self.status < 300:
            return Receipt(receipt)
        if self.status == _GONE:
            return Gone(self.reason)
        if self.status in (401, 403, 408, 425, 429) or self.status >= 500:
            return RetryAfter(retry_after_s(self.headers.get("retry-after"), now), self.reason)
        return Rejected(self.reason)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds of a Retry-After header, a number or a date (RFC 9110, section 10.2.3); None: none that can be read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:9]), RETRY_AFTER_S_MAX)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), RETRY_AFTER_S_MAX)


class HttpSender:
    """A client that follows no redirect, uses no proxy of the environment, and reads a bounded part of an answer."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s`: of each step of a request, as connecting or the next part of the answer."""
        self._client = httpx.AsyncClient(
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
        )

    async def post(self, url: str, **request: Any) -> Answer:
        """The answer to a POST. Raises OSError where there is none."""
        async with _transport_errors(), self._client.stream("POST", url, **request) as response:
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= ANSWER_BYTES_MAX:
                    break
            return Answer(response.status_code, response.headers, body[:ANSWER_BYTES_MAX])

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


@asynccontextmanager
async def _transport_errors() -> AsyncIterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise TimeoutError(f"no answer in time ({type(error).__name__})") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"no answer: {type(error).__name__}: {error}") from error
