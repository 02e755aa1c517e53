"""How events leave a process: the outboxes' relays, once everybody who is to hear has a queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from kit.messaging.bus import DIRECT, Bus
from kit.messaging.outbox import Relay, RelayMetrics
from schemas.topics import (
    RESERVATION_CONFIRMED,
    SESSION_ASSIGNED,
    SESSION_COMPLETED,
    SESSION_STARTED,
    TELEMETRY_AGGREGATED,
    group_queue,
    routing_key,
)
from voltstream.runtime.process import Lifespan

OUTBOXES: Final = ("telemetry", "pricing", "charging", "billing")  # schemas
# Who hears what. The relay has these queues made before it publishes anything: an event that no queue wants is dropped,
# and the api service may be started for the first time after a session was completed.
HEARD: Final = (
    ("pricing", TELEMETRY_AGGREGATED),
    ("sessions", SESSION_STARTED),
    ("sessions", SESSION_COMPLETED),
    ("billing", SESSION_ASSIGNED),
    ("billing", SESSION_COMPLETED),
    ("billing", RESERVATION_CONFIRMED),
)


@asynccontextmanager
async def relaying(url: str, bus: Bus, metrics: RelayMetrics, lifespan: Lifespan) -> AsyncIterator[None]:
    """Publish the outbox of every schema within the block. Raises Unavailable."""
    for group, event_type in HEARD:
        await bus.declare(group_queue(group, event_type), DIRECT, routing_key(event_type))
    relays = [Relay(url, schema, bus, metrics) for schema in OUTBOXES]
    running = [
        lifespan.spawn(relay.run(), f"relay of {schema}") for relay, schema in zip(relays, OUTBOXES, strict=True)
    ]
    try:
        yield
    finally:
        for relay in relays:
            relay.close()
        await asyncio.wait(running)
