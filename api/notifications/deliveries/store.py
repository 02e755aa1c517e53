"""The SQL of notifications and their deliveries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from api.notifications.kinds import Channel
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.retention import RecordRetention
from kit.web.paging import Cursor, Micros, from_micros, to_micros

SCHEMA: Final = "notifications"
_INSERT_NOTIFICATIONS: Final = """
INSERT INTO notifications.notification (id, cause_id, event_id, kind, category, subject, context, created_at)
SELECT i, c, e, k, y, s, x::jsonb, $8
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
     AS n (i, c, e, k, y, s, x)
ORDER BY i
ON CONFLICT DO NOTHING RETURNING id
"""
_INSERT_DELIVERIES: Final = """
INSERT INTO notifications.delivery (id, notification_id, channel, address, language, title, body, html, invoice_id,
                                    state, reason, is_digest_item, due_at, created_at, finished_at)
SELECT i, n, c, a, l, t, b, h, v, CASE WHEN r IS NULL THEN 'queued' ELSE 'suppressed' END, r, g, d, $13,
       CASE WHEN r IS NOT NULL THEN $13::timestamptz END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::uuid[], $10::text[], $11::bool[], $12::timestamptz[]) AS d (i, n, c, a, l, t, b, h, v, r, g, d)
ON CONFLICT DO NOTHING
"""
_ATTEMPTED: Final = """d.id, d.notification_id, n.event_id, n.kind, n.subject, d.channel, d.address, d.title, d.body,
    d.html, d.language, d.invoice_id, d.attempts, d.created_at, n.context"""
_TAKE: Final = f"""
WITH due AS (
    SELECT id FROM notifications.delivery
    WHERE state = 'queued' AND channel = $1 AND due_at <= $2 AND NOT is_digest_item
    ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE notifications.delivery AS d SET due_at = $2::timestamptz + $4::interval, attempts = attempts + 1
FROM due, notifications.notification AS n WHERE d.id = due.id AND n.id = d.notification_id
RETURNING {_ATTEMPTED}
"""  # noqa: S608  # our own columns
_FINISH: Final = """
UPDATE notifications.delivery SET state = $2, reason = $3, receipt = $4, finished_at = $5
WHERE id = $1 AND state = 'queued' AND ($6::int IS NULL OR attempts = $6) RETURNING id
"""
_FINISH_ITEMS: Final = f"""
UPDATE notifications.delivery AS d SET state = $2, reason = $3, finished_at = $4, attempts = $5
FROM notifications.notification AS n
WHERE d.digest_id = $1 AND d.state = 'queued' AND n.id = d.notification_id RETURNING {_ATTEMPTED}
"""  # noqa: S608  # our own columns
_POSTPONE: Final = """
UPDATE notifications.delivery SET due_at = $2, reason = $3 WHERE id = $1 AND state = 'queued' AND attempts = $4
"""
_LOCK_DIGESTS: Final = "SELECT pg_try_advisory_xact_lock(hashtextextended('voltstream notifications digest ' || $1, 0))"
_DIGEST_ITEMS: Final = """
SELECT d.id, n.subject, d.address, d.language, d.title, d.body, d.created_at
FROM notifications.delivery AS d JOIN notifications.notification AS n ON n.id = d.notification_id
WHERE d.state = 'queued' AND d.channel = $1 AND d.due_at <= $2 AND d.is_digest_item
ORDER BY d.due_at, d.created_at, d.id LIMIT $3 FOR UPDATE OF d
"""
_INTO_DIGEST: Final = """
UPDATE notifications.delivery SET digest_id = $1, due_at = 'infinity' WHERE id = ANY ($2::uuid[])
"""
_NOTIFICATIONS: Final = """
SELECT id, event_id, kind, category, subject, created_at FROM notifications.notification
WHERE subject = $1 AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
ORDER BY created_at DESC, id DESC LIMIT $4
"""
_SHOWN: Final = """d.id, d.notification_id, n.event_id, n.kind, n.subject, d.channel, d.state, d.reason, d.title,
    d.body, d.language, d.attempts, d.digest_id, d.created_at, d.finished_at, d.is_digest_item,
    CASE WHEN d.state = 'queued' AND d.digest_id IS NULL THEN d.due_at END AS due_at"""
_JOINED: Final = "FROM notifications.delivery AS d JOIN notifications.notification AS n ON n.id = d.notification_id"
_OF_NOTIFICATIONS: Final = f"""
SELECT {_SHOWN} {_JOINED} WHERE d.notification_id = ANY ($1::uuid[]) ORDER BY d.channel
"""  # our own columns
_DELIVERIES: Final = f"""
SELECT {_SHOWN} {_JOINED}
WHERE ($1::text IS NULL OR d.state = $1) AND ($2::text IS NULL OR d.channel = $2)
  AND ($3::text IS NULL OR n.subject = $3) AND ($4::timestamptz IS NULL OR d.created_at >= $4)
  AND ($5::timestamptz IS NULL OR d.created_at < $5)
  AND ($6::timestamptz IS NULL OR (d.created_at, d.id) < ($6, $7::uuid))
ORDER BY d.created_at DESC, d.id DESC LIMIT $8
"""  # our own columns
_COUNTS: Final = f"""
SELECT d.channel, d.state, CASE WHEN d.state = 'suppressed' THEN split_part(d.reason, ':', 1) END AS reason, count(*)
{_JOINED}
WHERE ($1::text IS NULL OR d.channel = $1) AND ($2::text IS NULL OR n.subject = $2)
  AND ($3::timestamptz IS NULL OR d.created_at >= $3) AND ($4::timestamptz IS NULL OR d.created_at < $4)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""  # our own names
RETENTION: Final = RecordRetention(
    "notifications",
    "notifications.retention",
    """
DELETE FROM notifications.notification WHERE id IN (
    SELECT n.id FROM notifications.notification AS n WHERE n.created_at < $1 AND NOT EXISTS (
        SELECT FROM notifications.delivery AS d WHERE d.notification_id = n.id AND d.state = 'queued')
    LIMIT $2)
""",
)


class NotificationCursor(Cursor, frozen=True, tag="n"):
    """The last row seen."""

    created_us: Micros
    id: UUID


def cursor_of(row: asyncpg.Record) -> NotificationCursor:
    """The cursor key of a notification or delivery."""
    return NotificationCursor(to_micros(row["created_at"]), row["id"])


class NewNotification(NamedTuple):
    """A notification to be stored."""

    id: UUID
    cause_id: UUID
    event_id: UUID | None
    kind: str
    category: str
    subject: str
    context: str  # JSON


class NewDelivery(NamedTuple):
    """A delivery to be stored; `suppressed`: why it is none."""

    id: UUID
    notification_id: UUID
    channel: Channel
    address: str
    language: str
    title: str
    body: str
    html: str | None
    invoice_id: UUID | None
    suppressed: str | None
    is_digest_item: bool
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Attempted:
    """A delivery of which an attempt is under way."""

    id: UUID
    notification_id: UUID
    event_id: UUID | None
    kind: str
    subject: str
    channel: Channel
    address: str
    title: str
    body: str
    html: str | None
    language: str
    invoice_id: UUID | None
    attempts: int  # with this one
    created_at: datetime
    context: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """A filter of deliveries; None: any. Created in [start, end)."""

    state: str | None = None
    channel: str | None = None
    subject: str | None = None
    start: datetime | None = None
    end: datetime | None = None


async def insert(
    connection: Transaction,
    notifications: Sequence[NewNotification],
    deliveries: Sequence[NewDelivery],
    now: datetime,
) -> set[UUID]:
    """Store them in the open transaction, but those that are stored already. Returns the new notifications."""
    if not notifications:
        return set()
    rows = await connection.fetch(_INSERT_NOTIFICATIONS, *zip(*notifications, strict=True), now)
    new = {row[0] for row in rows}
    own = [one for one in deliveries if one.notification_id in new]
    if own:
        await connection.execute(_INSERT_DELIVERIES, *zip(*own, strict=True), now)
    return new


async def digest_items(connection: Transaction, channel: Channel, now: datetime, rows_max: int) -> list[asyncpg.Record]:
    """Due items of digests, locked; none where another process is at it."""
    if not await connection.fetchval(_LOCK_DIGESTS, channel):
        return []
    rows: list[asyncpg.Record] = await connection.fetch(_DIGEST_ITEMS, channel, now, rows_max)
    return rows


async def put_into_digest(connection: Transaction, digest_id: UUID, items: Sequence[UUID]) -> None:
    """From now on they end as the digest does."""
    await connection.execute(_INTO_DIGEST, digest_id, items)


async def finish(
    connection: Transaction, delivery: Attempted, now: datetime, *, failed: str | None = None, receipt: str = ""
) -> list[Attempted]:
    """Record the end of a delivery, and of the items of a digest. Returns those that ended now.

    A success counts even where another process took the delivery meanwhile; a failure only if none did.
    """
    state = "sent" if failed is None else "failed"
    own = None if failed is None else delivery.attempts
    if await connection.fetchval(_FINISH, delivery.id, state, failed, receipt or None, now, own) is None:
        return []
    items = await connection.fetch(_FINISH_ITEMS, delivery.id, state, failed, now, delivery.attempts)
    return [delivery, *map(_attempted, items)]


async def of_notifications(connection: Transaction | Database, notifications: Sequence[UUID]) -> list[asyncpg.Record]:
    """All deliveries of these notifications."""
    return await connection.fetch(_OF_NOTIFICATIONS, notifications)


class DeliveryStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def take(self, channel: Channel, now: datetime, rows_max: int, lease: timedelta) -> list[Attempted]:
        """Up to rows_max due deliveries, for one attempt each. Whose attempt is not recorded when the lease ends comes
        again."""
        return [_attempted(row) for row in await self.database.fetch(_TAKE, channel, now, rows_max, lease)]

    async def postpone(self, delivery: Attempted, due_at: datetime, reason: str) -> None:
        """Record a failed attempt, to be repeated then."""
        await self.database.execute(_POSTPONE, delivery.id, due_at, reason, delivery.attempts)

    async def notifications(
        self, subject: str, after: NotificationCursor | None, rows_max: int
    ) -> list[asyncpg.Record]:
        """Up to rows_max notifications of the subject, newest first."""
        return await self.database.fetch(_NOTIFICATIONS, subject, *_behind(after), rows_max)

    async def of(self, notifications: Sequence[UUID]) -> list[asyncpg.Record]:
        """All deliveries of these notifications."""
        return await of_notifications(self.database, notifications)

    async def deliveries(
        self, selected: DeliveryFilter, after: NotificationCursor | None, rows_max: int
    ) -> list[asyncpg.Record]:
        """Up to rows_max deliveries, newest first."""
        bounds = (selected.state, selected.channel, selected.subject, selected.start, selected.end)
        return await self.database.fetch(_DELIVERIES, *bounds, *_behind(after), rows_max)

    async def counts(self, selected: DeliveryFilter) -> list[asyncpg.Record]:
        """Deliveries by channel, state and reason, whatever state is selected."""
        bounds = (selected.channel, selected.subject, selected.start, selected.end)
        return await self.database.fetch(_COUNTS, *bounds)


def _behind(after: NotificationCursor | None) -> tuple[datetime | None, UUID | None]:
    return (None, None) if after is None else (from_micros(after.created_us), after.id)


def _attempted(row: asyncpg.Record) -> Attempted:
    columns = dict(row)
    columns["context"] = msgspec.json.decode(columns["context"])
    return Attempted(**columns)
