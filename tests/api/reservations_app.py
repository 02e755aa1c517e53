"""The reservations service, served over HTTP and fed with the events of others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import msgspec
import psycopg
from prometheus_client import CollectorRegistry

from api.pricing.declaration import SERVICE as PRICING
from api.reservations.components import ReservationsComponents
from api.reservations.declaration import SERVICE
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock, format_rfc3339
from kit.database.postgres import open_database
from kit.messaging.bus import EVENT_ID, Bus, InProcessBus, Message
from kit.retry import RetryPolicy
from kit.web.app import make_app
from kit.web.serving.server import serve
from schemas.events import (
    BayOccupancyChanged,
    Envelope,
    OccupancyChange,
    SessionAssigned,
    SessionCompleted,
    SessionStarted,
    StationBay,
    StationChanged,
    StationConnector,
    StationStatusChanged,
    StatusChange,
    envelope_of,
)
from schemas.topics import (
    BAY_OCCUPANCY_CHANGED,
    SESSION_ASSIGNED,
    SESSION_COMPLETED,
    SESSION_STARTED,
    STATION_CREATED,
    STATION_STATUS_CHANGED,
    STATION_UPDATED,
    exchange_of,
)
from tests.serving import Opened, make_schemas, open_service
from voltstream.settings import load_settings

PATH = "/api/v1/reservations"
NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
CCS, TYPE2 = "IEC_62196_T2_COMBO", "IEC_62196_T2"
POLICY = RetryPolicy.model_validate({"default": {"first_s": 0.01, "ceiling_s": 0.02, "attempts_max": 4}})
_NAMESPACE = UUID("00000000-0000-4000-8000-000000000002")


def message(event_type: str, payload: msgspec.Struct, name: str = "") -> Message:
    """An event of another service. `name`: events of one name are one event, delivered again."""
    event_id = uuid5(_NAMESPACE, name) if name else uuid4()
    envelope = envelope_of(event_type, event_id, payload, source="test", timestamp=format_rfc3339(NOW))
    return Message(exchange_of(event_type), envelope.routing_key, envelope.encoded(), {EVENT_ID: str(event_id)})


def connector(number: int, standard: str = CCS, power_w: int = 150_000) -> StationConnector:
    """A connector of the registry."""
    return StationConnector(
        connector_id=number,
        evse_id=None,
        standard=standard,
        format="CABLE",
        power_type="DC",
        rated_power_w=power_w,
    )


def bay(name: str, *connectors: int, restrictions: Sequence[str] = (), time_limit_s: int | None = None) -> StationBay:
    """A bay of the registry."""
    return StationBay(bay=name, connectors=connectors, restrictions=tuple(restrictions), time_limit_s=time_limit_s)


def station(
    station_id: str = "ST-1",
    *,
    revision: int = 1,
    site: str | None = "Nord",
    connectors: Sequence[StationConnector] = (connector(1), connector(2)),
    bays: Sequence[StationBay] = (),
) -> StationChanged:
    """A station of the registry."""
    return StationChanged(
        station_id=station_id,
        revision=revision,
        name=None,
        site=site,
        group=None,
        organisation=None,
        time_zone="Europe/Berlin",
        latitude_udeg=None,
        longitude_udeg=None,
        connectors=tuple(connectors),
        bays=tuple(bays),
        changed_at=format_rfc3339(NOW),
    )


def occupancy(
    name: str, revision: int, *, occupied: bool, since: datetime, station_id: str = "ST-1"
) -> OccupancyChange:
    """What a bay's sensor says anew."""
    return OccupancyChange(
        station_id=station_id, bay=name, occupied=occupied, since=format_rfc3339(since), revision=revision
    )


def assignment(session: UUID, driver: str, revision: int = 1, *, withdrawn: bool = False) -> SessionAssigned:
    """A session is known to be that driver's."""
    return SessionAssigned(
        session_id=session,
        request_id=uuid4(),
        driver_id=driver,
        reservation_id=None,
        revision=revision,
        withdrawn=withdrawn,
    )


def status(station_id: str, connector_id: int, name: str, revision: int, since: datetime = NOW) -> StationStatusChanged:
    """A connector's new status."""
    change = StatusChange(
        station_id=station_id,
        connector_id=connector_id,
        status=name,
        previous=None,
        error_code=None,
        since=format_rfc3339(since),
        revision=revision,
    )
    return StationStatusChanged(changes=[change])


def started(session: UUID, station_id: str, connector_id: int, at: datetime, name: str | None = None) -> SessionStarted:
    """A session that began."""
    return SessionStarted(
        id=session,
        station_id=station_id,
        connector_id=connector_id,
        session_id=name,
        started_at=format_rfc3339(at),
        revision=0,
    )


def completed(session: UUID, station_id: str, connector_id: int, at: datetime, revision: int = 1) -> SessionCompleted:
    """A session that ended."""
    return SessionCompleted(
        id=session,
        station_id=station_id,
        connector_id=connector_id,
        session_id=None,
        started_at=format_rfc3339(at - timedelta(minutes=10)),
        ended_at=format_rfc3339(at),
        end_reason="ended",
        estimated=False,
        energy_uj=0,
        energy_wh=0.0,
        readings=1,
        flagged=0,
        revision=revision,
    )


@dataclass
class Reservations:
    """The service at work."""

    client: httpx.AsyncClient
    base_url: str
    tokens: dict[str, str]  # by driver; "" of an operator, "finance", "device"
    clock: ManualClock
    url: str
    service: Opened[ReservationsComponents]
    bus: Bus
    store: TokenStore
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def ask(self, who: str, method: str, path: str = "", status: int = 200, **more: Any) -> Any:
        """The JSON of the answer, after a look at its status."""
        answer = await self.answer(who, method, path, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def answer(self, who: str, method: str, path: str = "", **more: Any) -> httpx.Response:
        """The answer."""
        if who not in self.tokens:
            self.tokens[who] = (await self.store.issue("driver", subject=who))[0]
        headers = {"Authorization": f"Bearer {self.tokens[who]}", **more.pop("headers", {})}
        return await self.client.request(method, f"{PATH}{path}", headers=headers, **more)

    def operator(self) -> dict[str, str]:
        """The headers of an operator's request."""
        return {"Authorization": f"Bearer {self.tokens['']}"}

    async def reserve(self, who: str = "D1", status: int = 201, **new: Any) -> Any:
        """Reserve: connector 1 of ST-1 in an hour for an hour, unless said otherwise."""
        place = {} if "site" in new or "bay" in new else {"connector_id": 1}
        station_id = {} if "site" in new else {"station_id": "ST-1"}
        starts = {"starts_at": format_rfc3339(self.clock.now() + timedelta(hours=1))}
        body = {**station_id, **place, **starts, "duration_s": 3_600, **new}
        return await self.ask(who, "POST", "", status, json={k: v for k, v in body.items() if v is not None})

    async def get(self, id_: str) -> Any:
        """A reservation, as an operator sees it."""
        return await self.ask("", "GET", f"/{id_}")

    async def deliver(self, event_type: str, payload: msgspec.Struct, name: str = "") -> None:
        """Have the service take an event, twice."""
        one = message(event_type, payload, name or f"{next(self.numbers)}")
        await self.bus.publish(one)
        await self.bus.publish(one)

    async def register(self, *stations: StationChanged) -> None:
        """The registry tells of stations."""
        for one in stations or (station(),):
            await self.deliver(STATION_CREATED if one.revision == 1 else STATION_UPDATED, one)

    async def status(
        self, connector_id: int, name: str, revision: int, station_id: str = "ST-1", since: datetime = NOW
    ) -> None:
        """A connector's status changes."""
        await self.deliver(STATION_STATUS_CHANGED, status(station_id, connector_id, name, revision, since))

    async def sense(
        self, name: str, revision: int, *, occupied: bool, since: datetime | None = None, station_id: str = "ST-1"
    ) -> None:
        """A bay's sensor says so, now unless said otherwise."""
        change = occupancy(name, revision, occupied=occupied, since=since or self.clock.now(), station_id=station_id)
        await self.deliver(BAY_OCCUPANCY_CHANGED, BayOccupancyChanged(changes=[change]))

    async def assign(self, session: UUID, driver: str, revision: int = 1, *, withdrawn: bool = False) -> None:
        """It is known whose session it is."""
        one = assignment(session, driver, revision, withdrawn=withdrawn)
        await self.deliver(SESSION_ASSIGNED, one)

    async def begin(self, connector_id: int = 1, station_id: str = "ST-1", name: str | None = None) -> UUID:
        """A session begins now."""
        session = uuid4()
        await self.deliver(SESSION_STARTED, started(session, station_id, connector_id, self.clock.now(), name))
        return session

    async def end(self, session: UUID, connector_id: int = 1, station_id: str = "ST-1") -> None:
        """A session ends now."""
        await self.deliver(SESSION_COMPLETED, completed(session, station_id, connector_id, self.clock.now()))

    async def start(self, driver: str, connector_id: int = 1, reservation: str | None = None) -> tuple[UUID, Any, Any]:
        """The sessions service claims a connector for a request: its id, the reservation and the refusal."""
        request, now_ms = uuid4(), self.clock.now_ms()
        rows = self.rows(
            "SELECT reservation_id, refused FROM reservations.claim(%s, %s, 'ST-1', %s, %s, %s, %s)",
            request,
            driver,
            connector_id,
            reservation,
            now_ms,
            now_ms + 900_000,
        )
        return request, *rows[0]

    async def pass_time(self, **by: float) -> None:
        """It is later, and the jobs have run."""
        self.clock.advance(timedelta(**by).total_seconds())
        await self.service.run_jobs()

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """Of a statement by the owner of the tables."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode(), args).fetchall()

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Type and payload of what it has published, in order."""
        rows = self.rows("SELECT body FROM reservations.outbox ORDER BY id")
        decoded = [msgspec.json.decode(bytes(row[0]), type=Envelope) for row in rows]
        assert len({one.metadata.event_id for one in decoded}) == len(decoded)
        return [(one.metadata.type, one.payload) for one in decoded]

    def published(self) -> list[tuple[str, str]]:
        """Action and, if there is one, status of its events, in order."""
        return [(type_.split(".")[1], payload.get("status", "")) for type_, payload in self.events()]

    def check(self) -> None:
        """What always holds: no two claims of one place overlap, and live reservations have claims, others none."""
        overlaps = self.rows(
            "SELECT count(*) FROM reservations.claim AS a JOIN reservations.claim AS b "
            "ON a.place_key = b.place_key AND a.during && b.during AND a.ctid < b.ctid"
        )
        assert overlaps == [(0,)]
        claimed = {row[0] for row in self.rows("SELECT holder FROM reservations.claim WHERE kind = 'reservation'")}
        live = {row[0] for row in self.rows("SELECT id FROM reservations.reservation WHERE due_at IS NOT NULL")}
        assert claimed == live


def publish_tariff(street: Reservations) -> None:
    """A tariff for all stations."""
    document = (
        '{"id": "T1", "currency": "EUR", "elements": [{"price_components": [{"type": "FLAT", "price": 2.50, '
        '"step_size": 1}], "restrictions": {"reservation": "RESERVATION_EXPIRES"}}, '
        '{"price_components": [{"type": "PARKING_TIME", '
        '"price": 6.00, "vat": 19, "step_size": 60}]}]}'
    )
    with psycopg.connect(street.url) as connection:
        connection.execute(
            "INSERT INTO pricing.version (id, target_kind, target, time_zone, currency, tariff, effective_from, "
            "reason, published_by) VALUES (gen_random_uuid(), 'default', '', 'Europe/Berlin', 'EUR', %s, "
            "'2020-01-01', 'operator', 'test')",
            (document,),
        )


@asynccontextmanager
async def running_reservations(url: str, bus: Bus | None = None, **settings: Any) -> AsyncIterator[Reservations]:
    """The service, served from that empty database."""
    make_schemas(url, [PRICING, SERVICE])
    clock = ManualClock(NOW)
    access = await open_database(url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens = {kind: (await store.issue(kind))[0] for kind in ("device", "finance")}
    tokens[""] = (await store.issue("operator"))[0]
    app = make_app("reservations", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(store, clock)
    used = bus or InProcessBus(POLICY, sleep=lambda _: asyncio.sleep(0))
    try:
        async with (
            open_service(SERVICE, url, clock, app=app, settings=load_settings(**settings)) as service,
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client,
        ):
            await service.consume(used)
            yield Reservations(client, server.url, tokens, clock, url, service, used, store)
            await used.close()
    finally:
        await access.close()
