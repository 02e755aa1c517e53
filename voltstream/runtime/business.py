"""The services around the stream put together: pricing, drivers' sessions, billing; what they hear and tell."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import api.pricing.composition as pricing
import api.sessions.composition as sessions
import billing.composition as billing
from api.pricing.service import ensure_default
from api.queries import ROLE as QUERIES_ROLE
from billing.exports.composition import mount_exports
from billing.invoicing.metrics import InvoicingMetrics
from billing.payments.providers import open_providers
from kit.database.postgres import Database, open_database
from kit.errors import Unavailable
from kit.messaging.bus import Bus
from kit.messaging.consumer import ConsumerMetrics
from kit.observability.logs import get_logger
from kit.settings import Settings
from voltstream.runtime.process import Lifespan
from voltstream.runtime.readings import LocalReadings
from voltstream.runtime.web import Web

TIDY_S: Final = 86_400.0  # between two clean-ups of events and answers that nobody repeats any more

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Business:
    """The services, mounted; their databases, each in a role of its own."""

    pricing: Database
    charging: Database
    billing: Database
    posting: InvoicingMetrics

    async def first_tariff(self, web: Web) -> None:
        """A tariff for every station, if there was never any: for `up`, so that costs show."""
        if await ensure_default(self.pricing, web.clock):
            _log.info("default_tariff_published")

    async def hear(self, settings: Settings, bus: Bus, web: Web) -> None:
        """Subscribe all of them to the events that they live by. Raises Unavailable."""
        consumers = ConsumerMetrics(web.registry)
        await pricing.consume_pricing(bus, self.pricing, web.clock, metrics=consumers)
        await sessions.consume_sessions(bus, self.charging, web.clock, consumers)
        await billing.consume_billing(
            bus,
            self.billing,
            web.clock,
            metrics=self.posting,
            consumers=consumers,
            total_max=settings.invoice_total_max,
        )


@asynccontextmanager
async def open_business(settings: Settings, url: str, lifespan: Lifespan, web: Web) -> AsyncIterator[Business]:
    """Everything mounted within the block; needs the authenticator. Raises Unavailable, ConfigError."""
    async with AsyncExitStack() as stack:

        async def opened(name: str, role: str) -> Database:
            database = await open_database(url, name=f"voltstream {name}", role=role)
            stack.push_async_callback(database.close)
            return database

        telemetry = await opened("sessions' telemetry", QUERIES_ROLE)
        priced = await opened("pricing", pricing.ROLE)
        charging = await opened("sessions", sessions.ROLE)
        books = await opened("billing", billing.ROLE)
        providers = await stack.enter_async_context(open_providers(settings, web.clock))
        posting = InvoicingMetrics(web.registry)
        pricing.mount_pricing(web.app, priced, web.clock)
        service = sessions.mount_sessions(web.app, telemetry, charging, web.clock)
        billing.mount_billing(
            web.app, books, web.clock, providers=providers, source=LocalReadings(service), metrics=posting
        )
        mount_exports(web.app, books, settings)
        tidying = lifespan.spawn(
            _tidy(
                (lambda: pricing.forget_old(priced)),
                (lambda: sessions.tidy_sessions(charging)),
                (lambda: billing.tidy_billing(books)),
            ),
            "tidying",
        )
        stack.callback(tidying.cancel)
        yield Business(priced, charging, books, posting)


async def _tidy(*works: Callable[[], Awaitable[None]]) -> None:
    while True:
        for work in works:
            try:
                await work()
            except Unavailable as error:
                _log.warning("tidying_postponed", error=str(error))
        await asyncio.sleep(TIDY_S)
