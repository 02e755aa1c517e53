"""Billing put together: what a process that serves it mounts and subscribes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from billing.charges.routes import ChargeRoutes
from billing.charges.service import ChargeService
from billing.charges.store import ChargeStore
from billing.edge import install_errors
from billing.invoices.routes import InvoiceRoutes
from billing.invoices.service import InvoiceService
from billing.invoices.store import InvoiceStore
from billing.invoicing.consumer import Reader, subscribe
from billing.invoicing.metrics import PostingMetrics
from billing.invoicing.poster import InvoicePoster
from billing.invoicing.tariffs import TariffBook
from billing.payments.provider import PaymentProvider
from billing.payments.routes import PaymentRoutes
from billing.payments.service import PaymentService
from billing.readings_source import ReadingsSource
from kit.clock import Clock
from kit.database.migrations import Migrations
from kit.database.postgres import Database
from kit.database.roles import Grant
from kit.messaging import inbox
from kit.messaging.batches import Batches
from kit.messaging.bus import Bus
from kit.messaging.consumer import ConsumerMetrics
from kit.web import idempotency

SCHEMA: Final = "billing"
ROLE: Final = "billing_service"
MIGRATIONS: Final = Migrations(SCHEMA, Path(__file__).parent / "migrations")
GRANT: Final = Grant(role=ROLE, schema=SCHEMA)


def mount_billing(
    app: FastAPI,
    database: Database,
    clock: Clock,
    *,
    providers: Mapping[str, PaymentProvider],
    source: ReadingsSource,
    metrics: PostingMetrics,
) -> None:
    """Add the routes to `app`, whose `state.authenticator` says who asks. `database` works as ROLE.

    `providers` by name, which the caller closes; `metrics`: one a process.
    """
    install_errors(app)
    desk = InvoicePoster(database, clock, metrics)
    invoices = InvoiceService(InvoiceStore(database), desk, source)
    payments = PaymentService(database, providers, clock)
    app.include_router(InvoiceRoutes(database, invoices).router())
    app.include_router(ChargeRoutes(ChargeService(ChargeStore(database))).router())
    app.include_router(PaymentRoutes(database, payments).router())


async def consume_billing(
    bus: Bus,
    database: Database,
    clock: Clock,
    *,
    metrics: PostingMetrics,
    consumers: ConsumerMetrics,
    total_max: int,
) -> None:
    """Hear of sessions, reservations and drivers, and write the books. `database` works as ROLE. Raises Unavailable.

    `metrics` and `consumers`: one a process; `total_max`: the setting invoice_total_max.
    """
    desk = InvoicePoster(database, clock, metrics)
    reader = Reader(TariffBook(database), total_max)
    await subscribe(bus, reader, Batches(desk.post), consumers)


async def tidy_billing(database: Database) -> None:
    """Forget events and answers that nobody repeats any more. To be called once a day or so. Raises Unavailable."""
    async with database.transaction() as connection:
        await inbox.forget_old(connection, SCHEMA)
        await idempotency.forget_old(connection, SCHEMA)
