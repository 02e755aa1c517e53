"""The service `relay`: events leave the outboxes of all services for the bus; dead letters are kept and sent back."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from kit.messaging.bus import Bus
from kit.messaging.dead_letters import MIGRATIONS, RETENTION, SCHEMA, DeadLetterMetrics, DeadLetterStore
from kit.messaging.full_queues import PublisherPastFullQueues
from kit.messaging.messages import Binding
from kit.messaging.outbox import Relay, RelayMetrics
from kit.service import Context, Service
from schemas.topics import EVENT_FAILED, exchange_of, routing_key
from voltstream.runtime.dead_letter_events import dead_letter_event_factory
from voltstream.runtime.personal_data import PERSONAL_DATA
from voltstream.runtime.settings import RelaySettings
from voltstream.services import all_services, queue_of


@dataclass(frozen=True, slots=True)
class Relays:
    """The outbox relays, and the store of dead letters."""

    letters: DeadLetterStore
    services: Sequence[Service[Any]]
    context: Context


@asynccontextmanager
async def open_relays(context: Context) -> AsyncIterator[Relays]:
    """Publishes nothing yet: that begins with the bus."""
    letters = DeadLetterStore(context.database, DeadLetterMetrics(context.registry))
    yield Relays(letters, context.services or all_services(), context)


@asynccontextmanager
async def relaying(relays: Relays, bus: Bus) -> AsyncIterator[None]:
    """Publish every schema's outbox within the block, keep what consumers give up. Raises Unavailable.

    One process is enough; of several one is active.
    """
    await declare_queues(relays.services, bus)
    await bus.subscribe_dead_letters(relays.letters.keep)
    context, metrics = relays.context, RelayMetrics(relays.context.registry)
    announce = dead_letter_event_factory(context.clock)
    publisher = PublisherPastFullQueues(bus, queues_by_binding(relays.services), announce)
    schemas = dict.fromkeys(service.owned_schema for service in relays.services if service.migrations)
    running = {}
    for schema in schemas:
        relay = Relay(context.database_url, schema, publisher, metrics)
        running[relay] = context.spawn(relay.run(), f"relay of {schema}")
    try:
        yield
    finally:
        for relay in running:
            relay.close()
        await asyncio.wait(running.values())


def queues_by_binding(services: Sequence[Service[Any]]) -> dict[Binding, list[str]]:
    """The queues of all consumer groups."""
    queues: dict[Binding, list[str]] = {}
    for service in services:
        for consumes in service.consumes:
            binding = exchange_of(consumes.event_type), routing_key(consumes.event_type)
            queues.setdefault(binding, []).append(queue_of(service, consumes))
    return queues


async def declare_queues(services: Sequence[Service[Any]], bus: Bus) -> None:
    """Make the queues of all consumer groups before anything is published: an event that no queue takes is dropped, and
    a service may be started for the first time after the event. Raises Unavailable."""
    for (exchange, key), queues in queues_by_binding(services).items():
        for queue in queues:
            await bus.declare(queue, exchange, key)


SERVICE: Final = Service(
    name="relay",
    summary="events leave the outboxes for the bus; dead letters are kept and sent back",
    open=open_relays,
    components=Relays,
    schema=SCHEMA,
    migrations=MIGRATIONS.folder,
    personal_data=PERSONAL_DATA,
    publishes=(EVENT_FAILED,),
    retention=RETENTION,
    settings=RelaySettings,
    run_with_bus=relaying,
    health_port=8084,
)
