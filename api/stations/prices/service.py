"""Prices as pricing publishes tariffs. No SQL here."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from api.stations.prices import store
from api.stations.prices.price import TariffVersion, needed, schedule
from api.stations.prices.store import Target
from kit.clock import Clock, from_ms
from kit.database.postgres import Database
from kit.errors import Unprocessable
from kit.messaging.consumer import Delivered, moment_of
from kit.messaging.outbox import Transaction
from schemas.events import Event, PricingUpdated
from schemas.tariff import exact_tariff

AHEAD: Final = timedelta(hours=50)  # that prices are computed for; a job goes on a day before they end
TARGETS_AT_ONCE: Final = 100  # ~2 ms each

_encoder: Final = msgspec.json.Encoder(decimal_format="number")


class PriceService:
    """The use cases, one method each."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def handle(self, connection: Transaction, events: Sequence[Delivered[Event[PricingUpdated]]]) -> None:
        """pricing.updated.v1: the target's prices anew."""
        for event in sorted((one.event for one in events), key=lambda one: target_of(one.payload)):
            target, (version, document) = target_of(event.payload), _version(event)
            await store.lock(connection, target)
            await store.add(connection, target, version, document)
            await self._compute(connection, target)

    async def go_on(self) -> None:
        """Compute prices further, of all targets whose prices end within a day."""
        more = True
        while more:
            async with self._database.transaction() as connection:
                due = await store.due(connection, self._now() + AHEAD / 2, TARGETS_AT_ONCE)
                for target in due:
                    await store.lock(connection, target)
                    await self._compute(connection, target)
                more = len(due) == TARGETS_AT_ONCE

    async def _compute(self, connection: Transaction, target: Target) -> None:
        now = self._now()
        versions = needed(await store.versions(connection, target), now)
        since, until = now - timedelta(hours=1), now + AHEAD
        await store.replace(
            connection, target, [one.version for one in versions], schedule(versions, since, until), until
        )

    def _now(self) -> datetime:
        return from_ms(self._clock.now_ms())


def target_of(updated: PricingUpdated) -> Target:
    """As versions name it."""
    return updated.target_kind, updated.target


def _version(event: Event[PricingUpdated]) -> tuple[TariffVersion, str]:
    updated = event.payload
    document = _encoder.encode(updated.tariff).decode()
    try:
        tariff = exact_tariff(document)
    except ValueError as error:
        raise Unprocessable(f"version {updated.version} has no tariff: {error}") from None
    effective, published = moment_of(updated.effective_from), moment_of(event.metadata.timestamp)
    return TariffVersion(updated.version, updated.time_zone, effective, published, tariff), document
