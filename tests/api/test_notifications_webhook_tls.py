"""The certificate of a webhook's receiver, by the name that the address has, on real TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from api.notifications.channels.channel import Outcome, OutgoingMessage, Receipt
from api.notifications.channels.http import HttpSender
from api.notifications.channels.webhook import WebhookChannel
from kit.clock import ManualClock
from tests.certificates import Authority

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
TIMEOUT_S = 5


@dataclass
class Receiver:
    """A server that takes whatever comes and keeps its connections open."""

    port: int = 0
    hosts: list[str] = field(default_factory=list)  # that requests named

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the client ends the connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                await reader.readexactly(int(fields["content-length"]))
                self.hosts.append(fields["host"].partition(":")[0])
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver_of(authority: Authority, host: str) -> AsyncIterator[Receiver]:
    """A receiver with the certificate of `host`, on a free port of the loopback address."""
    files = authority.server(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    made = Receiver()
    server = await asyncio.start_server(made.talk, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


@asynccontextmanager
async def channel_trusting(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WebhookChannel]:
    """A channel that takes this authority for a public one, and for which every name is this machine."""

    async def resolved(host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("certifi.where", lambda: str(authority.file))
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    channel = WebhookChannel("k" * 32, HttpSender(TIMEOUT_S), ManualClock(NOW), allow_private=True)
    try:
        yield channel
    finally:
        await channel.close()


async def sent(channel: WebhookChannel, url: str) -> Outcome:
    return await channel.send(OutgoingMessage(UUID(int=1), "invoice", "driver/D1", url, "t", "b", None, "en", NOW, {}))


async def test_the_certificate_is_of_the_name_in_the_address_for_every_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a second name at the address to which there was a connection just now: its certificate is for another."""
    authority = Authority(tmp_path, "public")
    async with (
        receiver_of(authority, "one.example") as receiver,
        channel_trusting(authority, monkeypatch) as channel,
    ):
        for _ in range(2):
            assert isinstance(await sent(channel, f"https://one.example:{receiver.port}/hook"), Receipt)
            with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
                await sent(channel, f"https://other.example:{receiver.port}/hook")
        assert receiver.hosts == ["one.example", "one.example"]


async def test_a_certificate_that_nobody_public_signed_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        receiver_of(Authority(tmp_path / "own", "own"), "one.example") as receiver,
        channel_trusting(Authority(tmp_path, "public"), monkeypatch) as channel,
    ):
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await sent(channel, f"https://one.example:{receiver.port}/hook")
        assert receiver.hosts == []
