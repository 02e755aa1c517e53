"""The reporting service on a database in which others write."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import psycopg
from prometheus_client import CollectorRegistry

from api.reporting.analytics.service import AnalyticsQuery
from api.reporting.components import ReportingComponents
from api.reporting.declaration import SERVICE
from kit.auth.authenticator import Authenticator
from kit.auth.scopes import KINDS, Kind
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import open_database
from kit.messaging.consumer import Delivered, EventContext
from kit.service import Consumes
from kit.web.app import make_app
from kit.web.serving.server import serve
from schemas.events import Event
from tests.api.reporting.month import HOUR, START, Month
from tests.api.reporting.month_maker import make_month
from tests.api.reporting.month_sql import WRITERS_INDEXES
from tests.api.reporting.recomputation import bucket_of
from tests.api.rows import COARSER_WINDOWS_SQL
from tests.serving import Opened, make_schemas, open_service
from voltstream.services import all_services


class Reporting:
    """The service on a database in which others write."""

    def __init__(
        self, opened: Opened[ReportingComponents], clock: ManualClock, writer: psycopg.Connection[Any]
    ) -> None:
        self.service = opened.components
        self.clock = clock
        self.writer = writer

    async def handle(self, events: Sequence[Event[Any]]) -> None:
        """Let the handlers have these, without a look at whether they had them before."""
        by_type = defaultdict(list)
        for event in events:
            by_type[event.metadata.type].append(Delivered(event, 0, EventContext("")))
        for event_type, batch in by_type.items():
            for consumes in SERVICE.consumes:
                if consumes.event_type == event_type:
                    await self._let_handle(consumes, batch)

    async def _let_handle(self, consumes: Consumes[ReportingComponents], batch: Sequence[Delivered[Any]]) -> None:
        async with self.service.database.transaction() as connection:
            if consumes.handle_batch is not None:
                await consumes.handle_batch(self.service)(connection, batch)
            elif consumes.handle is not None:
                for one in batch:
                    await consumes.handle(self.service)(connection, one.event)

    async def play(self, seed: int) -> Month:
        """Two days of two stations, computed."""
        month = make_month(seed, 2, 2)
        await self.compute()
        for change in month.changes:
            self.clock.set_wall(change.at)
            with self.writer.cursor() as cursor:
                change.write(cursor)
            await self.handle(change.events)
        self.clock.advance(2 * HOUR.total_seconds())
        await self.compute()
        return month

    async def compute(self) -> None:
        """Until nothing is dirty but the hour that goes on."""
        while True:
            await self.service.rollups.run()
            open_hour = self.clock.now().replace(minute=0, second=0, microsecond=0)
            query = """
                SELECT (SELECT count(*) FROM reporting.dirty_hour WHERE hour < $1)
                     + (SELECT count(*) FROM reporting.station WHERE grouped < revision)
                     + (SELECT count(*) FROM reporting.co2_stale)
                     + (SELECT count(*) FROM reporting.progress WHERE next < $1)
            """
            if not await self.service.database.fetchval(query, open_hour):
                return

    async def figures(self, limit: int, **asked: Any) -> dict[Any, Any]:
        """All pages: (group, bucket, currency) -> sums."""
        found: dict[Any, Any] = {}
        cursor = None
        while True:
            query = AnalyticsQuery(**asked, names=(), limit=limit, cursor=cursor)
            page, cursor = await self.service.analytics.figures(query)
            assert page.pending_hours == 0
            for one in page.figures:
                bucket = bucket_of(one.start, asked["by"], asked["time_zone"])
                assert bucket == bucket_of(one.end - timedelta(seconds=1), asked["by"], asked["time_zone"])
                key = (one.group, bucket, one.currency)
                assert key not in found
                found[key] = tuple(one.sums.values())
            if cursor is None:
                return found


@asynccontextmanager
async def reporting(url: str, config: RuntimeConfig | None = None) -> AsyncIterator[Reporting]:
    """The service on that empty database."""
    make_schemas(url, [one for one in all_services() if one.migrations], prepared=COARSER_WINDOWS_SQL)
    clock = ManualClock(START)
    with psycopg.connect(url, autocommit=True) as writer:
        writer.execute(WRITERS_INDEXES)
        async with open_service(SERVICE, url, clock, config=config) as opened:
            yield Reporting(opened, clock, writer)


@asynccontextmanager
async def served(url: str) -> AsyncIterator[tuple[Reporting, httpx.AsyncClient, dict[Kind, str]]]:
    """The same over HTTP, with a client and a token of each kind."""
    make_schemas(url, [one for one in all_services() if one.migrations], prepared=COARSER_WINDOWS_SQL)
    clock, access = ManualClock(START), await open_database(url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens = {kind: (await store.issue(kind, subject="d" if kind == "driver" else None))[0] for kind in KINDS}
    app = make_app("reporting", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(store, clock)
    try:
        with psycopg.connect(url, autocommit=True) as writer:
            async with (
                open_service(SERVICE, url, clock, app=app) as opened,
                serve(app, "127.0.0.1", 0) as server,
                httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client,
            ):
                yield Reporting(opened, clock, writer), client, tokens
    finally:
        await access.close()
