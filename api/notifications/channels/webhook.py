"""Signed webhooks, as the Standard Webhooks specification has them.

A receiver verifies `webhook-signature`, the HMAC-SHA256 of `id.timestamp.body` by its own secret, refuses old
timestamps, and tells repetitions by `webhook-id`.
"""

import asyncio
import socket
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from api.notifications.channels.channel import Outcome, OutgoingMessage, Rejected, RetryAfter
from api.notifications.channels.hosts import is_public
from api.notifications.channels.http import HttpSender
from api.notifications.channels.signing import secret_of, signature_of
from kit.clock import Clock, format_rfc3339

_FOR_GOOD: Final = frozenset({400, 405, 413, 414, 415, 422})  # the receiver would answer the same again


class PrivateAddress(Exception):
    """The host's address is not one of the public internet."""


class WebhookChannel:
    """See SendingChannel. An address is an https URL.

    The host is resolved here, every address of it must be public, and the connection goes to the address that was
    checked: a name that points elsewhere a moment later leads nowhere. No connection is used twice: the client knows
    it by its address, at which other names may have been, and the certificate was looked at for one name alone.
    """

    def __init__(self, key: str, http: HttpSender, clock: Clock, *, allow_private: bool) -> None:
        """Owns `http`."""
        self._key = key
        self._http = http
        self._clock = clock
        self._allow_private = allow_private

    async def send(self, message: OutgoingMessage) -> Outcome:
        """See SendingChannel."""
        url = urlsplit(message.address)
        if url.scheme != "https" and not self._allow_private:
            return Rejected("a webhook's address begins with https://")
        try:
            address = await self._checked_address(url)
        except PrivateAddress as error:
            return Rejected(str(error))
        body = msgspec.json.encode(_document(message))
        timestamp_s = self._clock.now_ms() // 1_000
        headers = {
            "Host": url.netloc.rpartition("@")[2],
            "Content-Type": "application/json",
            "Connection": "close",
            "webhook-id": str(message.id),
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": signature_of(
                secret_of(self._key, message.subject), str(message.id), timestamp_s, body
            ),
        }
        host = f"[{address}]" if ":" in address else address
        target = url._replace(netloc=f"{host}:{_port_of(url)}", fragment="").geturl()
        answer = await self._http.post(
            target, content=body, headers=headers, extensions={"sni_hostname": url.hostname or ""}
        )
        if 300 <= answer.status < 400:
            return Rejected(f"HTTP {answer.status}: redirects are not followed; give the final address")
        outcome = answer.outcome(self._clock.now())
        if isinstance(outcome, Rejected) and answer.status not in _FOR_GOOD:
            return RetryAfter(None, outcome.reason)  # 404 while it is deployed, and the like
        return outcome

    async def _checked_address(self, url: SplitResult) -> str:
        """An address of the host. Raises PrivateAddress, OSError where it has none."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(url.hostname or "", _port_of(url), type=socket.SOCK_STREAM)
        except (UnicodeError, ValueError) as error:
            raise OSError(f"no such host: {error}") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    raise PrivateAddress("the host's address is private; webhooks go to public addresses only")
        return addresses[0]

    async def close(self) -> None:
        """See SendingChannel."""
        await self._http.close()


def _port_of(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _document(message: OutgoingMessage) -> dict[str, Any]:
    return {
        "type": message.kind,
        "timestamp": format_rfc3339(message.created_at),
        "data": dict(message.context),
        "title": message.title,
        "text": message.body,
    }
