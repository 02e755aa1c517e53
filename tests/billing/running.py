"""Billing on a real database, fed by a bus in the process, and inspected by plain SQL."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from psycopg.rows import dict_row

from billing.components import Billing, billing_of
from billing.declaration import SERVICE
from billing.payments.manual import ManualProvider
from billing.payments.provider import PaymentProvider
from billing.settings import BillingSettings
from kit.clock import ManualClock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import Database, open_database
from kit.messaging.bus import InProcessBus
from kit.messaging.consumer import ConsumerMetrics
from kit.retry import QueuePolicy, RetryPolicy
from kit.service import Context
from schemas.events import ReservationConfirmed, SessionAssigned, SessionCompleted
from tests.billing.making import message
from tests.billing.telemetry import Telemetry
from voltstream.runtime.composition import subscribe
from voltstream.runtime.database import bring_up_to_date
from voltstream.settings import load_settings

PARTITIONS = 4
NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
TOTAL_MAX = {"EUR": 1_000, "JPY": 150_000}
Payload = SessionCompleted | SessionAssigned | ReservationConfirmed


async def _no_pause(_: float) -> None: ...


@dataclass
class RunningBilling:
    """Billing, subscribed to a bus, beside the tables of telemetry."""

    url: str
    database: Database
    telemetry: Telemetry
    bus: InProcessBus
    clock: ManualClock
    registry: CollectorRegistry
    providers: dict[str, PaymentProvider]
    components: Billing
    config: RuntimeConfig

    async def deliver(self, *payloads: Payload) -> None:
        """One event after the other. Telemetry stores a session before its event is published, as the stream does."""
        for payload in payloads:
            self._store(payload)
            await self.bus.publish(message(payload))

    async def deliver_at_once(self, payloads: Iterable[Payload]) -> None:
        """All at the same time."""
        await asyncio.gather(*(self.deliver(payload) for payload in payloads))

    def _store(self, payload: Payload) -> None:
        if not isinstance(payload, SessionCompleted) or not payload.station_id.isprintable():
            return
        known = self.telemetry.revision(payload.id)
        if known is None or known < payload.revision:
            self.telemetry.complete(payload)

    def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        """By SQL."""
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), args).fetchall()

    def documents(self, subject_id: UUID | None = None) -> list[dict[str, Any]]:
        """All documents, or a subject's, in the order of issue."""
        where = "WHERE subject_id = %s" if subject_id else ""
        return self.rows(
            f"SELECT * FROM billing.invoice {where} ORDER BY year, sequence", *([subject_id] if subject_id else [])
        )

    def cdrs(self, subject_id: UUID) -> list[dict[str, Any]]:
        """A subject's CDRs, oldest first."""
        return self.rows("SELECT * FROM billing.cdr WHERE subject_id = %s ORDER BY version", subject_id)

    def events(self) -> list[dict[str, Any]]:
        """What was published, in order."""
        return [msgspec.json.decode(row["body"]) for row in self.rows("SELECT body FROM billing.outbox ORDER BY id")]

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.registry.get_sample_value(name, labels) or 0.0


def prepare(url: str) -> None:
    """The tables and roles of all services."""
    bring_up_to_date(url, PARTITIONS)


def _spawn(work: Coroutine[Any, Any, Any], name: str) -> "asyncio.Task[Any]":
    return asyncio.create_task(work, name=name)


@asynccontextmanager
async def open_running(url: str, clock: ManualClock | None = None, **changes: object) -> AsyncIterator[RunningBilling]:
    """Billing on that database, already prepared. It subscribes as the declaration says. Charges do not settle, unless
    `changes`, which are settings, say so; then `invoice_due` invoices them."""
    clock = clock or ManualClock(NOW)
    registry = CollectorRegistry()
    defaults: dict[str, object] = {
        "invoice_total_max": TOTAL_MAX,
        "invoice_settle_s": 0,
        "seller_name": "Muster Laden GmbH",
        "seller_address": "Am Kai 1 | 20457 Hamburg",
        "seller_vat_id": "DE123456789",
        "ocpi_country_code": "DE",
        "ocpi_party_id": "MUL",
    }
    settings = load_settings(**{**defaults, **changes})
    database = await open_database(url, name="billing", role=SERVICE.role, connections_max=4)
    telemetry, config = Telemetry(url), RuntimeConfig(settings)
    bus = InProcessBus(RetryPolicy(default=QueuePolicy(attempts_max=3)), sleep=_no_pause)
    try:
        context = Context(
            settings, clock, registry, url, _spawn, {}, FastAPI(), own_database=database, runtime_config=config
        )
        providers: dict[str, PaymentProvider] = {"manual": ManualProvider()}
        components = billing_of(context, context.group(BillingSettings), providers)
        metrics = ConsumerMetrics(registry)
        for consumes in SERVICE.consumes:
            await subscribe(bus, SERVICE, consumes, components, database, metrics, config)
        yield RunningBilling(url, database, telemetry, bus, clock, registry, providers, components, config)
    finally:
        await bus.close()
        config.close()
        await database.close()
        telemetry.close()
