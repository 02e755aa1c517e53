"""The notifications service: events and requests go in, scripted channels take what is sent."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import httpx
import msgspec
from prometheus_client import CollectorRegistry

from api.notifications.channels.channel import Attachment, Outcome, OutgoingMessage, Receipt
from api.notifications.components import NotificationComponents, notifications_of
from api.notifications.declaration import SERVICE
from api.notifications.deliveries.invoice_pdf import InvoicePdfs
from api.notifications.kinds import CHANNELS, Channel
from api.notifications.notices.buckets import Buckets, InProcessBuckets
from api.notifications.settings import NotificationSettings
from kit.auth.authenticator import Authenticator
from kit.auth.scopes import KINDS
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock
from kit.database.postgres import open_database
from kit.messaging.bus import EVENT_ID, InProcessBus, Message
from kit.retry import RetryPolicy
from kit.service import Context
from kit.web.app import make_app
from kit.web.serving.server import serve
from schemas.events import Envelope, InvoiceChanged, ReservationChanged, StatusChange, envelope_of
from schemas.topics import INVOICE_CREATED
from tests.serving import Opened, open_service
from voltstream.settings import load_settings

PATH = "/api/v1/notifications"
NAMESPACE = UUID("00000000-0000-4000-8000-000000000012")
POLICY = RetryPolicy.model_validate({"default": {"first_s": 0.01, "ceiling_s": 0.02, "attempts_max": 2}})
ADDRESSES = {
    "email": "d1@example.com",
    "push": "token-1",
    "sms": "+31612345678",
    "webhook": "https://example.com/hook",
    "chat": "ops",
}
KEY = "k" * 32
Answer = Callable[[OutgoingMessage], Outcome]


@dataclass
class ScriptedChannel:
    """Takes everything, or does as `answer` says."""

    answer: Answer | None = None
    taken: list[OutgoingMessage] = field(default_factory=list)

    async def send(self, message: OutgoingMessage) -> Outcome:
        """See SendingChannel."""
        self.taken.append(message)
        await asyncio.sleep(0)
        return self.answer(message) if self.answer is not None else Receipt("taken")

    async def close(self) -> None:
        """See SendingChannel."""


@dataclass
class ScriptedPdfs:
    """In the place of billing."""

    error: Exception | None = None

    async def __call__(self, invoice_id: UUID, own: str | None) -> tuple[str, bytes]:
        """The number and the PDF."""
        if self.error is not None:
            raise self.error
        return f"N-{invoice_id}", b"%PDF-" + invoice_id.bytes


class Harness:
    """The service at work."""

    def __init__(
        self,
        service: Opened[NotificationComponents],
        clock: ManualClock,
        bus: InProcessBus,
        channels: dict[Channel, ScriptedChannel],
        client: httpx.AsyncClient,
        tokens: dict[str, str],
        pdfs: ScriptedPdfs,
        base_url: str,
    ) -> None:
        self.service = service
        self.clock = clock
        self.bus = bus
        self.channels = channels
        self.client = client
        self.tokens = tokens
        self.pdfs = pdfs
        self.base_url = base_url
        self.database = service.database
        self.sender = service.components.sender

    async def ask(
        self, method: str, path: str, status: int, body: Any = None, who: str = "operator", **more: Any
    ) -> Any:
        """The answer's JSON, after a look at its status. `more`: of the query; `key`: the Idempotency-Key."""
        headers = {"authorization": f"Bearer {self.tokens[who]}"}
        if (key := more.pop("key", None)) is not None:
            headers["idempotency-key"] = key
        names = {"start": "from", "end": "to"}
        params = {names.get(name, name): value for name, value in more.items()}
        answer = await self.client.request(method, PATH + path, json=body, params=params or None, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def prefer(self, subject: str = "driver/D1", status: int = 200, **preferences: Any) -> Any:
        """Set preferences, with an address for each channel unless others are given."""
        body = {"addresses": ADDRESSES if not subject.startswith("driver/") else _without_chat(), **preferences}
        return await self.ask("PUT", "/preferences", status, body, subject=subject)

    async def deliver(self, *messages: Message) -> None:
        """Deliver them one after the other."""
        for one in messages:
            await self.bus.publish(one)

    async def deliver_at_once(self, *messages: Message) -> None:
        """Deliver them all at the same time."""
        await asyncio.gather(*(self.bus.publish(one) for one in messages))

    async def send_all(self) -> None:
        """Attempt what is due now, until nothing is."""
        for channel in CHANNELS:
            while await self.sender.send_due(channel):
                pass

    async def rows(self, query: str = "") -> list[dict[str, Any]]:
        """All deliveries with their notifications, oldest first."""
        rows = await self.database.fetch(
            "SELECT n.kind, n.subject, n.category, n.event_id, d.* FROM notifications.delivery AS d "
            "JOIN notifications.notification AS n ON n.id = d.notification_id "
            f"{query} ORDER BY d.created_at, n.subject, d.channel"
        )
        return [dict(row) for row in rows]

    async def states(self) -> Counter[str]:
        """Deliveries by their state."""
        return Counter(row["state"] for row in await self.rows())

    async def published(self) -> list[Envelope]:
        """The events that it has published, in order."""
        rows = await self.database.fetch("SELECT body FROM notifications.outbox ORDER BY id")
        return [msgspec.json.decode(row[0], type=Envelope) for row in rows]

    def sent(self, channel: Channel) -> list[OutgoingMessage]:
        """What the channel was given."""
        return self.channels[channel].taken

    async def empty(self) -> None:
        """Empty all tables and channels."""
        for table in (
            "delivery", "notification", "recipient", "template", "alarm", "station", "connector_status", "session",
            "outbox", "events_processed", "idempotency",
        ):  # fmt: skip
            await self.database.execute(f"DELETE FROM notifications.{table}")
        for channel in self.channels.values():
            channel.taken.clear()
            channel.answer = None


@asynccontextmanager
async def notifications_harness(
    url: str,
    now: datetime,
    *,
    channels: Sequence[Channel] = CHANNELS,
    buckets: Buckets | None = None,
    rate: int = 10_000,
    **settings: Any,
) -> AsyncIterator[Harness]:
    """The service on a database that has its schema, served, over the in-process bus; it sends when it is told to."""
    clock, scripted = ManualClock(now), {channel: ScriptedChannel() for channel in channels}
    bus, pdfs = InProcessBus(POLICY, sleep=lambda _: asyncio.sleep(0)), ScriptedPdfs()
    own = load_settings(
        notification_rate_per_h=rate, chat_urls={"ops": "json://localhost"}, webhook_key=KEY, **settings
    )

    @asynccontextmanager
    async def opened(context: Context) -> AsyncIterator[NotificationComponents]:
        source = InvoicePdfs(context.group(NotificationSettings), lambda: pdfs)
        yield notifications_of(context, scripted, buckets or InProcessBuckets(), source)

    access = await open_database(url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens: dict[str, str] = {
        kind: (await store.issue(kind, subject="D1" if kind == "driver" else None))[0] for kind in KINDS
    }
    app = make_app("notifications", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(store, clock)
    try:
        async with (
            open_service(replace(SERVICE, open=opened), url, clock, app=app, settings=own) as service,
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False) as client,
        ):
            await service.consume(bus)
            yield Harness(service, clock, bus, scripted, client, tokens, pdfs, server.url)
            await bus.close()
    finally:
        await bus.close()
        await access.close()


def message(type_: str, name: str, payload: Any) -> Message:
    """An event as it comes from the bus; the same name is the same event."""
    event_id = uuid5(NAMESPACE, f"{type_}/{name}")
    envelope = envelope_of(type_, event_id, payload, source="tests", timestamp="2026-03-29T09:00:00.000Z")
    return Message(envelope.exchange, envelope.routing_key, envelope.encoded(), {EVENT_ID: str(event_id)})


def event_id_of(one: Message) -> UUID:
    """The id of the event."""
    return UUID(one.headers[EVENT_ID])


def invoice_created(name: str = "1", driver_id: str | None = "D1", kind: str = "invoice") -> Message:
    """invoice.created.v1"""
    payload = InvoiceChanged(
        invoice_id=uuid5(NAMESPACE, name),
        number=f"2026-{name}",
        kind=kind,
        session_id=uuid5(NAMESPACE, f"session {name}"),
        reservation_id=None,
        driver_id=driver_id,
        version=1,
        status="issued",
        currency="EUR",
        total_excl_micros=10_000_000,
        total_incl_micros=12_100_000,
        payable_minor=1_210,
        replaces=None,
    )
    return message(INVOICE_CREATED, f"{name}/{driver_id}/{kind}", payload)


def reservation(name: str = "R-1", **more: Any) -> ReservationChanged:
    """A reservation's change."""
    given: dict[str, Any] = {
        "reservation_id": name,
        "revision": 1,
        "station_id": "ST-1",
        "connector_id": 1,
        "bay": None,
        "driver_id": "D1",
        "starts_at": "2026-03-29T10:00:00.000Z",
        "ends_at": "2026-03-29T11:00:00.000Z",
        "status": "held",
        "reason": None,
        "moved_from": None,
        **more,
    }
    return ReservationChanged(**given)


def status(station_id: str = "ST-1", connector_id: int = 1, revision: int = 1, **more: Any) -> StatusChange:
    """A connector that is faulted."""
    given: dict[str, Any] = {
        "station_id": station_id,
        "connector_id": connector_id,
        "status": "Faulted",
        "previous": "Available",
        "error_code": "GroundFailure",
        "since": "2026-03-29T08:59:00.000Z",
        "revision": revision,
        **more,
    }
    return StatusChange(**given)


def attachment_of(one: OutgoingMessage) -> Attachment:
    """What is attached."""
    assert one.attachment is not None
    return one.attachment


def _without_chat() -> dict[str, str]:
    return {channel: address for channel, address in ADDRESSES.items() if channel != "chat"}
