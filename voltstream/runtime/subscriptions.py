"""What a service consumes, subscribed as it declares it."""

from typing import Any

import msgspec

from kit.database.postgres import Database
from kit.messaging.bus import DIRECT, Bus
from kit.messaging.consumer import ConsumerMetrics, Source, consume, consume_batches, listen
from kit.service import Consumes, Service
from schemas.topics import group_queue, routing_key


async def subscribe(
    bus: Bus,
    service: Service[Any],
    consumes: Consumes[Any],
    components: Any,
    database: Database | None,
    metrics: ConsumerMetrics,
) -> None:
    """Let the service's handler take the events of its queue. Raises Unavailable."""
    source = Source(
        group_queue(consumes.group or service.name, consumes.event_type),
        routing_key(consumes.event_type),
        prefetch=consumes.prefetch,
    )
    if consumes.receive is not None:
        handler = consumes.receive(components)
        await bus.subscribe(source.queue, DIRECT, source.routing_key, handler, prefetch=source.prefetch)
        return
    decode = msgspec.json.Decoder(consumes.model, float_hook=consumes.float_hook).decode
    if consumes.process is not None:
        await listen(bus, source, decode=decode, process=consumes.process(components), metrics=metrics)
        return
    assert database is not None  # noqa: S101  # a handler within a transaction wants a schema
    schema = service.owned_schema
    if consumes.handle is not None:
        handle = consumes.handle(components)
        await consume(bus, database, source, schema=schema, decode=decode, handle=handle, metrics=metrics)
    if consumes.handle_batch is not None and consumes.key is not None:
        await consume_batches(
            bus,
            database,
            source,
            schema=schema,
            decode=decode,
            key=consumes.key,
            handle=consumes.handle_batch(components),
            metrics=metrics,
        )
