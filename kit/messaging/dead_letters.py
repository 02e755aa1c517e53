"""The dead-letter store in PostgreSQL: stores, lists and replays dead letters of either bus.

All SQL of schema `events` stands here. A letter is stored before it is acknowledged, so it is in its bus or here. A
replay is one transaction: the letter is marked as replayed and inserted into `events.outbox`, whose relay publishes it
to the queue that failed and deletes the row once that is confirmed. So no letter is lost or replayed twice.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from prometheus_client import CollectorRegistry, Counter
from psycopg import Connection

from kit.database.migrations import Migrations
from kit.database.postgres import Database
from kit.messaging.messages import (
    ATTEMPTS,
    DEAD_LETTERS,
    ERROR,
    EVENT_ID,
    LETTER_ID,
    ORIGIN_EXCHANGE,
    ORIGIN_ROUTING_KEY,
    FailedMessage,
    Message,
    count_of,
    header_texts,
    replay_of,
)
from kit.messaging.outbox import announce_sql
from kit.retention import RecordRetention, delete_old

SCHEMA: Final = "events"
MIGRATIONS: Final = Migrations(SCHEMA, Path(__file__).parent / "migrations")
REPLAY_MAX: Final = 1_000  # letters in one transaction: ~1 MB

_COLUMNS: Final = "id, queue, event_id, exchange, routing_key, headers, body, error, attempts, died_at, replayed_at"
_STATE: Final = "EXISTS (SELECT FROM events.outbox AS o WHERE o.event_id = l.id) AS moving"
_WAITING: Final = "replayed_at IS NULL OR EXISTS (SELECT FROM events.outbox AS o WHERE o.event_id = l.id)"
_INSERT: Final = """
INSERT INTO events.dead_letter (id, queue, event_id, exchange, routing_key, headers, body, error, attempts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING
"""
_LIST: Final = f"""
SELECT {_COLUMNS}, {_STATE} FROM events.dead_letter AS l
WHERE ($1::text IS NULL OR queue = $1) AND ($2 OR {_WAITING})
ORDER BY died_at, id LIMIT $3
"""  # noqa: S608 - constants
_FIND: Final = f"SELECT {_COLUMNS}, {_STATE} FROM events.dead_letter AS l WHERE id = $1"  # noqa: S608 - constants
_MARK_REPLAYED: Final = f"""
WITH next AS (
    SELECT id FROM events.dead_letter
    WHERE replayed_at IS NULL AND ($1::uuid[] IS NULL OR id = ANY ($1)) AND ($2::text IS NULL OR queue = $2)
      AND died_at <= $4
    ORDER BY died_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE events.dead_letter AS l SET replayed_at = now() FROM next WHERE l.id = next.id
RETURNING l.{_COLUMNS.replace(", ", ", l.")}, true AS moving
"""  # noqa: S608 - constants
_INSERT_OUTBOX: Final = """
INSERT INTO events.outbox (event_id, exchange, routing_key, body, headers) VALUES ($1, $2, $3, $4, $5)
"""
_COUNT_WAITING: Final = """
SELECT queue, count(*) FROM events.dead_letter WHERE replayed_at IS NULL GROUP BY queue ORDER BY 2 DESC, 1
"""
RETENTION: Final = (
    RecordRetention(
        "dead_letters", "events.replayed_letter_retention", delete_old("events.dead_letter", "replayed_at")
    ),
    RecordRetention(
        "dead_letters",
        "events.dead_letter_retention",
        delete_old("events.dead_letter", "died_at", "replayed_at IS NULL"),
    ),
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A stored dead letter."""

    id: UUID
    queue: str
    event_id: str | None
    exchange: str
    routing_key: str
    headers: dict[str, str]
    body: bytes
    error: str
    attempts: int
    died_at: datetime
    replayed_at: datetime | None
    moving: bool  # replayed, and the publish not confirmed yet

    @property
    def state(self) -> str:
        """dead | replaying | replayed"""
        if self.replayed_at is None:
            return "dead"
        return "replaying" if self.moving else "replayed"


class DeadLetterMetrics:
    """Prometheus counters of stored letters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.kept = Counter("dead_letters", "Dead letters, by the queue that failed", ("queue",), registry=registry)


class DeadLetterStore:
    """Dead letters in the database. Every method raises Unavailable where it does not answer."""

    def __init__(self, database: Database, metrics: DeadLetterMetrics | None = None) -> None:
        self._database = database
        self._metrics = metrics

    async def keep(self, letter: Message) -> None:
        """Store it, once however often it is delivered. The handler for `Bus.subscribe_dead_letters`."""
        queue, headers = letter.routing_key, header_texts(letter.headers.items())
        status = await self._database.execute(
            _INSERT,
            _id_of(letter),
            queue,
            headers.get(EVENT_ID),
            headers.get(ORIGIN_EXCHANGE, ""),
            headers.get(ORIGIN_ROUTING_KEY, ""),
            msgspec.json.encode(headers).decode(),
            letter.body,
            headers.get(ERROR, ""),
            count_of(headers.get(ATTEMPTS)),
        )
        if self._metrics is not None and status == "INSERT 0 1":
            self._metrics.kept.labels(queue).inc()

    async def some(self, queue: str | None, letters_max: int, *, replayed: bool = False) -> list[DeadLetter]:
        """The oldest letters, of one queue or all. `replayed`: including those already replayed."""
        rows = await self._database.fetch(_LIST, queue, replayed, letters_max)
        return [_letter(row) for row in rows]

    async def find(self, letter_id: UUID) -> DeadLetter | None:
        """The letter of that id, whatever its state."""
        row = await self._database.fetchrow(_FIND, letter_id)
        return None if row is None else _letter(row)

    async def replay(
        self, ids: Sequence[UUID] | None = None, queue: str | None = None
    ) -> AsyncIterator[list[DeadLetter]]:
        """Replay dead letters (of these ids, of that queue), oldest first; yields each transaction's letters.

        Letters already replayed are left out, and so are messages that fail again meanwhile: those are new letters.
        """
        until = await self._database.fetchval("SELECT now()")
        while letters := await self._replay_some(ids, queue, until):
            yield letters

    async def _replay_some(self, ids: Sequence[UUID] | None, queue: str | None, until: datetime) -> list[DeadLetter]:
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_MARK_REPLAYED, None if ids is None else list(ids), queue, REPLAY_MAX, until)
            letters = sorted(map(_letter, rows), key=lambda letter: (letter.died_at, letter.id))
            await connection.executemany(_INSERT_OUTBOX, [_outbox_row(letter) for letter in letters])
            await connection.execute(*announce_sql(SCHEMA))
        return letters


def waiting_by_queue(connection: Connection[tuple[Any, ...]]) -> dict[str, int]:
    """How many letters of each queue were not replayed, the most first."""
    return dict(connection.execute(_COUNT_WAITING).fetchall())


def _outbox_row(letter: DeadLetter) -> tuple[UUID, str, str, bytes, str]:
    replay = replay_of(Message(DEAD_LETTERS, letter.queue, letter.body, letter.headers))
    return letter.id, replay.exchange, replay.routing_key, replay.body, msgspec.json.encode(replay.headers).decode()


def _id_of(letter: Message) -> UUID:
    try:
        return UUID(letter.headers[LETTER_ID])
    except (KeyError, ValueError):  # published by another program
        return FailedMessage(letter.routing_key, letter, "").letter_id


def _letter(row: Sequence[object]) -> DeadLetter:
    columns = list(row)
    columns[5] = msgspec.json.decode(str(columns[5]), type=dict[str, str])
    return DeadLetter(*columns)  # type: ignore[arg-type]  # in the order of the columns
