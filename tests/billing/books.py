"""Billing's books on a real database, fed by a bus in the process, and looked at by plain SQL."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from prometheus_client import CollectorRegistry
from psycopg.rows import dict_row

from billing.invoicing.consumer import Reader, subscribe
from billing.invoicing.metrics import InvoicingMetrics
from billing.invoicing.poster import InvoicePoster
from billing.invoicing.tariffs import TariffRegistry
from kit.clock import ManualClock
from kit.database.postgres import Database, open_database
from kit.database.roles import Grant, ensure_roles
from kit.messaging.batches import Batches
from kit.messaging.bus import InProcessBus
from kit.messaging.consumer import ConsumerMetrics
from kit.retry import QueuePolicy, RetryPolicy
from schemas.events import ReservationConfirmed, SessionAssigned, SessionCompleted
from tests.billing.making import message

ROOT = Path(__file__).parents[2]
ROLE = "billing_service"
NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
TOTAL_MAX = 1_000
Payload = SessionCompleted | SessionAssigned | ReservationConfirmed


async def _no_pause(_: float) -> None: ...


@dataclass
class Books:
    """Billing, listening."""

    url: str
    database: Database
    bus: InProcessBus
    clock: ManualClock
    registry: CollectorRegistry
    metrics: InvoicingMetrics
    desk: InvoicePoster

    async def hear(self, *payloads: Payload) -> None:
        """One after the other, each in its order."""
        for payload in payloads:
            await self.bus.publish(message(payload))

    async def hear_at_once(self, payloads: Iterable[Payload]) -> None:
        """All at the same time."""
        await asyncio.gather(*(self.bus.publish(message(payload)) for payload in payloads))

    def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        """By SQL."""
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), args).fetchall()

    def documents(self, subject_id: UUID | None = None) -> list[dict[str, Any]]:
        """All documents, or a subject's, as issued."""
        where = "WHERE subject_id = %s" if subject_id else ""
        return self.rows(
            f"SELECT * FROM billing.invoice {where} ORDER BY year, sequence", *([subject_id] if subject_id else [])
        )

    def cdrs(self, subject_id: UUID) -> list[dict[str, Any]]:
        """A subject's CDRs, oldest first."""
        return self.rows("SELECT * FROM billing.cdr WHERE subject_id = %s ORDER BY version", subject_id)

    def events(self) -> list[dict[str, Any]]:
        """What was told, in order."""
        return [msgspec.json.decode(row["body"]) for row in self.rows("SELECT body FROM billing.outbox ORDER BY id")]

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.registry.get_sample_value(name, labels) or 0.0


def prepare(url: str) -> None:
    """Billing's tables and role."""
    with psycopg.connect(url) as connection:
        for path in sorted((ROOT / "billing/migrations").glob("*.sql")):
            connection.execute(path.read_bytes())
    ensure_roles(url, [Grant(ROLE, "billing")])


@asynccontextmanager
async def open_books(url: str, clock: ManualClock | None = None) -> AsyncIterator[Books]:
    """Billing on that database, already prepared."""
    clock = clock or ManualClock(NOW)
    registry = CollectorRegistry()
    metrics = InvoicingMetrics(registry)
    database = await open_database(url, name="billing", role=ROLE, connections_max=4)
    bus = InProcessBus(RetryPolicy(default=QueuePolicy(attempts_max=3)), sleep=_no_pause)
    desk = InvoicePoster(database, clock, metrics)
    try:
        await subscribe(bus, Reader(TariffRegistry(database), TOTAL_MAX), Batches(desk.post), ConsumerMetrics(registry))
        yield Books(url, database, bus, clock, registry, metrics, desk)
    finally:
        await bus.close()
        await database.close()
