"""The reporting service, served over HTTP on a real PostgreSQL, with telemetry filled by SQL."""

import csv
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from prometheus_client import CollectorRegistry

from api.reporting.components import ReportingComponents
from api.reporting.declaration import SERVICE
from kit.auth.authenticator import Authenticator
from kit.auth.scopes import KINDS
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock, format_rfc3339
from kit.database.postgres import open_database
from kit.messaging.bus import InProcessBus, Message
from kit.retry import load_retry_policy
from kit.web.app import make_app
from kit.web.serving.server import serve
from schemas.events import StationChanged, StationConnector
from schemas.reading import Status
from schemas.session import EndReason
from schemas.topics import STATION_CREATED, STATION_REMOVED, STATION_UPDATED
from tests.api.rows import COARSER_WINDOWS_SQL, Reading, add_connector, add_readings
from tests.api.station_events import event
from tests.serving import Opened, make_schemas, open_service
from voltstream.services import all_services
from voltstream.settings import load_settings

NOW = datetime(2026, 4, 2, 8, 0, tzinfo=UTC)
UJ_PER_KWH = 3_600_000_000_000


@dataclass
class Reporting:
    """The service at work."""

    client: httpx.AsyncClient
    base_url: str
    tokens: dict[str, str]  # by kind
    clock: ManualClock
    url: str
    service: Opened[ReportingComponents]
    bus: InProcessBus

    async def answer(
        self, method: str, path: str, status: int = 200, who: str = "operator", **more: Any
    ) -> httpx.Response:
        """The answer, after a look at its status."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}", **more.pop("headers", {})}
        answer = await self.client.request(method, path, headers=headers, **more)
        assert answer.status_code == status, answer.text
        return answer

    async def ask(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        """The JSON of the answer."""
        return (await self.answer(method, path, status, **more)).json()

    async def report(self, **new: Any) -> Any:
        """A report that was made."""
        made = await self.ask("POST", "/api/v1/reports", 202, json=new)
        await self.service.components.report_worker.make_waiting()
        return await self.ask("GET", f"/api/v1/reports/{made['id']}")

    async def csv(self, report: Any, table: str) -> list[dict[str, str]]:
        """A table of it."""
        text = (await self.answer("GET", f"/api/v1/reports/{report['id']}?format=csv&table={table}")).text
        lines = [line for line in text.split("\r\n") if line and not line.startswith("#")]
        names, *rows = csv.reader(lines)
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def register(self, station_id: str, *connectors: int, at: datetime, revision: int = 1) -> None:
        """The registry tells of a station; of none of its connectors: it is removed."""
        event_type = STATION_REMOVED if not connectors else STATION_CREATED if revision == 1 else STATION_UPDATED
        unknown = dict.fromkeys(("evse_id", "standard", "format", "power_type", "rated_power_w"))
        payload = StationChanged(
            **dict.fromkeys(("name", "site", "group", "organisation", "time_zone", "latitude_udeg", "longitude_udeg")),
            station_id=station_id,
            revision=revision,
            connectors=tuple(StationConnector(connector_id=number, **unknown) for number in connectors),
            bays=(),
            changed_at=format_rfc3339(at),
        )
        await self.deliver(event(event_type, f"{station_id}/{revision}", payload))

    async def deliver(self, message: Message) -> None:
        """Have the service take an event, twice."""
        await self.bus.publish(message)
        await self.bus.publish(message)

    def execute(self, statement: str, *values: Any) -> None:
        """SQL, of the owner of everything."""
        with psycopg.connect(self.url) as connection:
            connection.execute(statement, values)

    def connector(self, station_id: str, connector_id: int) -> int:
        """A connector that telemetry knows; its key."""
        return add_connector(self.url, station_id, connector_id)

    def status(self, key: int, since: datetime, status: Status, code: str | None = None, place: int = 0) -> None:
        """A status interval, which lasts until the connector's next one."""
        statement = "INSERT INTO telemetry.status_interval VALUES (%s, %s, %s, %s, %s, NULL, 1)"
        self.execute(statement, key, since, place, int(status), code)

    def statuses(self, key: int, intervals: Iterable[tuple[datetime, Status]]) -> None:
        """Many of them."""
        rows = [(key, since, int(status)) for since, status in intervals]
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO telemetry.status_interval VALUES (%s, %s, 0, %s, NULL, NULL, 1)", rows)

    def silence(self, station_id: str, since: datetime, until: datetime | None) -> None:
        """The station was not heard."""
        self.execute("INSERT INTO telemetry.silence VALUES (%s, %s, %s, 1)", station_id, since, until)

    def session(self, key: int, start: datetime, minutes: int, energy_kwh: float) -> UUID:
        """A session that ended."""
        session, end = uuid4(), start + timedelta(minutes=minutes)
        self.execute(
            "INSERT INTO telemetry.session (session_key, id, connector_key, started_at, last_at, ended_at, end_reason, "
            "energy_uj, integrated_uj, readings, flagged) "
            "VALUES ((SELECT count(*) FROM telemetry.session), %s, %s, %s, %s, %s, %s, %s, 0, 1, 0)",
            *(session, key, start, end, end, int(EndReason.ENDED), round(energy_kwh * UJ_PER_KWH)),
        )
        return session

    def window(self, key: int, minute: datetime, power_w: int) -> None:
        """A minute with one power."""
        self.execute("DELETE FROM telemetry.window_1m")
        add_readings(self.url, [Reading(key, minute, power_mw=power_w * 1_000)])


@asynccontextmanager
async def running_reporting(url: str, **settings: Any) -> AsyncIterator[Reporting]:
    """The service, with an operator's, a finance and a device's token."""
    make_schemas(url, [one for one in all_services() if one.has_database], prepared=COARSER_WINDOWS_SQL)
    clock = ManualClock(NOW)
    access = await open_database(url, name="access", connections_max=1)
    tokens = TokenStore(access)
    issued: dict[str, str] = {
        kind: (await tokens.issue(kind, subject="D1" if kind == "driver" else None))[0] for kind in KINDS
    }
    app = make_app("reporting", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(tokens, clock)
    bus = InProcessBus(load_retry_policy())
    try:
        async with (
            open_service(SERVICE, url, clock, app=app, settings=load_settings(**settings)) as service,
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, timeout=30) as client,
        ):
            await service.consume(bus)
            yield Reporting(client, server.url, issued, clock, url, service, bus)
    finally:
        await bus.close()
        await access.close()
