"""The audit service, served on a real PostgreSQL with a few routes to be audited."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import psycopg
from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry

from api.audit.components import Audit
from api.audit.declaration import SERVICE
from api.audit.sealing import verify
from api.audit.store import AuditStore
from kit.audit.entry import Actor
from kit.audit.recording import record
from kit.audit.writer import AuditWriter
from kit.auth.authenticator import Authenticator
from kit.auth.requirements import require_scope
from kit.auth.scopes import KINDS
from kit.auth.token_store import Principal, TokenStore
from kit.clock import ManualClock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import Database, open_database
from kit.web.app import make_app
from kit.web.problem import Problem
from kit.web.route_rules import counted
from kit.web.serving.server import serve
from tests.serving import make_schemas, open_service
from tests.waiting import eventually
from voltstream.runtime.database import AUDIT_ROLE
from voltstream.settings import load_settings

PATH = "/api/v1/audit"
NOW = datetime(2026, 3, 29, 9, tzinfo=UTC)
Operator = Annotated[Principal, Depends(require_scope("stations:write"))]

things = APIRouter(prefix="/api/v1/things", include_in_schema=False)


@things.get("/{name}")
async def _read(name: str, _: Operator) -> str:
    return name


@things.post("/{name}")
async def _change(name: str, _: Operator) -> str:
    status = {"broken": 500, "wrong": 409, "often": 429}.get(name)
    if status is not None:
        raise Problem(status, "no")
    return name


@things.post("", dependencies=[Depends(require_scope("readings:write", heeds_stations=True)), Depends(counted)])
async def _many() -> None:
    """Too many to be recorded one by one."""


@dataclass
class Running:
    """The service, served, with a few routes to be audited."""

    client: httpx.AsyncClient
    tokens: Mapping[Any, str]
    clock: ManualClock
    url: str
    base_url: str
    database: Database  # in the service's role
    audit: Audit
    writer: AuditWriter
    store: AuditStore

    async def ask(self, method: str, path: str, who: str | None = "operator", **more: Any) -> httpx.Response:
        headers = {"x-correlation-id": f"{method} {path}"}
        if who is not None:
            headers["authorization"] = f"Bearer {self.tokens.get(who, who)}"
        return await self.client.request(method, path, headers=headers, **more)

    async def entries(self, **params: Any) -> list[dict[str, Any]]:
        """As an operator reads them, newest first; not those of the test's own tokens."""
        await self.writer.flush()
        answer = await self.ask("GET", PATH, params=params)
        assert answer.status_code == 200, answer.text
        return [entry for entry in answer.json()["entries"] if entry["action"] != "token.issued"]

    async def add(self, count: int, transaction: Any = None) -> None:
        """That many entries."""
        if transaction is None:
            async with self.database.transaction() as own:
                await self.add(count, own)
            return
        for number in range(count):
            await record(transaction, "thing.changed", f"thing/{number}", after={"number": number})

    async def sealed(self) -> None:
        """All that there is. A transaction of the server's own may be in the way for a while."""

        async def all_sealed() -> bool:
            await self.audit.sealer.run()
            return (await verify(self.database)).unsealed == 0

        await eventually(all_sealed, within_s=60)

    def as_owner(self, query: str, *args: Any) -> Any:
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(query.encode(), args)
            return cursor.fetchall() if cursor.description else None


@asynccontextmanager
async def running_audit(database_url: str) -> AsyncIterator[Running]:
    """The service, served from that empty database."""
    make_schemas(database_url, [SERVICE])
    clock = ManualClock(NOW)
    access = await open_database(database_url, name="access", connections_max=1)
    writing = await open_database(database_url, name="writing", role=AUDIT_ROLE, connections_max=1)
    tokens_store = TokenStore(access, Actor("cli/root"))
    tokens = {kind: (await tokens_store.issue(kind, subject="d-1" if kind == "driver" else None))[0] for kind in KINDS}
    app = make_app("audit", "0", registry=CollectorRegistry(), clock=clock)
    app.state.authenticator = Authenticator(tokens_store, clock)
    writer = AuditWriter(writing, clock, CollectorRegistry())
    app.state.audit = writer.requests
    config = RuntimeConfig(load_settings())
    app.include_router(things)
    try:
        async with (
            open_service(SERVICE, database_url, clock, app=app, config=config) as opened,
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False) as client,
        ):
            yield Running(
                client, tokens, clock, database_url, server.url, opened.database, opened.components, writer,
                AuditStore(opened.database),
            )  # fmt: skip
    finally:
        config.close()
        await access.close()
        await writing.close()
