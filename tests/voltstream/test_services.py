"""Services as declared, and what follows from it: one folder and one line make a service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from fastapi import APIRouter, Depends

from kit.auth.requirements import require_scope
from kit.auth.token_store import TokenStore
from kit.clock import SystemClock
from kit.config.adjustable import adjustables_of
from kit.database.postgres import Database, open_database
from kit.messaging.bus import DIRECT, EVENT_ID, FANOUT, Bus, Message
from kit.messaging.outbox import OutboxEvent, Transaction, insert_async
from kit.retention import StandardTableSettings
from kit.service import Consumes, Context, Job, Service, provided
from kit.web.limits.settings import RequestLimitSettings
from schemas.events import EventMetadata, envelope_of
from schemas.topics import CONFIG_UPDATED, PRICING_UPDATED, exchange_of, routing_key
from tests.waiting import eventually
from voltstream.architecture_tables import PAGE, tables, written
from voltstream.runtime.authentication import open_authenticator
from voltstream.runtime.composition import Composition
from voltstream.runtime.database import bring_up_to_date
from voltstream.runtime.process import Lifespan
from voltstream.runtime.relay import SERVICE as RELAY
from voltstream.runtime.relay import declare_queues
from voltstream.runtime.web import Web
from voltstream.services import OWN_A_SCHEMA, SERVICES, all_services, follows_config, setting_owners, settings_groups
from voltstream.settings import load_settings, settings_type

RANG, ANSWERED = "doorbell.rang.v1", "doorbell.answered.v1"


# -- A throw-away service: what one folder would hold. ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Doorbell:
    database: Database
    polished: list[int] = field(default_factory=list)

    async def ring(self, connection: Transaction, event: "Rang") -> None:
        await connection.execute("INSERT INTO doorbell.ring (who) VALUES ($1)", event.payload)
        body = msgspec.json.encode({"metadata": event.metadata, "payload": event.payload})
        answer = OutboxEvent(uuid4(), DIRECT, routing_key(ANSWERED), body)
        await insert_async(connection, "doorbell", [answer])

    async def polish(self) -> None:
        self.polished.append(1)


class Rang(msgspec.Struct):
    metadata: EventMetadata
    payload: str


@asynccontextmanager
async def open_doorbell(context: Context) -> AsyncIterator[Doorbell]:
    yield Doorbell(context.database)


router = APIRouter(prefix="/api/v1/doorbell", dependencies=[Depends(require_scope("stations:read"))])


@router.get("/rings")
async def rings(doorbell: Annotated[Doorbell, Depends(provided(Doorbell))]) -> list[str]:
    return [row["who"] for row in await doorbell.database.fetch("SELECT who FROM doorbell.ring ORDER BY who")]


def doorbell_service(migrations: Path) -> Service[Doorbell]:
    migrations.mkdir()
    (migrations / "0001.doorbell.sql").write_text("CREATE TABLE doorbell.ring (who text NOT NULL);")
    return Service(
        name="doorbell",
        summary="who rang",
        open=open_doorbell,
        components=Doorbell,
        router=router,
        migrations=migrations,
        consumes=(Consumes(RANG, Rang, handle=lambda own: own.ring),),
        publishes=(ANSWERED,),
        jobs=(Job("polish", lambda own: own.polish()),),
    )


# -- What follows. ----------------------------------------------------------------------------------------------------


class Platform:
    """The throw-away service and the relay, beside the schemas of the whole product."""

    def __init__(self, url: str, web: Web, composition: Composition, token: str) -> None:
        assert composition.bus is not None
        self.url = url
        self.app = web.app
        self.accepting = web.accepting
        self.bus: Bus = composition.bus
        self.doorbell: Doorbell = composition.components["doorbell"]
        self.token = token

    async def ring(self, who: str, event_id: UUID) -> None:
        metadata = EventMetadata(event_id, "2026-01-01T00:00:00Z", "test", "", RANG, 1, "")
        body = msgspec.json.encode(Rang(metadata, who))
        await self.bus.publish(Message(DIRECT, routing_key(RANG), body, {EVENT_ID: str(event_id)}))

    async def who_rang(self) -> list[str]:
        return list((await self.rings()).json())

    async def rings(self, token: str = "") -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(
                "/api/v1/doorbell/rings", headers={"Authorization": f"Bearer {token or self.token}"}
            )


@pytest.fixture
async def platform(database_url: str, tmp_path: Path) -> AsyncIterator[Platform]:
    service = doorbell_service(tmp_path / "migrations")
    services = [*all_services(), service]
    assert "doorbell/0001.doorbell" in bring_up_to_date(database_url, 2, services)
    assert bring_up_to_date(database_url, 2, services) == []
    web, lifespan = Web("test", SystemClock()), Lifespan()
    settings = load_settings(data_dir=tmp_path / "data")
    async with AsyncExitStack() as stack:
        store: TokenStore = await stack.enter_async_context(open_authenticator(settings, database_url, web))
        token, _ = await store.issue("operator", "test")
        composition = Composition(settings, database_url, lifespan, web, "test", services)
        await stack.enter_async_context(composition.running([service, RELAY]))
        web.accepting.set(is_open=True)
        yield Platform(database_url, web, composition, token)


async def test_events_wait_until_requests_are_accepted(platform: Platform) -> None:
    """A start behind a backlog of events took minutes, in which nobody could ask for the process's health."""
    others: list[Message] = []

    async def other(message: Message) -> None:
        others.append(message)

    await platform.bus.subscribe("test_doorbell_other", DIRECT, routing_key(RANG), other)
    platform.accepting.set(is_open=False)
    ringing = asyncio.create_task(platform.ring("Ada", uuid4()))
    await eventually(lambda: others)
    assert (await platform.rings()).json() == []
    platform.accepting.set(is_open=True)
    await ringing
    assert await eventually(platform.who_rang, within_s=30) == ["Ada"]


async def test_a_service_is_one_declaration(platform: Platform) -> None:
    answers: list[Message] = []

    async def answered(message: Message) -> None:
        answers.append(message)

    await platform.bus.subscribe("test_doorbell_answered", DIRECT, routing_key(ANSWERED), answered)
    twice = uuid4()
    for who, event_id in (("Ada", twice), ("Ada", twice), ("Ben", uuid4())):
        await platform.ring(who, event_id)
    await eventually(lambda: len(answers) == 2, within_s=30)  # its outbox is relayed
    assert (await platform.rings()).json() == ["Ada", "Ben"]  # once, though delivered twice
    assert (await platform.rings("vso_" + "x" * 43)).status_code == 401
    await eventually(lambda: platform.doorbell.polished == [1], within_s=30)


async def test_its_role_sees_its_own_schema_and_no_other(platform: Platform) -> None:
    database = await open_database(platform.url, name="test", role="doorbell_service")
    try:
        assert await database.fetch("SELECT * FROM doorbell.ring") == []
        for table in ("telemetry.reading", "pricing.version", "sessions.request", "billing.invoice", "access.token"):
            with pytest.raises(Exception, match="permission denied"):
                await database.fetch(f"SELECT * FROM {table}")
    finally:
        await database.close()


# -- The product's own. -----------------------------------------------------------------------------------------------


def test_the_list_and_the_declarations_say_the_same() -> None:
    services = all_services()
    assert [service.name for service in services] == list(SERVICES)
    groups = {service.settings for service in services if service.settings is not None}
    assert groups | {RequestLimitSettings, StandardTableSettings} == set(settings_groups())
    assert [one.name for one in services if one.migrations] == list(OWN_A_SCHEMA)
    published = {contract.name: one.name for one in services for contract in one.contracts}
    for service in services:
        for read in service.reads:
            assert published[read] != service.name, f"{service.name} reads its own {read}: it may anyway"
    owners = [service.owned_schema for service in services if service.migrations]
    assert len(owners) == len(set(owners))
    published_types = {event for service in services for event in service.publishes}
    consumed = {consumes.event_type for service in services for consumes in service.consumes}
    assert consumed <= published_types


def test_what_pauses_a_consumer_or_a_job_is_a_setting_that_is_true_or_false() -> None:
    adjustables = adjustables_of(settings_type())
    consumers = {one.paused_by for service in all_services() for one in service.consumes}
    jobs = {one.paused_by for service in all_services() for one in service.jobs}
    pauses = (consumers | jobs) - {""}
    assert "billing.paused" in pauses
    for name in pauses:
        assert (adjustables[name].type, adjustables[name].is_flag) == ("boolean", False)


def test_every_adjustable_setting_has_an_owner_that_follows_it() -> None:
    services, owners = {service.name: service for service in all_services()}, setting_owners()
    for one in adjustables_of(settings_type()).values():
        assert one.description, one.name
        for name in owners[one.field]:
            assert follows_config(services[name]), f"{name} declares {one.name} and hears of no change"


def test_the_limits_of_requests_are_of_every_service_that_serves_routes() -> None:
    serving = {service.name for service in all_services() if service.router is not None}
    owners = setting_owners()
    for name in RequestLimitSettings.model_fields:
        assert set(owners[name]) == serving


def test_the_documentation_has_what_is_declared() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page, tables(all_services())), "run `python -m voltstream.architecture_tables`"


class _Declaring:
    """A bus that notes which queues are made."""

    def __init__(self) -> None:
        self.queues: set[tuple[str, str, str]] = set()

    async def declare(self, queue: str, exchange: str, key: str) -> None:
        self.queues.add((queue, exchange, key))


async def test_the_relay_makes_the_queue_of_every_consumer() -> None:
    bus: Any = _Declaring()
    await declare_queues(all_services(), bus)
    assert ("billing_session_completed", DIRECT, "session.completed") in bus.queues
    assert len(bus.queues) == sum(len(service.consumes) for service in all_services())


def test_what_everyone_must_hear_is_broadcast_and_every_event_has_an_exchange_of_the_bus() -> None:
    types = {one for service in all_services() for one in service.publishes} | {
        consumes.event_type for service in all_services() for consumes in service.consumes
    }
    broadcast = {one for one in types if exchange_of(one) == FANOUT}
    assert broadcast == {one for one in types if one.startswith("station.")} | {CONFIG_UPDATED, PRICING_UPDATED}
    assert {exchange_of(one) for one in types - broadcast} == {DIRECT}
    assert envelope_of(PRICING_UPDATED, uuid4(), {}, source="test", timestamp="").exchange == FANOUT
