"""How readings are sent: by HTTP, as AMQP events, or to a callable in the same process; at least once each.

A transport returns a receipt only for what the platform took responsibility for. While the platform is unreachable or
overloaded the same content is sent again, until `patience_s` is used up.
"""

import asyncio
import gzip
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, Protocol
from uuid import UUID, uuid4

import httpx
import msgspec
import zstandard

from kit.clock import Clock, format_rfc3339
from kit.errors import Overloaded, Unavailable
from kit.messaging.bus import EVENT_ID, Bus, Message
from kit.retry import reconnect_pauses_s
from schemas.events import envelope_of
from schemas.topics import TELEMETRY_GENERATED
from simulator.encode import CONTENT_TYPES, Format
from simulator.errors import Rejected

TELEMETRY_PATH: Final = "/api/v1/telemetry"
PATIENCE_S: Final = 120.0  # a broker's restart takes 10 to 30 s; four of them in a row are an outage to report
FIRST_CONTACT_S: Final = 10.0  # to a host that never answered yet: the URL is more likely wrong than the host busy
RETRY_AFTER_S_MAX: Final = 30.0  # the longest wait that a server may ask for
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)  # a durable 202 waits for a broker: its publish time-out is 10 s
_GZIP_LEVEL: Final = 1  # a device's processor is small

Sleep = Callable[[float], Awaitable[None]]


class Encoding(StrEnum):
    """Content-Encoding of a body."""

    IDENTITY = "identity"
    GZIP = "gzip"
    ZSTD = "zstd"


class ReceiptItem(msgspec.Struct, frozen=True):
    """One item the platform kept but did not take as a reading."""

    index: int
    reason: str


class Receipt(msgspec.Struct, frozen=True):
    """What the platform took responsibility for: the answer to one request."""

    accepted: Annotated[int, msgspec.Meta(ge=0)]
    quarantined: list[ReceiptItem] = []


_receipt: Final = msgspec.json.Decoder(Receipt)


@dataclass(slots=True)
class Tally:
    """Counts of the outcomes of everything sent so far."""

    sent: int = 0  # readings in acknowledged requests, those quarantined included
    accepted: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)  # by reason
    requests: int = 0  # acknowledged
    retried: int = 0  # requests sent again

    def add(self, count: int, receipt: Receipt) -> None:
        """Count one acknowledged request of `count` readings."""
        self.sent += count
        self.accepted += receipt.accepted
        self.quarantined.update(item.reason for item in receipt.quarantined)
        self.requests += 1


class Transport(Protocol):
    """Sends bodies, and counts the outcomes."""

    tally: Tally

    async def send(self, body: bytes, form: Format, count: int) -> Receipt:
        """Return once the platform has acknowledged the body's `count` readings.

        Raises Unavailable when patience is used up (the body may have arrived or not), Rejected when the platform
        refuses it.
        """

    async def close(self) -> None:
        """Release everything."""


class _Patience:
    """Pauses between attempts of one send; counts them in the tally."""

    def __init__(self, clock: Clock, sleep: Sleep, patience_s: float, tally: Tally) -> None:
        self._clock, self._sleep, self._tally = clock, sleep, tally
        self._pauses_s: Iterator[float] = reconnect_pauses_s()
        self._start_s = clock.monotonic_s()
        self._patience_s = patience_s

    def shorten(self, patience_s: float) -> None:
        """Give up after that long at the latest."""
        self._patience_s = min(self._patience_s, patience_s)

    async def pause(self, why: str, at_least_s: float = 0.0) -> None:
        """Wait before the next attempt. Raises Unavailable where it would come too late."""
        pause_s = max(next(self._pauses_s), min(at_least_s, RETRY_AFTER_S_MAX))
        if self._clock.monotonic_s() + pause_s > self._start_s + self._patience_s:
            raise Unavailable(f"not within {self._patience_s:g} s: {why}")
        self._tally.retried += 1
        await self._sleep(pause_s)


class HttpTransport:
    """POST /api/v1/telemetry over kept-alive connections."""

    def __init__(
        self,
        url: str,
        token: str,
        clock: Clock,
        *,
        encoding: Encoding = Encoding.IDENTITY,
        connections: int = 8,
        patience_s: float = PATIENCE_S,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`url` is the platform's base URL. Closed by `close`."""
        self.tally = Tally()
        self._clock, self._sleep, self._patience_s, self._encoding = clock, sleep, patience_s, encoding
        self._answered = False  # by that host, ever
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, limits=limits, timeout=_TIMEOUT, trust_env=False
        )

    async def send(self, body: bytes, form: Format, count: int) -> Receipt:
        """See Transport."""
        content, headers = compress(body, self._encoding), {"Content-Type": CONTENT_TYPES[form]}
        if self._encoding is not Encoding.IDENTITY:
            headers["Content-Encoding"] = self._encoding
        patience = _Patience(self._clock, self._sleep, self._patience_s, self.tally)
        while True:
            try:
                response = await self._client.post(TELEMETRY_PATH, content=content, headers=headers)
            except httpx.TransportError as error:
                if not self._answered:
                    patience.shorten(FIRST_CONTACT_S)
                await patience.pause(f"{self._client.base_url}: {error!r}")
                continue
            self._answered = True
            if response.status_code == httpx.codes.ACCEPTED:
                receipt = _read_receipt(response.content)
                self.tally.add(count, receipt)
                return receipt
            problem = _problem(response)
            if response.status_code < 500 and response.status_code not in (408, 425, 429):
                raise Rejected(problem, response.status_code)
            await patience.pause(problem, _retry_after_s(response))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class BusTransport:
    """`telemetry.generated.v1` events on a bus. The platform answers nothing: confirmed by the broker is accepted."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        *,
        source: str = "simulator",
        patience_s: float = PATIENCE_S,
        sleep: Sleep = asyncio.sleep,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        """The caller closes the bus."""
        self.tally = Tally()
        self._bus, self._clock, self._source = bus, clock, source
        self._sleep, self._patience_s, self._new_id = sleep, patience_s, new_id

    async def send(self, body: bytes, form: Format, count: int) -> Receipt:
        """See Transport. Raises ValueError unless `form` is JSON: an event is JSON."""
        if form is not Format.JSON:
            raise ValueError("an event is JSON: use Format.JSON over AMQP")
        message = self._event(body)
        patience = _Patience(self._clock, self._sleep, self._patience_s, self.tally)
        while True:
            try:
                await self._bus.publish(message)
            except Overloaded as error:
                await patience.pause(str(error), error.retry_after_s)
            except Unavailable as error:
                await patience.pause(str(error))
            else:
                receipt = Receipt(accepted=count)
                self.tally.add(count, receipt)
                return receipt

    def _event(self, readings: bytes) -> Message:
        event_id = self._new_id()
        timestamp, payload = format_rfc3339(self._clock.now_ms()), {"readings": msgspec.Raw(readings)}
        envelope = envelope_of(TELEMETRY_GENERATED, event_id, payload, source=self._source, timestamp=timestamp)
        return Message(envelope.exchange, envelope.routing_key, envelope.encoded(), {EVENT_ID: str(event_id)})

    async def close(self) -> None:
        """There is nothing to release."""


Deliver = Callable[[bytes, str], Awaitable[bytes]]  # body, content type -> the body of the 202


class CallableTransport:
    """Hands bodies to a coroutine function in the same process, that answers as the gateway does."""

    def __init__(
        self, deliver: Deliver, clock: Clock, *, patience_s: float = PATIENCE_S, sleep: Sleep = asyncio.sleep
    ) -> None:
        """`deliver` raises Overloaded or Unavailable where the gateway would say 503."""
        self.tally = Tally()
        self._deliver, self._clock, self._sleep, self._patience_s = deliver, clock, sleep, patience_s

    async def send(self, body: bytes, form: Format, count: int) -> Receipt:
        """See Transport."""
        patience = _Patience(self._clock, self._sleep, self._patience_s, self.tally)
        while True:
            try:
                receipt = _read_receipt(await self._deliver(body, CONTENT_TYPES[form]))
            except Overloaded as error:
                await patience.pause(str(error), error.retry_after_s)
            except Unavailable as error:
                await patience.pause(str(error))
            else:
                self.tally.add(count, receipt)
                return receipt

    async def close(self) -> None:
        """There is nothing to release."""


def compress(body: bytes, encoding: Encoding) -> bytes:
    """The body as that Content-Encoding has it; the same bytes for the same body."""
    if encoding is Encoding.GZIP:
        return gzip.compress(body, _GZIP_LEVEL, mtime=0)
    return zstandard.ZstdCompressor(level=1).compress(body) if encoding is Encoding.ZSTD else body


def _read_receipt(body: bytes) -> Receipt:
    try:
        return _receipt.decode(body)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"202 without a receipt: {error}; is this voltstream's URL?", 202) from error


def _problem(response: httpx.Response) -> str:
    try:
        document = msgspec.json.decode(response.content)
        words = document.get("detail") or document.get("title") if isinstance(document, dict) else None
    except (ValueError, RecursionError):
        words = None
    return f"{response.status_code}: {words or response.reason_phrase}"


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0  # the gateway sends seconds, never a date
