"""Dead letters in a process that runs: written down as they come, sent back to their queues when told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from kit.database.postgres import open_database
from kit.errors import Unavailable
from kit.messaging.bus import Bus
from kit.messaging.dead_letters import ROLE, SCHEMA, DeadLetterMetrics, DeadLetterStore
from kit.messaging.outbox import Relay, RelayMetrics
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web

FORGET_S: Final = 3_600.0  # between looks for letters that are past keeping


@asynccontextmanager
async def open_dead_letters(
    url: str, bus: Bus, metrics: RelayMetrics, lifespan: Lifespan, web: Web
) -> AsyncIterator[None]:
    """Within the block, beside a relay: one process is enough, more do no harm. Raises Unavailable, ConfigError."""
    database = await open_database(url, name="voltstream events", role=ROLE, connections_max=4)
    try:
        store = DeadLetterStore(database, DeadLetterMetrics(web.registry))
        await bus.subscribe_dead(store.keep)
        relay = Relay(url, SCHEMA, bus, metrics, headers=True)
        running = lifespan.spawn(relay.run(), "relay of dead letters")
        forgetting = lifespan.spawn(_forget(store), "dead letters past keeping")
        try:
            yield
        finally:
            forgetting.cancel()
            relay.close()
            await asyncio.wait((running, forgetting))
    finally:
        await database.close()


async def _forget(store: DeadLetterStore) -> None:
    while True:
        with suppress(Unavailable):
            await store.forget_old()
        await asyncio.sleep(FORGET_S)
