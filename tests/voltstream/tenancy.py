"""All services that serve routes, in one app over one database, with something of each of six stations in all of them.

Whose a station is stands in the registry alone: `own` says it anew, and changes nothing else.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import msgspec
import psycopg
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api.reporting.rollups.facets import Facet
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import open_database
from kit.live.view import InProcessLive
from kit.web.app import make_app
from kit.web.serving.server import serve
from tests.ingest.reingest_app import Stream
from tests.serving import open_service
from voltstream.services import SUBSETS, service
from voltstream.settings import load_settings

NOW: Final = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
STATIONS: Final = tuple(f"ST-{number}" for number in range(1, 7))
UNREGISTERED: Final = "ST-9"  # sends readings, and nobody registered it
NORTH: Final = "Nord AG"
SOUTH: Final = "Süd & Co"

# What a row of money needs and no test here looks at.
_CDR: Final = """
INSERT INTO billing.cdr (id, kind, subject_id, version, current, revision, status, driver_id, station_id, connector_id,
    started_at, ended_at, end_reason, estimated, energy_uj, readings, flagged, consumption, currency, total_excl_micros,
    total_incl_micros, created_at)
VALUES (%s, %s, %s, 1, true, 1, %s, %s, %s, 1, %s, %s, 'ended', false, 3600000000, 2, 0, '[]', 'EUR', 1000000, 1190000,
    %s)
"""
_INVOICE: Final = """
INSERT INTO billing.invoice (id, kind, year, sequence, number, cdr_id, subject_id, session_id, version, status,
    driver_id, station_id, currency, minor_digits, total_excl_micros, total_incl_micros, payable_excl_minor,
    payable_minor, rounding, issued_at, changed_at)
VALUES (%s, 'invoice', 2026, %s, %s, %s, %s, %s, 1, 'open', %s, %s, 'EUR', 2, 1000000, 1190000, 100, 119, 'half_up', %s,
    %s)
"""
_LINE: Final = """
INSERT INTO billing.invoice_line (invoice_id, line, dimension, element, volume, billed, price_micros, vat_ppm,
    excl_micros, incl_micros)
VALUES (%s, %s, %s, NULL, 1, 1, NULL, NULL, 1000000, 1190000)
"""


@dataclass
class Thing:
    """What a service has: its id, and the stations whose organisation may see it (all of them have to be its own)."""

    id: str
    stations: frozenset[str]


@dataclass
class Tenancy:
    """The app at work."""

    app: FastAPI
    client: httpx.AsyncClient
    owner: psycopg.Connection[Any]  # of the database
    tokens: TokenStore
    live: InProcessLive
    clock: ManualClock
    things: dict[str, list[Thing]] = field(default_factory=dict)  # by kind
    collective: set[str] = field(default_factory=set)  # numbers of collective invoices
    issued: dict[str, str] = field(default_factory=dict)  # "": an admin's of all stations; else of an organisation
    components: dict[str, Any] = field(default_factory=dict)  # of each service

    async def ask(self, method: str, path: str, who: str = "", **more: Any) -> httpx.Response:
        """The answer to an admin, of that organisation only or (empty) of all."""
        headers = {"Authorization": f"Bearer {self.issued[who]}", **more.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **more)

    def execute(self, statement: str, *values: Any) -> Any:
        """SQL of the owner of everything; the first row, if there is one."""
        cursor = self.owner.execute(statement.encode(), values)
        return cursor.fetchone() if cursor.description else None

    def own(self, owners: Mapping[str, str | None]) -> None:
        """From now on these stations are these organisations' (None: nobody's)."""
        with self.owner.cursor() as cursor:
            cursor.executemany(
                "UPDATE stations.station SET organisation = %s WHERE station_id = %s",
                [(owner, station_id) for station_id, owner in owners.items()],
            )

    def of(self, kind: str, station_id: str) -> str:
        """The id of the thing of that kind of this station alone."""
        return next(one.id for one in self.things[kind] if one.stations == {station_id})

    def stations_of(self, kind: str, thing_id: str) -> frozenset[str]:
        """The stations of that thing."""
        return next(one.stations for one in self.things[kind] if one.id == thing_id)

    def _note(self, kind: str, thing_id: object, *stations: str) -> None:
        self.things.setdefault(kind, []).append(Thing(str(thing_id), frozenset(stations)))

    async def seed(self) -> None:
        """Something of each station in every service."""
        for number, station_id in enumerate(STATIONS):
            await self._register(station_id, number)
            await self._telemetry(station_id, number)
            await self._drivers(station_id, number)
            self._money(station_id, number)
            await self._figures(station_id, number)
        self._quarantine(None)  # of no station that could be read
        self.execute(
            "INSERT INTO telemetry.connector (partition, station_id, connector_id) VALUES (0, %s, 1)", UNREGISTERED
        )
        for first, second in ((0, 1), (1, 2), (3, 4)):
            self._statement(STATIONS[first], STATIONS[second], 100 + first)
        self._statement(STATIONS[0], STATIONS[0], 120, credit=True)

    async def _register(self, station_id: str, number: int) -> None:
        body = {
            "station_id": station_id,
            "name": f"Halle {number}",
            "latitude": f"52.5{number}",
            "longitude": "13.40",
            "group": "city",
            "site": "Alexanderplatz",
            "connectors": [{"connector_id": 1, "standard": "IEC_62196_T2_COMBO", "rated_power_w": 150_000}],
        }
        made = await self.ask("POST", "/api/v1/stations", json=body)
        assert made.status_code == 201, made.text
        self._note("station", station_id, station_id)
        self.execute(
            "INSERT INTO pricing.station_group (station_id, revision, group_name, registered) "
            "VALUES (%s, 1, 'city', true)",
            station_id,
        )

    async def _telemetry(self, station_id: str, number: int) -> None:
        (key,) = self.execute(
            "INSERT INTO telemetry.connector (partition, station_id, connector_id) VALUES (0, %s, 1) "
            "RETURNING connector_key",
            station_id,
        )
        document = {"station_id": station_id, "connector_id": 1, "status": "Charging", "power_w": 1_000.0 * 2**number}
        await self.live.put("telemetry", {f"{station_id}/1": msgspec.json.encode(document)})
        session, since = uuid4(), NOW - (number + 2) * HOUR
        self.execute(
            "INSERT INTO telemetry.session (session_key, id, connector_key, session_id, started_at, last_at, ended_at, "
            "end_reason, energy_uj, integrated_uj, readings, flagged) "
            "VALUES (%s, %s, %s, 'S', %s, %s, %s, 1, 0, 0, 1, 0)",
            *(number, session, key, since, since + HOUR, since + HOUR),
        )
        self._note("session", session, station_id)
        self._quarantine(station_id)

    def _quarantine(self, station_id: str | None) -> None:
        (item,) = self.execute(
            "INSERT INTO telemetry.quarantine (partition, received_at, station_id, reason, detail, raw) "
            "VALUES (0, %s, %s, 'malformed', 'so', 'x') RETURNING id",
            *(NOW, station_id),
        )
        self._note("quarantined", item, *(() if station_id is None else (station_id,)))

    async def _drivers(self, station_id: str, number: int) -> None:
        """Somebody asked to charge, reserved, and a vehicle stands in a bay that only its sensor knows."""
        body = {"station_id": station_id, "connector_id": 1, "driver_id": f"driver-{number}"}
        asked = await self.ask("POST", "/api/v1/sessions", json=body)
        assert asked.status_code == 202, asked.text
        self._note("request", asked.json()["request_id"], station_id)
        (place,) = self.execute(
            "INSERT INTO reservations.place (station_id, bay, registered, occupied, occupied_since) "
            "VALUES (%s, 'P1', false, true, %s) RETURNING place_key",
            *(station_id, NOW),
        )
        reservation, before = uuid4(), STATIONS[(number + 1) % len(STATIONS)]
        self.execute(
            "INSERT INTO reservations.reservation (id, driver_id, place_key, station_id, bay, starts_at, ends_at, "
            "state, revision, created_at, created_by, moved_from, due_at, reason) "
            "VALUES (%s, %s, %s, %s, 'P1', %s, %s, 'confirmed', 1, %s, 'test', %s, %s, %s)",
            *(
                reservation,
                f"driver-{number}",
                place,
                station_id,
                NOW + HOUR,
                NOW + 2 * HOUR,
                NOW,
                before,
                NOW + 2 * HOUR,
                f"{before} is out of order",
            ),
        )
        self._note("reservation", reservation, station_id)

    def _money(self, station_id: str, number: int) -> None:
        """A charge that waits for a person, and an invoice."""
        waiting, invoiced, invoice = uuid4(), uuid4(), uuid4()
        at = NOW - (number + 1) * HOUR
        self._charge(waiting, uuid4(), "held", station_id, at)
        self._note("charge", waiting, station_id)
        session = uuid4()
        self._charge(invoiced, session, "invoiced", station_id, at)
        self._invoice(invoice, number + 1, invoiced, session, station_id, station_id)
        self.execute(_LINE, invoice, 1, "ENERGY")

    def _charge(
        self, cdr: UUID, subject: UUID, status: str, station_id: str, at: datetime, kind: str = "session"
    ) -> None:
        self.execute(_CDR, cdr, kind, subject, status, "driver-1", station_id, at, at, at)

    def _invoice(self, invoice: UUID, sequence: int, cdr: UUID, subject: UUID, station_id: str, *of: str) -> None:
        session, number = subject if station_id else None, f"2026-{sequence:07}"
        self.execute(_INVOICE, invoice, sequence, number, cdr, subject, session, "driver-1", station_id, NOW, NOW)
        self._note("invoice", invoice, *of)
        self._note("number", number, *of)

    def _statement(self, first: str, second: str, sequence: int, *, credit: bool = False) -> None:
        """A collective invoice of a charge at each of two stations; `credit`: something on it is of no charge."""
        cdr, subject, invoice, customer = (uuid4() for _ in range(4))
        self._charge(cdr, subject, "invoiced", "", NOW, "statement")
        self._invoice(invoice, sequence, cdr, subject, "", first, *((second,) if not credit else (UNREGISTERED,)))
        self.collective.add(f"2026-{sequence:07}")
        self.execute("INSERT INTO billing.statement VALUES (%s, %s, '2026-02-01', 'EUR', 1)", *(invoice, customer))
        for line, station_id in enumerate((first, second), 1):
            charge = uuid4()
            self._charge(charge, uuid4(), "invoiced", station_id, NOW - HOUR)
            self.execute(_LINE, invoice, line, "ENERGY")
            self.execute(
                "INSERT INTO billing.statement_item VALUES (%s, %s, 'so', %s, false)", *(invoice, line, charge)
            )
        if credit:
            self.execute(_LINE, invoice, 3, "CREDIT")

    async def _figures(self, station_id: str, number: int) -> None:
        (series,) = self.execute(
            "INSERT INTO reporting.series (kind, name) VALUES ('station', %s) RETURNING series_key", station_id
        )
        self.execute(
            "INSERT INTO reporting.hour (hour, series_key, facet, currency, sums) "
            "VALUES (%s, %s, %s, '', ARRAY[%s::bigint, 0])",
            *(NOW - 48 * HOUR, series, int(Facet.ENERGY), 1_000 * 2**number),
        )
        self.execute(
            "INSERT INTO reporting.dirty_hour VALUES (%s, %s, 255, %s, %s)", *(NOW - HOUR, station_id, number, NOW)
        )
        body = {
            "station_id": station_id,
            "from": "2026-03-12T06:00:00Z",
            "to": "2026-03-12T14:30:00Z",
            "reason": "utility_interruption",
            "note": "so",
        }
        made = await self.ask("POST", "/api/v1/uptime/exclusions", json=body)
        assert made.status_code == 201, made.text
        self._note("exclusion", made.json()["id"], station_id)


def owned_by(owners: Mapping[str, str | None], organisation: str) -> set[str]:
    """The stations of that organisation."""
    return {station_id for station_id, owner in owners.items() if owner == organisation}


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Tenancy]:
    """All services over a database that is up to date and empty, seeded."""
    clock, live, settings = ManualClock(NOW), InProcessLive(), load_settings()
    app = make_app("tenancy", "0", registry=CollectorRegistry(), clock=clock)
    async with AsyncExitStack() as stack:
        access = await open_database(url, name="access", connections_max=2)
        stack.push_async_callback(access.close)
        tokens = TokenStore(access)
        app.state.authenticator = Authenticator(tokens, clock)
        config = RuntimeConfig(settings)
        stack.callback(config.close)
        stack.push_async_callback(live.close)
        opened = []
        for name in SUBSETS["api"]:
            more = {"app": app, "live": live, "writer": Stream(), "settings": settings, "config": config}
            opened.append(
                await stack.enter_async_context(
                    open_service(service(name), url, clock, connections_max=2, **more)  # type: ignore[arg-type]
                )
            )
        server = await stack.enter_async_context(serve(app, "127.0.0.1", 0))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False))
        issued = {"": (await tokens.issue("admin"))[0]}
        for organisation in (NORTH, SOUTH):
            issued[organisation] = (await tokens.issue("admin", organisation=organisation))[0]
        components = {one.service.name: one.components for one in opened}
        owner = stack.enter_context(psycopg.connect(url, autocommit=True))
        tenancy = Tenancy(app, client, owner, tokens, live, clock, issued=issued, components=components)
        await tenancy.seed()
        yield tenancy
        for one in opened:
            if one.service.streaming_responses is not None:
                await one.service.streaming_responses(one.components).close()
