"""What a process needs to run pricing: its tables, its role, who may read it, its routes and its consumer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from fastapi import FastAPI
from psycopg import sql

import kit.messaging.inbox
import kit.web.idempotency
from api.pricing.demand.routes import DemandRoutes
from api.pricing.demand.service import DemandService
from api.pricing.demand.store import DemandStore
from api.pricing.routes import PricingRoutes
from api.pricing.service import PricingService
from api.pricing.store import SCHEMA, PricingStore
from kit.clock import Clock
from kit.database.migrations import Migrations
from kit.database.postgres import Database, Grant, connect_sync, outages
from kit.messaging.bus import Bus
from kit.messaging.consumer import ConsumerMetrics, Source, consume
from schemas.events import Event, TelemetryAggregated
from schemas.topics import TELEMETRY_AGGREGATED, group_queue, routing_key

MIGRATIONS: Final = Migrations("pricing", Path(__file__).parent / "migrations")
ROLE: Final = "pricing_service"
GRANT: Final = Grant(role=ROLE, schema=SCHEMA)

# One at a time: a step of a rule follows the one before it, and every event of a minute concerns the same rules.
_SOURCE: Final = Source(group_queue("pricing", TELEMETRY_AGGREGATED), routing_key(TELEMETRY_AGGREGATED), prefetch=1)
_READER_FUNCTIONS: Final = ("pricing.tariffs_at(text[], bigint[])", "pricing.documents(bigint[])")


def mount_pricing(app: FastAPI, database: Database, clock: Clock) -> None:
    """Add the operations to `app`, whose `state.authenticator` says who may. `database` works as ROLE."""
    app.include_router(DemandRoutes(DemandService(DemandStore(database), clock)).router())
    app.include_router(PricingRoutes(PricingService(PricingStore(database), clock), database).router())


async def consume_pricing(
    bus: Bus, database: Database, clock: Clock, *, metrics: ConsumerMetrics | None = None
) -> None:
    """Let demand rules follow what connectors do. `database` works as ROLE."""
    decode = msgspec.json.Decoder(Event[TelemetryAggregated]).decode
    handle = DemandService(DemandStore(database), clock).handle
    await consume(bus, database, _SOURCE, schema=SCHEMA, decode=decode, handle=handle, metrics=metrics)


async def forget_old(database: Database) -> None:
    """Forget events and answers that nobody repeats any more: once a day."""
    async with database.transaction() as connection:
        await kit.messaging.inbox.forget_old(connection, SCHEMA)
        await kit.web.idempotency.forget_old(connection, SCHEMA)


def grant_readers(url: str, roles: Sequence[str]) -> None:
    """Let these roles, which there are, and pricing's own ask `tariffs_at` and `documents`: nothing else of the schema.

    To be called after migrating and `ensure_roles`, with the URL that migrated. Idempotent. Blocks. Raises Unavailable,
    ConfigError.
    """
    with connect_sync(url, name="voltstream roles") as connection, outages():
        for role in (ROLE, *roles):
            name = sql.Identifier(role)
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), name))
            for function in _READER_FUNCTIONS:
                connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(function), name))
