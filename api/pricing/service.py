"""Tariffs: publishing, what is in force, history. No HTTP and no SQL here. Demand rules: demand/; groups: stations/."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from api.pricing.documents.tariff import DEFAULT_TIME_ZONE, default_tariff
from api.pricing.models import DEFAULT, Change, NewVersion, TariffTarget
from api.pricing.store import NewTariff, PricingStore, VersionCursor, lock_rule, publish
from kit.auth.token_store import Principal
from kit.clock import EPOCH, Clock, format_rfc3339, from_ms, to_ms
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.errors import NotFound
from kit.web.paging import decode_cursor, encode_cursor

_FIRST_PUBLISHER: Final = "voltstream"


class PricingService:
    """The use cases, one method each."""

    def __init__(self, store: PricingStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def publish(self, connection: Transaction, new: NewVersion, operator: Principal) -> Mapping[str, Any]:
        """The version, published in the open transaction with its event."""
        target = new.target.target()
        await lock_rule(connection, target)
        now = from_ms(self._clock.now_ms())  # after the lock: later than the version that it may have waited for
        tariff = NewTariff(
            target=target,
            time_zone=new.time_zone,
            effective_from=new.effective_from or now,
            tariff=new.tariff,
            reason="operator",
            published_by=operator.name,
        )
        row: Mapping[str, Any] = await publish(connection, tariff, now)
        return row

    async def version(self, version: UUID) -> Mapping[str, Any]:
        """A version. Raises NotFound."""
        row: Mapping[str, Any] | None = await self._store.by_id(version)
        if row is None:
            raise NotFound(f"no tariff version {version}")
        return row

    async def versions(
        self, target: TariffTarget | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """A page of versions, published last first, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, VersionCursor) if cursor else None
        rows = await self._store.list_versions(target, after, limit + 1)
        page = rows[:limit]
        return page, encode_cursor(VersionCursor(page[-1]["version_key"])) if len(rows) > limit else None

    async def in_force(self, station_id: str, at: datetime | None) -> tuple[datetime, Mapping[str, Any], Change | None]:
        """The moment asked for, the version in force at the station then, and the next change. Raises NotFound."""
        moment_ms = self._clock.now_ms() if at is None else to_ms(at)
        moment = from_ms(moment_ms)
        row = await self._store.in_force(station_id, moment_ms)
        change = await self._store.next_change(station_id, moment, row)
        following = None if change is None else Change(at=from_ms(change[0]), version_id=change[1])
        if row is None:
            later = f"; the first is from {format_rfc3339(following.at)}" if following else ""
            raise NotFound(
                f"no tariff applies to station {station_id} at {format_rfc3339(moment)}{later}: publish one for "
                "it, for its group or as the default with POST /api/v1/pricing"
            )
        return moment, row, following


async def ensure_default(database: Database, clock: Clock) -> bool:
    """Publish a time-of-use tariff for every station if no tariff was ever published; whether it was.

    In force since 1970, so that sessions replayed from a recording have a cost too.
    """
    now = from_ms(clock.now_ms())
    tariff = NewTariff(DEFAULT, DEFAULT_TIME_ZONE, EPOCH, default_tariff(now), "operator", _FIRST_PUBLISHER)
    return await PricingStore(database).publish_first(tariff, now)
