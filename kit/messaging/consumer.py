"""The idempotent consumer: what an event causes is committed together with the record that it was handled.

    decode = msgspec.json.Decoder(Event[SessionCompleted]).decode

    async def handle(connection: Transaction, event: Event[SessionCompleted]) -> None: ...

    await consume(bus, database, Source(group_queue("billing", SESSION_COMPLETED), "session.completed"),
                  schema="billing", decode=decode, handle=handle)

The schema must have the table `events_processed` (`kit.messaging.inbox`). An event is acknowledged after the commit, so
it may be delivered again; its id is then found in the table. `consume_batches` handles many events in one transaction,
for high rates. Failures:

- the bytes cannot be decoded, or the handler raises Unprocessable: the event is dead-lettered at once, since a retry
  would fail again. Replay it (`voltstream events dlq replay`) once code that can read it is deployed;
- the handler raises Unavailable or Overloaded, as while the database is down: the event stays unacknowledged until the
  dependency is back and loses no attempt (see `kit.messaging.delivery_attempts`);
- the handler raises anything else: the transaction is rolled back, the event is redelivered by its queue's policy and
  finally dead-lettered.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar
from uuid import UUID

from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter

from kit.clock import parse_rfc3339
from kit.database.postgres import Database
from kit.errors import Unprocessable
from kit.messaging.bus import DIRECT, PREFETCH, Bus, Message
from kit.messaging.gate import Gate
from kit.messaging.group_commit import GroupCommit
from kit.messaging.inbox import record_new_events
from kit.messaging.outbox import Transaction
from kit.observability.logs import correlation_id, get_logger
from kit.observability.tracing import current_traceparent, origin_of, span

ERROR_CHARS_MAX: Final = 200  # of a decoder's error text: it may quote the input

_log = get_logger(__name__)


def moment_of(text: str) -> datetime:
    """A moment as events write it, aware, UTC. Raises Unprocessable: no retry makes the event readable."""
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise Unprocessable(f"{text!r} is {error}") from error


class Metadata(Protocol):
    """The metadata of every event."""

    @property
    def event_id(self) -> UUID:
        """The id by which duplicates are recognized."""

    @property
    def type(self) -> str:
        """Event type and version: `session.completed.v1`."""

    @property
    def correlation_id(self) -> str:
        """Correlation id of the work that the event is a part of."""

    @property
    def traceparent(self) -> str:
        """W3C trace context; empty where there is no trace."""


class DecodedEvent(Protocol):
    """A decoded event."""

    @property
    def metadata(self) -> Metadata:
        """The event's metadata."""


@dataclass(frozen=True, slots=True)
class EventContext:
    """Correlation id and trace of the work that an event is published in; events that it causes carry the same."""

    correlation_id: str
    traceparent: str = ""


def current_event_context() -> EventContext:
    """The context of the current work."""
    return EventContext(correlation_id.get(), current_traceparent())


@contextmanager
def in_event_context(context: EventContext, what: str, attributes: Mapping[str, str] | None = None) -> Iterator[None]:
    """Work that one event causes: what it logs and publishes bears the event's ids."""
    token = correlation_id.set(context.correlation_id)
    try:
        with span(what, origin=origin_of([context.traceparent]), kind=SpanKind.CONSUMER, attributes=attributes):
            yield
    finally:
        correlation_id.reset(token)


E = TypeVar("E", bound=DecodedEvent)


@dataclass(slots=True)
class Delivered(Generic[E]):
    """An event of a batch."""

    event: E
    key: Hashable
    context: EventContext
    new: bool = False


Decode = Callable[[bytes], E]
Handle = Callable[[Transaction, E], Awaitable[None]]
HandleBatch = Callable[[Transaction, Sequence[Delivered[E]]], Awaitable[None]]
Process = Callable[[E], Awaitable[bool]]  # whether the event was new


@dataclass(frozen=True, slots=True)
class Source:
    """The queue that a consumer reads, and its binding."""

    queue: str  # of this consumer group alone
    routing_key: str
    exchange: str = DIRECT
    prefetch: int = PREFETCH  # unacknowledged at once; each takes a database connection unless batched
    gate: Gate | None = None  # while it is closed events stay in the queue


class ConsumerMetrics:
    """Count of deliveries by outcome."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "events_consumed",
            "Deliveries by outcome: handled, repeated (known already), unprocessable, failed (to come again)",
            ("queue", "outcome"),
            registry=registry,
        )


async def consume(
    bus: Bus,
    database: Database,
    source: Source,
    *,
    schema: str,
    decode: Decode[E],
    handle: Handle[E],
    metrics: ConsumerMetrics | None = None,
) -> None:
    """Subscribe `handle` to `source`; it works in an open transaction of `schema`'s role. Raises Unavailable."""

    async def process(event: E) -> bool:
        async with database.transaction() as connection:
            new = await record_new_events(connection, schema, [(source.queue, event.metadata.event_id)])
            if new:
                await handle(connection, event)
        return bool(new)

    await listen(bus, source, decode=decode, process=process, metrics=metrics)


async def consume_batches(
    bus: Bus,
    database: Database,
    source: Source,
    *,
    schema: str,
    decode: Decode[E],
    key: Callable[[E], Hashable],
    handle: HandleBatch[E],
    metrics: ConsumerMetrics | None = None,
) -> None:
    """As `consume`, but the events that arrive while a transaction is under way share the next one.

    Two events with equal keys are never in one transaction: the second waits for the next. If a transaction fails, each
    of its events is tried alone, so that only the faulty one is redelivered.
    """

    async def work(batch: Sequence[Delivered[E]]) -> None:
        async with database.transaction() as connection:
            event_keys = [(source.queue, one.event.metadata.event_id) for one in batch]
            new = await record_new_events(connection, schema, event_keys)
            for one, event_key in zip(batch, event_keys, strict=True):
                one.new = event_key in new
            if new:
                await handle(connection, [one for one in batch if one.new])

    batches = GroupCommit(work)

    async def process(event: E) -> bool:
        one = Delivered(event, key(event), current_event_context())
        await batches.submit(one)
        return one.new

    await listen(bus, source, decode=decode, process=process, metrics=metrics)


async def listen(
    bus: Bus, source: Source, *, decode: Decode[E], process: Process[E], metrics: ConsumerMetrics | None = None
) -> None:
    """Subscribe `process` to `source`. `process` makes the event take effect exactly once and returns after the commit,
    with whether the event was new. It runs in the event's trace and correlation id. Raises Unavailable."""
    listener = _Listener(source.queue, decode, process, metrics)
    await bus.subscribe(
        source.queue, source.exchange, source.routing_key, listener, prefetch=source.prefetch, gate=source.gate
    )


class _Listener:
    """The handler of one subscription."""

    def __init__(self, queue: str, decode: Decode[E], process: Process[E], metrics: ConsumerMetrics | None) -> None:
        self._queue = queue
        self._decode: Callable[[bytes], DecodedEvent] = decode
        self._process: Callable[..., Awaitable[bool]] = process
        self._metrics = metrics

    async def __call__(self, message: Message) -> None:
        try:
            event = self._decode(message.body)
        except Exception as error:  # any error: the same bytes would raise it again
            self._count("unprocessable")
            reason = str(error)[:ERROR_CHARS_MAX]
            raise Unprocessable(f"not an event of {self._queue}: {type(error).__name__}: {reason}") from error
        metadata = event.metadata
        ids = {"messaging.message.id": str(metadata.event_id), "messaging.event.type": metadata.type}
        with in_event_context(
            EventContext(metadata.correlation_id, metadata.traceparent), f"{self._queue} process", ids
        ):
            await self._try(event, message.attempt)

    async def _try(self, event: DecodedEvent, attempt: int) -> None:
        try:
            new = await self._process(event)
        except Exception as error:
            # The bus logs the traceback, but without the trace and correlation ids.
            event_id = str(event.metadata.event_id)
            _log.warning("event_not_handled", queue=self._queue, event_id=event_id, attempt=attempt, error=repr(error))
            self._count("unprocessable" if isinstance(error, Unprocessable) else "failed")
            raise
        self._count("handled" if new else "repeated")

    def _count(self, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.handled.labels(self._queue, outcome).inc()
