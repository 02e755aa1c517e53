"""From demand to the metric: a rule moves a price, a session is charged by it, and analytics say what that brought."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg

from api.pricing.components import PricingComponents
from api.pricing.declaration import SERVICE as PRICING
from api.pricing.demand.models import DemandRule
from api.pricing.models import NewVersion, TariffTarget
from api.reporting.declaration import SERVICE as REPORTING
from kit.auth.token_store import Principal
from kit.clock import ManualClock, format_rfc3339, to_ms
from schemas.events import Event, EventMetadata, InvoiceChanged, TelemetryAggregated, WindowAggregate
from schemas.topics import INVOICE_CREATED, TELEMETRY_AGGREGATED
from tests.api.reporting.running import Reporting
from tests.billing.making import TARIFF, session
from tests.billing.running import NOW, RunningBilling, open_running, prepare
from tests.serving import Opened, open_service

OPERATOR = Principal("operator", uuid4(), None)
RULE = DemandRule.model_validate(
    {
        "raise_above_pct": 80,
        "lower_below_pct": 20,
        "bounds": {"min_factor": "0.5", "max_factor": "2"},
        "step_pct": 10,
        "hold_s": 60,
    }
)
BASE_MICROS = 345_600  # ENERGY of TARIFF


@dataclass
class Platform:
    """The three services on one database."""

    pricing: Opened[PricingComponents]
    billing: RunningBilling
    reporting: Reporting
    clock: ManualClock

    async def publish(self, station: str) -> None:
        """TARIFF, by an operator."""
        new = {"target": {"station_id": station}, "time_zone": "Europe/Amsterdam", "tariff": TARIFF}
        async with self.pricing.database.transaction() as connection:
            await self.pricing.components.service.publish(connection, NewVersion.model_validate(new), OPERATOR)

    async def demand(self, station: str, power_w: float) -> None:
        """A minute of the station's connector."""
        self.clock.advance(60)
        window = WindowAggregate(
            station_id=station, connector_id=1, window_start=format_rfc3339(self.clock.now() - timedelta(minutes=1)),
            revision=1, readings=1, flagged=0, power_w_avg=power_w, power_w_min=None, power_w_max=None,
            voltage_v_avg=None, current_a_avg=None, temperature_c_max=None, energy_wh_first=None, energy_wh_last=None,
        )  # fmt: skip
        metadata = EventMetadata(uuid4(), format_rfc3339(self.clock.now()), "test", "", TELEMETRY_AGGREGATED, 1)
        event = Event(metadata, TelemetryAggregated(partition=0, windows=[window]))
        async with self.pricing.database.transaction() as connection:
            await self.pricing.components.demand.handle(connection, event)

    async def charge(self, station: str, own_id: UUID | None = None, **more: Any) -> UUID:
        """A session that began now, with the version that pricing has in force, as the stream publishes it."""
        now = self.clock.now()
        query = """
            SELECT d.id, d.tariff::text FROM pricing.tariffs_at(%s, %s) AS t
            CROSS JOIN LATERAL pricing.documents(ARRAY[t.version_key]) AS d
        """
        with psycopg.connect(self.billing.url) as connection:
            ((version, document),) = connection.execute(query, ([station], [to_ms(now)])).fetchall()
        event = session(own_id, station_id=station, start=now, tariff=json.loads(document), version=version, **more)
        await self.billing.deliver(event)
        return event.id

    async def figures(self, **asked: Any) -> dict[Any, tuple[int, ...]]:
        """Of the margin, by station, after all events of billing."""
        events = [
            msgspec.convert(event, Event[InvoiceChanged])
            for event in self.billing.events()
            if event["metadata"]["type"] == INVOICE_CREATED
        ]
        await self.reporting.handle(events)
        self.clock.advance(2 * 3_600)
        await self.reporting.compute()
        span = {"start": NOW - timedelta(days=1), "end": NOW + timedelta(days=4)}
        found = await self.reporting.figures(
            1_000, metric="demand_margin", by="month", time_zone="UTC", grouping="station", **span
        )
        return {(group, currency): sums for (group, _, currency), sums in found.items()}


@asynccontextmanager
async def platform(url: str) -> AsyncIterator[Platform]:
    prepare(url)
    clock = ManualClock(NOW)
    with psycopg.connect(url, autocommit=True) as writer:
        async with (
            open_service(PRICING, url, clock) as pricing,
            open_running(url, clock) as billing,
            open_service(REPORTING, url, clock) as opened,
        ):
            yield Platform(pricing, billing, Reporting(opened, clock, writer), clock)


def added(energy_wh: int, price_micros: int) -> int:
    """What that much energy costs more than by the base."""
    return round(energy_wh * price_micros / 1_000) - round(energy_wh * BASE_MICROS / 1_000)


async def test_what_demand_brought_is_a_metric(database_url: str) -> None:
    async with platform(database_url) as own:
        for station in ("ST-1", "ST-2"):
            await own.publish(station)
        await own.pricing.components.demand.put(TariffTarget("station", "ST-1"), RULE)
        for station in ("ST-1", "ST-2"):
            await own.charge(station)
        assert await own.figures() == {}, "nobody has moved a price"

        for _ in range(2):
            await own.demand("ST-1", 11_000)  # twice a step of 10 %: 0.3456 -> 0.4147
        first = await own.charge("ST-1", energy_mwh=10_000_000)
        await own.charge("ST-2", energy_mwh=10_000_000)
        assert await own.figures() == {("ST-1", "EUR"): (added(10_000, 414_700), 0)}

        for _ in range(3):
            await own.demand("ST-1", 0)  # three steps down: 0.311
        await own.charge("ST-1", energy_mwh=4_000_000)
        below = added(4_000, 311_000)
        assert below < 0
        assert await own.figures() == {("ST-1", "EUR"): (added(10_000, 414_700) + below, 0)}

        # Late readings: the invoice is credited, and another takes its place.
        await late(own, first, energy_mwh=12_000_000)
        assert await own.figures() == {("ST-1", "EUR"): (added(12_000, 414_700) + below, 0)}
        await late(own, first, energy_mwh=12_000_000, void=True)
        assert await own.figures() == {("ST-1", "EUR"): (below, 0)}

        # A version from before bases were stored: not known, which is not 0.
        with own.reporting.writer.cursor() as cursor:
            cursor.execute("ALTER TABLE pricing.version DISABLE TRIGGER never_changed")
            cursor.execute("UPDATE pricing.version SET base_version = NULL WHERE reason = 'demand'")
        await own.demand("ST-1", 0)
        await own.demand("ST-1", 11_000)
        with own.reporting.writer.cursor() as cursor:
            cursor.execute("UPDATE pricing.version SET base_version = NULL WHERE reason = 'demand'")
        await own.charge("ST-1")
        assert await own.figures() == {("ST-1", "EUR"): (below, 1)}


async def late(own: Platform, session_id: UUID, *, energy_mwh: int, void: bool = False) -> None:
    """The next revision of a session, by the tariff that it has."""
    query = """
        SELECT c.revision, c.station_id, c.started_at, c.tariff_version, t.tariff
        FROM billing.cdr AS c JOIN billing.tariff_version AS t ON t.version = c.tariff_version
        WHERE c.subject_id = %s AND c.current
    """
    (row,) = own.billing.rows(query, session_id)
    event = session(
        session_id,
        revision=row["revision"] + 1,
        station_id=row["station_id"],
        tariff=row["tariff"],
        version=row["tariff_version"],
        start=row["started_at"],
        energy_mwh=energy_mwh,
    )
    await own.billing.deliver(msgspec.structs.replace(event, void=void))
