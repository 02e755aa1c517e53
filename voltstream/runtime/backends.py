"""The backends of a process: bus, log and live view, each in the process or a server by URL, as set."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from kit.clock import SystemClock
from kit.errors import Unavailable
from kit.live.redis_view import RedisLive
from kit.live.view import InProcessLive, LiveView
from kit.log.partitioned_log import InProcessLog
from kit.log.rabbit_writer import RabbitLogWriter
from kit.messaging.bus import Bus, InProcessBus
from kit.messaging.rabbit_bus import RabbitBus
from kit.messaging.rabbit_connection import Rabbit
from kit.retry import load_retry_policy
from kit.settings import Settings
from kit.web.health import ReadyCheck
from schemas.topics import frames_queue
from voltstream.runtime.database import database_id_of
from voltstream.runtime.dead_letter_events import dead_letter_event_factory

# At the start, for a server that is started beside us; RabbitMQ's own start takes 5 to 15 s.
START_S_MAX: Final = 30.0


@asynccontextmanager
async def open_live(settings: Settings, database_url: str, ready: dict[str, ReadyCheck]) -> AsyncIterator[LiveView]:
    """The live view; where it is a server, `ready` gets a check of it. Raises Unavailable, ConfigError.

    On a Redis every database has keys of its own: documents of another one, or of one since dropped, would be wrong
    here, and counters of its gateways would keep the ledger open for ever.
    """
    live: LiveView
    if settings.distributed_live:
        database_id = await asyncio.to_thread(database_id_of, database_url)
        live = redis = RedisLive(settings.redis_url, prefix=f"live:{database_id}:")
        ready["live view"] = redis.check_ready
    else:
        live = InProcessLive()
    try:
        if settings.distributed_live:
            await redis.check_ready()
        yield live
    finally:
        await live.close()


@asynccontextmanager
async def open_bus(settings: Settings, name: str, ready: dict[str, ReadyCheck] | None) -> AsyncIterator[Bus]:
    """The event bus, connected. `name`: whose, as the broker lists it. `ready` gets a check of it; None: the process
    can do its work without, so nobody waits for the broker. Raises Unavailable."""
    policy, announce = load_retry_policy(), dead_letter_event_factory(SystemClock())
    if not settings.distributed_bus:
        bus = InProcessBus(policy, announce=announce)
        try:
            yield bus
        finally:
            await bus.close()
        return
    rabbit = RabbitBus(settings.rabbitmq_url, policy, name=name, announce=announce)
    rabbit.start()
    try:
        if ready is not None:
            ready["bus"] = rabbit.check_ready
            await rabbit.wait_ready(START_S_MAX)
        yield rabbit
    finally:
        await rabbit.close()


def in_process_log(settings: Settings) -> InProcessLog:
    """The log of the embedded run: both sides are in this process."""
    return InProcessLog(records_max=settings.buffer_frames_max, timeout_s=settings.publish_timeout_s)


async def open_log_writer(settings: Settings, ready: dict[str, ReadyCheck]) -> RabbitLogWriter:
    """The writing side of the distributed log, connected. The caller closes it. Raises Unavailable."""
    writer = RabbitLogWriter(
        settings.rabbitmq_url,
        settings.partitions,
        frames_queue,
        records_max=settings.buffer_frames_max,
        timeout_s=settings.publish_timeout_s,
    )
    ready["log"] = _connected(writer.rabbit)
    writer.start()
    try:
        await writer.rabbit.wait_ready(START_S_MAX)
    except BaseException:
        await writer.close()
        raise
    return writer


def _connected(rabbit: Rabbit) -> ReadyCheck:
    async def check() -> None:
        if not rabbit.ready:
            raise Unavailable(f"RabbitMQ at {rabbit.address} is not reached")

    return check
