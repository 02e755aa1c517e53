"""Laws of the idempotent consumer, on a real PostgreSQL and the in-process bus."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from kit.database.postgres import Database, open_database
from kit.errors import Unavailable, Unprocessable
from kit.messaging.bus import DIRECT, InProcessBus, Message
from kit.messaging.consumer import ConsumerMetrics, Delivered, Source, consume, consume_batches
from kit.messaging.outbox import Transaction
from kit.observability.logs import correlation_id
from kit.observability.tracing import current_traceparent, setup_tracing
from kit.retry import RetryPolicy
from schemas.events import Envelope, Event, EventMetadata

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.sale (number int NOT NULL);
CREATE TABLE shop.events_processed (
    queue text NOT NULL, event_id uuid NOT NULL, processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, event_id));
"""
POLICY = RetryPolicy.model_validate(
    {"default": {"first_s": 0.01, "factor": 2, "ceiling_s": 0.02, "attempts_max": 3, "handler_timeout_s": 5}}
)
BAD = 666  # a number that no batch can be with
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Sold(msgspec.Struct, frozen=True):
    """A payload."""

    number: int


DECODE = msgspec.json.Decoder(Event[Sold]).decode


@dataclass
class Shop:
    """A consumer that notes sales, and fails as told."""

    bus: InProcessBus
    database: Database
    failures: list[Exception] = field(default_factory=list)  # of the next calls, after they wrote
    calls: int = 0
    contexts: list[tuple[str, str]] = field(default_factory=list)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    async def handle(self, connection: Transaction, event: Event[Sold]) -> None:
        self.calls += 1
        self.contexts.append((correlation_id.get(), current_traceparent()))
        await connection.execute("INSERT INTO shop.sale VALUES ($1)", event.payload.number)
        if self.failures:
            raise self.failures.pop(0)

    async def handle_batch(self, connection: Transaction, batch: Sequence[Delivered[Event[Sold]]]) -> None:
        self.calls += 1
        self.contexts += [(one.context.correlation_id, one.context.traceparent) for one in batch]
        numbers = [one.event.payload.number for one in batch]
        await connection.executemany("INSERT INTO shop.sale VALUES ($1)", [(number,) for number in numbers])
        if BAD in numbers:
            raise RuntimeError(f"{BAD} is bad")
        if self.failures:
            raise self.failures.pop(0)

    async def sales(self) -> list[int]:
        return [row[0] for row in await self.database.fetch("SELECT number FROM shop.sale ORDER BY number")]

    def outcomes(self, outcome: str) -> float | None:
        return self.registry.get_sample_value("events_consumed_total", {"queue": "shop_sold", "outcome": outcome})


@pytest.fixture
async def closed_shop(database_url: str) -> AsyncIterator[Shop]:
    """Not subscribed yet."""
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLES)
    database = await open_database(database_url, name="shop", connections_max=4)
    made = Shop(InProcessBus(POLICY, sleep=lambda _: asyncio.sleep(0)), database)
    yield made
    await made.bus.close()
    await database.close()


@pytest.fixture(params=["one by one", "in batches"])
async def shop(closed_shop: Shop, request: pytest.FixtureRequest) -> Shop:
    """Subscribed."""
    if request.param == "in batches":
        return await in_batches(closed_shop)
    await consume(
        closed_shop.bus,
        closed_shop.database,
        Source("shop_sold", "shop.sold"),
        schema="shop",
        decode=DECODE,
        handle=closed_shop.handle,
        metrics=ConsumerMetrics(closed_shop.registry),
    )
    return closed_shop


@pytest.fixture
async def in_bulk(closed_shop: Shop) -> Shop:
    """Subscribed in batches."""
    return await in_batches(closed_shop)


async def in_batches(shop: Shop) -> Shop:
    await consume_batches(
        shop.bus,
        shop.database,
        Source("shop_sold", "shop.sold"),
        schema="shop",
        decode=DECODE,
        key=lambda event: event.payload.number,
        handle=shop.handle_batch,
        metrics=ConsumerMetrics(shop.registry),
    )
    return shop


def sold(number: int, event_id: UUID | None = None) -> Message:
    metadata = EventMetadata(
        event_id=event_id or uuid4(),
        timestamp="2026-01-01T00:00:00.000Z",
        source="shop",
        correlation_id=f"basket {number}",
        type="shop.sold.v1",
        version=1,
        traceparent=f"00-{TRACE}-b7ad6b7169203331-01",
    )
    return Message(DIRECT, "shop.sold", msgspec.json.encode(Envelope(metadata, {"number": number})))


async def test_an_event_delivered_again_and_again_has_one_effect(shop: Shop) -> None:
    messages = [sold(number) for number in range(20)]
    await asyncio.gather(*(shop.bus.publish(message) for message in messages * 3))
    assert await shop.sales() == list(range(20))
    assert (len(shop.contexts), shop.outcomes("handled"), shop.outcomes("repeated")) == (20, 20, 40)


async def test_what_comes_while_a_batch_is_at_work_is_the_next_one(in_bulk: Shop) -> None:
    await asyncio.gather(*(in_bulk.bus.publish(sold(number)) for number in range(50)))
    assert await in_bulk.sales() == list(range(50))
    assert in_bulk.calls <= 2  # all of them; or the first one that came, and then the others
    assert {basket for basket, _ in in_bulk.contexts} == {f"basket {number}" for number in range(50)}


async def test_two_events_of_one_key_are_handled_one_after_the_other(in_bulk: Shop) -> None:
    await asyncio.gather(*(in_bulk.bus.publish(sold(7)) for _ in range(4)))
    assert (await in_bulk.sales(), in_bulk.calls) == ([7, 7, 7, 7], 4)


async def test_only_the_event_to_blame_fails_of_a_batch(in_bulk: Shop) -> None:
    await asyncio.gather(*(in_bulk.bus.publish(sold(number)) for number in (0, 1, BAD, 3)))
    assert await in_bulk.sales() == [0, 1, 3]
    (letter,) = in_bulk.bus.dead_letters("shop_sold")
    assert DECODE(letter.body).payload.number == BAD
    assert (in_bulk.outcomes("handled"), in_bulk.outcomes("failed")) == (3, 3)


async def test_what_a_failed_attempt_wrote_is_rolled_back_and_the_next_one_does_it(shop: Shop) -> None:
    shop.failures += [RuntimeError("once"), RuntimeError("twice")]
    await shop.bus.publish(sold(7))
    assert (await shop.sales(), shop.calls, shop.outcomes("failed")) == ([7], 3, 2)
    assert not shop.bus.dead_letters("shop_sold")


async def test_an_event_given_up_leaves_nothing_and_can_be_handled_later(shop: Shop) -> None:
    shop.failures += [RuntimeError(f"{attempt}") for attempt in range(3)]
    message = sold(7)
    await shop.bus.publish(message)
    (letter,) = shop.bus.dead_letters("shop_sold")
    assert (letter.body, await shop.sales()) == (message.body, [])
    await shop.bus.publish(message)
    assert await shop.sales() == [7]


@pytest.mark.parametrize(
    "body", [b"", b"no JSON", b"[]", b'{"payload": {}}', sold(1).body.replace(b'"number":1', b'"number":"x"')]
)
async def test_what_cannot_be_decoded_is_a_dead_letter_at_once(shop: Shop, body: bytes) -> None:
    await shop.bus.publish(Message(DIRECT, "shop.sold", body))
    (letter,) = shop.bus.dead_letters("shop_sold")
    assert letter.headers["error"].startswith("Unprocessable: not an event of shop_sold")
    assert (shop.calls, shop.outcomes("unprocessable"), shop.outcomes("failed")) == (0, 1, None)


async def test_what_the_handler_calls_unprocessable_is_not_tried_again(shop: Shop) -> None:
    shop.failures.append(Unprocessable("a sale of nothing"))
    await shop.bus.publish(sold(7))
    (letter,) = shop.bus.dead_letters("shop_sold")
    assert letter.headers["error"] == "Unprocessable: a sale of nothing"
    assert (shop.calls, await shop.sales()) == (1, [])


async def test_a_dependency_that_is_away_costs_no_attempt(shop: Shop) -> None:
    shop.failures += [Unavailable("away")] * 5
    await shop.bus.publish(sold(7))
    assert (shop.calls, await shop.sales(), shop.bus.dead_letters("shop_sold")) == (6, [7], [])


async def test_the_handler_works_in_the_trace_and_under_the_correlation_id_of_the_event(shop: Shop) -> None:
    exporter = InMemorySpanExporter()
    tracing = setup_tracing("shop", exporter=exporter)
    await shop.bus.publish(sold(7))
    tracing.shutdown()
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert (span.name, f"{span.context.trace_id:032x}") == ("shop_sold process", TRACE)
    assert shop.contexts == [("basket 7", f"00-{TRACE}-{span.context.span_id:016x}-01")]
    assert correlation_id.get() == ""
