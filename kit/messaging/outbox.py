"""The outbox: events are rows of the business transaction; a relay publishes them and deletes what is confirmed.

The table is `<schema>.outbox` of kit/database/standard_tables.

Events are published in the order of their ids, at least once. After a failed publish a later event may overtake an
earlier one. An event that is slow to be taken, as while its consumer is paused, or that a full queue refuses, holds up
those of its routing key only.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Union
from uuid import UUID

import asyncpg
import msgspec
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Gauge
from psycopg import Cursor

from kit.database.login import connect_async
from kit.database.names import checked_name
from kit.errors import QueueFull, Unavailable
from kit.messaging.messages import EVENT_ID, EXCHANGES, Message, Publishes
from kit.observability.logs import get_logger
from kit.observability.tracing import SpanOrigin, origin_of, records_spans, span
from kit.retry import reconnect_pauses_s

WINDOW: Final = 1_000  # events of a routing key being published at once; at 10 ms a confirm, 100 k events/s
# Between looks without a notification, which the worker's commits do not send (it would make them wait for each other);
# and between attempts to become the active relay.
POLL_S: Final = 1.0
MEASURE_S: Final = 5.0  # between counts of the backlog: a million rows take ~0.1 s
COMMAND_TIMEOUT_S: Final = 10.0  # one statement; they take milliseconds
CLOSE_TIMEOUT_S: Final = 5.0  # for pending confirms; events confirmed later are published again by the next relay

# Errors of a lost connection. asyncpg raises the last while the server is closing it (see `outages`).
_LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

Transaction = Union["asyncpg.Connection[Any]", "asyncpg.pool.PoolConnectionProxy[Any]"]
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event to be published."""

    event_id: UUID
    exchange: str
    routing_key: str
    body: bytes


def insert(cursor: Cursor[Any], schema: str, events: Sequence[OutboxEvent]) -> None:
    """Add events to the transaction of `cursor` (psycopg)."""
    if events:
        cursor.execute(_insert_sql(schema, *["%s"] * 5), (*_columns(events), _channel(schema)))


async def insert_async(connection: Transaction, schema: str, events: Sequence[OutboxEvent]) -> None:
    """Add events to the open transaction of `connection` (asyncpg)."""
    if events:
        sql = _insert_sql(schema, *(f"${number}" for number in range(1, 6)))
        await connection.execute(sql, *_columns(events), _channel(schema))


def announce_sql(schema: str) -> tuple[str, str]:
    """Statement and argument (asyncpg) that wake the relay of `schema` when the transaction commits."""
    return "SELECT pg_notify($1, '')", _channel(schema)


def _columns(events: Sequence[OutboxEvent]) -> tuple[list[UUID], list[str], list[str], list[bytes]]:
    for event in events:
        if event.exchange not in EXCHANGES:
            raise ValueError(f"event {event.event_id}: no exchange {event.exchange!r}")
    return (
        [event.event_id for event in events],
        [event.exchange for event in events],
        [event.routing_key for event in events],
        [event.body for event in events],
    )


def _insert_sql(schema: str, event_id: str, exchange: str, routing_key: str, body: str, channel: str) -> str:
    """One statement that adds events and wakes the relay when the transaction commits."""
    return (
        f"WITH added AS (INSERT INTO {checked_name(schema)}.outbox (event_id, exchange, routing_key, body) "  # noqa: S608 - checked name
        f"SELECT e, x, k, b FROM unnest({event_id}::uuid[], {exchange}::text[], {routing_key}::text[], {body}::bytea[])"
        f" WITH ORDINALITY AS events (e, x, k, b, n) ORDER BY n) SELECT pg_notify({channel}, '')"
    )


def _channel(schema: str) -> str:
    return f"{checked_name(schema)}_outbox"


class _TracedMetadata(msgspec.Struct):
    """The needed part of an event's."""

    traceparent: str = ""


class _TracedEvent(msgspec.Struct):
    """The needed part of an event."""

    metadata: _TracedMetadata


_traced = msgspec.json.Decoder(_TracedEvent)


def _origin_of(body: bytes) -> SpanOrigin:
    """Of an event's publication."""
    try:
        return origin_of([_traced.decode(body).metadata.traceparent])
    except (ValueError, RecursionError):  # whoever consumes it has to say so
        return origin_of([])


class RelayMetrics:
    """Metrics of published and waiting events."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("schema",)
        self.published = Counter("events_published", "Events confirmed by the bus", labels, registry=registry)
        self.failed = Counter("outbox_failed_publishes", "Publishes to be tried again", labels, registry=registry)
        self.backlog = Gauge("outbox_backlog_events", "Events in the table", labels, registry=registry)
        self.oldest_s = Gauge("outbox_oldest_age_seconds", "Age of the oldest event", labels, registry=registry)
        self.active = Gauge("outbox_relay_active", "1 where this relay is the active one", labels, registry=registry)


@dataclass(slots=True)
class _Refusal:
    """A full queue refuses events of a routing key: none is published before `until_s`."""

    pauses: Iterator[float]
    until_s: float = 0.0


class Relay:
    """Publishes one schema's outbox. Of several relays one is active, by an advisory lock; the others wait for it."""

    def __init__(self, database_url: str, schema: str, bus: Publishes, metrics: RelayMetrics) -> None:
        """The relay does not own `bus`."""
        table = f"{checked_name(schema)}.outbox"
        self._database_url = database_url
        self._schema = schema
        self._bus = bus
        self._select = (
            f"SELECT id, event_id, exchange, routing_key, body, headers FROM {table} "  # noqa: S608 - checked name
            "WHERE id <> ALL ($1::bigint[]) AND routing_key <> ALL ($2::text[]) ORDER BY id LIMIT $3"
        )
        self._delete = f"DELETE FROM {table} WHERE id = ANY ($1::bigint[])"  # noqa: S608 - checked name
        self._measure = f"SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0) FROM {table}"  # noqa: S608 - checked name
        self._published = metrics.published.labels(schema)
        self._failed = metrics.failed.labels(schema)
        self._backlog = metrics.backlog.labels(schema)
        self._oldest_s = metrics.oldest_s.labels(schema)
        self._active = metrics.active.labels(schema)
        self._wake = asyncio.Event()  # something was confirmed, something failed, a notification, or close
        self._closing = False
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._under_way: defaultdict[str, int] = defaultdict(int)  # those, by routing key
        self._refusals: dict[str, _Refusal] = {}  # by routing key, until an event of it is confirmed
        self._confirmed: list[int] = []
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Until `close`, through outages of the database and of the bus."""
        pauses = reconnect_pauses_s()
        while not self._closing:
            try:
                connection = await connect_async(
                    self._database_url,
                    command_timeout=COMMAND_TIMEOUT_S,
                    timeout=COMMAND_TIMEOUT_S,
                    server_settings={"application_name": "voltstream relay"},
                )
                try:
                    await connection.add_listener(_channel(self._schema), lambda *_: self._wake.set())
                    pauses = reconnect_pauses_s()
                    await self._wait_and_lead(connection)
                finally:
                    self._active.set(0)
                    await self._abandon()
                    with suppress(*_LOST):
                        await connection.close(timeout=COMMAND_TIMEOUT_S)
            except (*_LOST, Unavailable) as error:
                _log.warning("outbox_database_lost", schema=self._schema, error=repr(error))
                await self._wait(next(pauses))

    def close(self) -> None:
        """Have `run` finish what is under way and return."""
        self._closing = True
        self._wake.set()

    async def _wait_and_lead(self, connection: "asyncpg.Connection[Any]") -> None:
        key = f"voltstream outbox {self._schema}"
        lock = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
        while not self._closing and not await connection.fetchval(lock, key):
            await self._wait(POLL_S)
        if not self._closing:
            self._active.set(1)
            _log.info("outbox_relay_active", schema=self._schema)
            await self._lead(connection)

    async def _lead(self, connection: "asyncpg.Connection[Any]") -> None:
        pauses = reconnect_pauses_s()
        loop = asyncio.get_running_loop()
        measured_s = loop.time() - MEASURE_S
        while not self._closing:
            self._wake.clear()
            await self._delete_confirmed(connection)
            if loop.time() - measured_s >= MEASURE_S:
                measured_s = loop.time()
                backlog, oldest_s = await connection.fetchrow(self._measure) or (0, 0)
                self._backlog.set(backlog)
                self._oldest_s.set(float(oldest_s))
            if self._failure is not None:
                _log.warning("outbox_publish_failed", schema=self._schema, error=repr(self._failure))
                self._failure = None
                await asyncio.sleep(next(pauses))
            fetched = await self._publish_next(connection)
            if not fetched and not self._confirmed:
                await self._wait(POLL_S)
            if self._confirmed and self._failure is None:
                pauses = reconnect_pauses_s()
        if self._in_flight:
            await asyncio.wait(list(self._in_flight.values()), timeout=CLOSE_TIMEOUT_S)
        await self._delete_confirmed(connection)

    async def _publish_next(self, connection: "asyncpg.Connection[Any]") -> int:
        """Begin to publish the oldest events that are not under way. Returns how many."""
        waiting = {key for key, count in self._under_way.items() if count > WINDOW // 2}
        waiting |= {key for key in self._refusals if self._is_postponed(key)}
        room = WINDOW - max((count for key, count in self._under_way.items() if key not in waiting), default=0)
        rows = await connection.fetch(self._select, [*self._in_flight, *self._confirmed], [*waiting], room)
        for row in rows:
            number, event_id, exchange, routing_key, body, headers = row
            own = {EVENT_ID: str(event_id)} if headers is None else msgspec.json.decode(headers, type=dict[str, str])
            message = Message(exchange, routing_key, body, own)
            task = asyncio.create_task(self._publish(message))
            self._in_flight[number] = task
            self._under_way[routing_key] += 1
            task.add_done_callback(partial(self._settle, number, routing_key))
        return len(rows)

    async def _publish(self, message: Message) -> None:
        """In the trace that the event names, where spans are recorded."""
        if not records_spans():
            await self._bus.publish(message)
            return
        with span(f"{message.routing_key} publish", origin=_origin_of(message.body), kind=SpanKind.PRODUCER):
            await self._bus.publish(message)

    def _settle(self, number: int, routing_key: str, task: "asyncio.Task[None]") -> None:
        if self._in_flight.pop(number, None) is None:
            return
        self._under_way[routing_key] -= 1
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._confirmed.append(number)
            if not self._is_postponed(routing_key):  # while it is, what was published before the refusal is confirmed
                self._refusals.pop(routing_key, None)
        else:
            self._failed.inc()
            if not isinstance(error, QueueFull):
                self._failure = error
            elif not self._is_postponed(routing_key):
                self._postpone(routing_key, error)
        self._wake.set()

    def _is_postponed(self, routing_key: str) -> bool:
        refusal = self._refusals.get(routing_key)
        return refusal is not None and asyncio.get_running_loop().time() < refusal.until_s

    def _postpone(self, routing_key: str, error: QueueFull) -> None:
        """Publish no events of that key for a while."""
        refusal = self._refusals.setdefault(routing_key, _Refusal(reconnect_pauses_s()))
        refusal.until_s = asyncio.get_running_loop().time() + next(refusal.pauses)
        _log.warning("outbox_queue_full", schema=self._schema, routing_key=routing_key, error=str(error))

    async def _delete_confirmed(self, connection: "asyncpg.Connection[Any]") -> None:
        if self._confirmed:
            numbers = self._confirmed[:]
            await connection.execute(self._delete, numbers)
            del self._confirmed[: len(numbers)]
            self._published.inc(len(numbers))

    async def _abandon(self) -> None:
        """The database is gone or the relay closes: events under way are published again by the next active relay."""
        tasks = list(self._in_flight.values())
        self._in_flight.clear()
        self._under_way.clear()
        self._refusals.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._confirmed.clear()
        self._failure = None

    async def _wait(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        if not self._closing:
            self._wake.clear()
