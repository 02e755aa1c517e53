"""Outbox, RabbitMQ and idempotent consumer together, while the broker and the database come and go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import msgspec
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from kit.database.postgres import Database, open_database
from kit.errors import Unavailable
from kit.messaging.bus import DIRECT
from kit.messaging.consumer import Source, consume
from kit.messaging.outbox import OutboxEvent, Relay, RelayMetrics, Transaction, insert_async
from kit.messaging.rabbit_bus import RabbitBus
from kit.retry import RetryPolicy
from schemas.events import Envelope, Event, EventMetadata
from tests.private_servers import PrivateServers
from tests.waiting import eventually

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.sale (number int NOT NULL);
CREATE TABLE shop.booked (number int NOT NULL);
CREATE TABLE shop.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id uuid NOT NULL, exchange text NOT NULL,
    routing_key text NOT NULL, body bytea NOT NULL, headers jsonb, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE shop.events_processed (
    queue text NOT NULL, event_id uuid NOT NULL, processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, event_id));
"""
IN_HAND = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction' AND query LIKE '%events_processed%'
"""
# Fewer attempts than an outage would cost, if it cost any.
POLICY = RetryPolicy.model_validate({"default": {"first_s": 0.05, "ceiling_s": 0.1, "attempts_max": 3}})
DECODE = msgspec.json.Decoder(Event[dict[str, int]]).decode


@pytest.fixture
async def shop(database_url: str) -> AsyncIterator[Database]:
    """A database with all tables."""
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLES)
    database = await open_database(database_url, name="shop", connections_max=4)
    yield database
    await database.close()


@asynccontextmanager
async def selling(
    database: Database, url: str, rabbitmq_url: str, name: str, gate: asyncio.Event | None = None
) -> AsyncIterator[None]:
    """Relay and consumer, at work; the consumer books once the gate is open."""
    bus = RabbitBus(rabbitmq_url, POLICY, name="test")
    bus.start()
    await bus.wait_ready(30)

    async def book(connection: Transaction, event: Event[dict[str, int]]) -> None:
        if gate is not None:
            await gate.wait()
        await connection.execute("INSERT INTO shop.booked VALUES ($1)", event.payload["number"])

    await consume(bus, database, Source(name, name), schema="shop", decode=DECODE, handle=book)
    relay = Relay(url, "shop", bus, RelayMetrics(CollectorRegistry()))
    running = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        relay.close()
        await running
        await bus.close()


async def sell(database: Database, name: str, number: int) -> None:
    """One business call: the sale and its event."""
    event_id = uuid4()
    metadata = EventMetadata(
        event_id=event_id, timestamp="", source="shop", correlation_id="", type=f"{name}.v1", version=1
    )
    body = msgspec.json.encode(Envelope(metadata, {"number": number}))
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO shop.sale VALUES ($1)", number)
        await insert_async(connection, "shop", [OutboxEvent(event_id, DIRECT, name, body)])


async def booked(database: Database) -> list[int]:
    return [row[0] for row in await database.fetch("SELECT number FROM shop.booked ORDER BY number")]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_while_the_broker_is_down_business_goes_on_and_then_everything_arrives_once(
    shop: Database, database_url: str, rabbitmq_url: str, servers: PrivateServers, how: str
) -> None:
    name = f"t_{uuid4().hex[:12]}"
    async with selling(shop, database_url, rabbitmq_url, name):
        for number in range(20):
            await sell(shop, name, number)
        if how == "kill":  # queues that are a second old do not survive it in RabbitMQ 3.10 (see the bus's contract)
            await asyncio.to_thread(servers.rabbitmq.stop)
            await asyncio.to_thread(servers.rabbitmq.start)

            async def begun() -> bool:
                return len(await booked(shop)) >= 20

            await eventually(begun, 120)
        await asyncio.to_thread(getattr(servers.rabbitmq, how))
        for number in range(20, 60):
            await sell(shop, name, number)
        assert await shop.fetchval("SELECT count(*) FROM shop.outbox") >= 40
        await asyncio.to_thread(servers.rabbitmq.start)
        for number in range(60, 80):
            await sell(shop, name, number)

        async def all_booked() -> bool:
            return len(await booked(shop)) >= 80

        await eventually(all_booked, 120)

        async def outbox_is_empty() -> bool:
            return not await shop.fetchval("SELECT count(*) FROM shop.outbox")

        await eventually(outbox_is_empty, 60)
    assert await booked(shop) == list(range(80))


async def test_while_the_database_is_down_events_wait_and_none_is_given_up(
    shop: Database, database_url: str, rabbitmq_url: str, servers: PrivateServers
) -> None:
    name, gate = f"t_{uuid4().hex[:12]}", asyncio.Event()
    for number in range(20):
        await sell(shop, name, number)
    async with selling(shop, database_url, rabbitmq_url, name, gate):

        def in_hand() -> bool:
            """By a connection of its own: those who wait at the gate may have all of the pool's."""
            with psycopg.connect(database_url) as connection:
                held = connection.execute(IN_HAND).fetchone()
            return held != (0,)

        await eventually(in_hand, 60)
        await asyncio.to_thread(servers.postgres.stop)
        gate.set()
        with pytest.raises(Unavailable):
            await sell(shop, name, 99)
        await asyncio.to_thread(servers.postgres.start)

        async def all_booked() -> bool:
            try:
                return len(await booked(shop)) >= 20
            except Unavailable:
                return False

        await eventually(all_booked, 120)
    assert await booked(shop) == list(range(20))
