"""Events to a service, every tenth of them twice, and the time until it has handled them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from benchmarks.processes import TimeMeter, TimeSpent
from benchmarks.run import BenchmarkRun, Deadline
from kit.clock import SystemClock
from kit.database.postgres import open_database
from kit.messaging.bus import Bus, InProcessBus, Message
from kit.messaging.consumer import ConsumerMetrics
from kit.messaging.outbox import WINDOW
from kit.messaging.rabbit_bus import RabbitBus
from kit.retry import RetryPolicy
from kit.service import Context, Service
from kit.settings import Settings
from schemas.topics import exchange_of, group_queue, routing_key
from voltstream.runtime.composition import subscribe

_TWICE: Final = 10  # every tenth event is delivered twice
_READY_S: Final = 30.0
_POLL_S: Final = 0.02


class Feed(NamedTuple):
    """Events on a bus, or about to be published on it."""

    bus: Bus
    publish: Callable[[], Awaitable[None]]  # called once the service is subscribed
    deliveries: int


async def in_process_feed(messages: Sequence[Message]) -> Feed:
    """Published while they are measured."""
    bus = InProcessBus(RetryPolicy())
    again = messages[::_TWICE]

    async def publish() -> None:
        await _publish(bus, messages)
        await asyncio.gather(*(bus.publish(message) for message in again))

    return Feed(bus, publish, len(messages) + len(again))


async def rabbit_feed(
    bench: BenchmarkRun, messages: Sequence[Message], service: str, event_types: Sequence[str]
) -> Feed:
    """Published now, to the service's queues for these event types."""
    bus = RabbitBus(bench.server("rabbitmq").url, RetryPolicy(), name="benchmarks")
    bus.start()
    await bus.wait_ready(_READY_S)
    for event_type in event_types:
        await bus.declare(group_queue(service, event_type), exchange_of(event_type), routing_key(event_type))
    published = [*messages, *messages[::_TWICE]]
    await _publish(bus, published)

    async def nothing() -> None: ...

    return Feed(bus, nothing, len(published))


async def _publish(bus: Bus, messages: Sequence[Message]) -> None:
    for at in range(0, len(messages), WINDOW):  # as many at once as a relay publishes
        await asyncio.gather(*(bus.publish(message) for message in messages[at : at + WINDOW]))


async def consumed(
    bench: BenchmarkRun, url: str, service: Service[Any], settings: Settings, feed: Feed, event_types: Sequence[str]
) -> tuple[TimeSpent, CollectorRegistry]:
    """The time from the subscription until all deliveries are handled or found to be repeated, and the metrics."""
    registry = CollectorRegistry()
    consumers = ConsumerMetrics(registry)
    database = await open_database(url, name="benchmarks", role=service.role)
    context = Context(settings, SystemClock(), registry, url, spawn, {}, FastAPI(), own_database=database)
    deadline = Deadline(f"{feed.deliveries} events handled")
    labels = [
        {"queue": group_queue(service.name, event_type), "outcome": outcome}
        for event_type in event_types
        for outcome in ("handled", "repeated")
    ]
    try:
        async with service.open(context) as components:
            meter = TimeMeter(bench.pids("postgres"))
            meter.begin()
            for consumes in service.consumes:
                await subscribe(feed.bus, service, consumes, components, database, consumers)
            await feed.publish()
            while sum(registry.get_sample_value("events_consumed_total", one) or 0 for one in labels) < feed.deliveries:
                deadline.check()
                await asyncio.sleep(_POLL_S)
            return meter.end(), registry
    finally:
        await feed.bus.close()
        await database.close()


def spawn(work: Coroutine[Any, Any, Any], name: str) -> "asyncio.Task[Any]":
    """As `Context.spawn`: nothing watches it here."""
    return asyncio.create_task(work, name=name)
