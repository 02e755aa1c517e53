"""The idempotent consumer: what an event causes is committed together with the note that it was handled.

    decode = msgspec.json.Decoder(Event[SessionCompleted]).decode

    async def handle(connection: Transaction, event: Event[SessionCompleted]) -> None: ...

    await consume(bus, database, Source(group_queue("billing", SESSION_COMPLETED), "session.completed"),
                  schema="billing", decode=decode, handle=handle)

`<schema>.events_processed` is there as `kit.inbox` has it. An event is acknowledged after the commit, so it may come
again, and then finds the note. What becomes of one that cannot be handled:

- its bytes cannot be decoded, or the handler raises Unprocessable: dead-lettered at once, no retry would mend it. It is
  replayed (`voltstream events dlq replay`) once code is in place that can read it;
- the handler raises Unavailable or Overloaded, as it does while the database is away: it waits in hand for the
  dependency, which costs no attempt (see `kit.bus`);
- it raises anything else: rolled back, tried again by the policy of its queue, then dead-lettered.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar
from uuid import UUID

from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter

from kit.bus import DIRECT, PREFETCH, Bus, Message
from kit.errors import Unprocessable
from kit.inbox import first_time
from kit.observability import correlation_id, get_logger
from kit.outbox import Transaction
from kit.postgres import Database
from kit.tracing import context_from, span

ERROR_CHARS_MAX: Final = 200  # of a decoder's message: it may repeat what it has read

_log = get_logger(__name__)


class Metadata(Protocol):
    """What every event says of itself."""

    @property
    def event_id(self) -> UUID:
        """What repetitions are known by."""

    @property
    def type(self) -> str:
        """`session.completed.v1`."""

    @property
    def correlation_id(self) -> str:
        """Of the work that the event is a part of."""

    @property
    def traceparent(self) -> str:
        """W3C; empty where there is no trace."""


class Event(Protocol):
    """What a decoder gives."""

    @property
    def metadata(self) -> Metadata:
        """Of this event."""


E = TypeVar("E", bound=Event)
Decode = Callable[[bytes], E]
Handle = Callable[[Transaction, E], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a consumer's events come from."""

    queue: str  # of this consumer group alone
    routing_key: str
    exchange: str = DIRECT
    prefetch: int = PREFETCH  # handled at once; each has a connection, so more than the pool holds only wait for it


class ConsumerMetrics:
    """What became of deliveries."""

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
    consumer = _Consumer(database, source.queue, schema, decode, handle, metrics)
    await bus.subscribe(source.queue, source.exchange, source.routing_key, consumer, prefetch=source.prefetch)


class _Consumer:
    """The handler of one subscription."""

    def __init__(
        self,
        database: Database,
        queue: str,
        schema: str,
        decode: Decode[E],
        handle: Handle[E],
        metrics: ConsumerMetrics | None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._schema = schema
        self._decode: Callable[[bytes], Event] = decode
        self._handle: Callable[..., Awaitable[None]] = handle
        self._metrics = metrics

    async def __call__(self, message: Message) -> None:
        """Returns once it is committed, or was before."""
        try:
            event = self._decode(message.body)
        except Exception as error:  # whatever it is, these bytes will raise it again
            self._count("unprocessable")
            reason = str(error)[:ERROR_CHARS_MAX]
            raise Unprocessable(f"not an event of {self._queue}: {type(error).__name__}: {reason}") from error
        metadata = event.metadata
        token = correlation_id.set(metadata.correlation_id)
        try:
            with span(
                f"{self._queue} process",
                parent=context_from(metadata.traceparent),
                kind=SpanKind.CONSUMER,
                attributes={"messaging.message.id": str(metadata.event_id), "messaging.event.type": metadata.type},
            ):
                await self._once(event, message.attempt)
        finally:
            correlation_id.reset(token)

    async def _once(self, event: Event, attempt: int) -> None:
        event_id = event.metadata.event_id
        try:
            async with self._database.transaction() as connection:
                new = await first_time(connection, self._schema, self._queue, event_id)
                if new:
                    await self._handle(connection, event)
        except Exception as error:
            # The bus logs the traceback, and knows neither trace nor correlation id.
            _log.warning(
                "event_not_handled", queue=self._queue, event_id=str(event_id), attempt=attempt, error=repr(error)
            )
            self._count("unprocessable" if isinstance(error, Unprocessable) else "failed")
            raise
        self._count("handled" if new else "repeated")

    def _count(self, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.handled.labels(self._queue, outcome).inc()
