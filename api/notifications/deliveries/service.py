"""The use cases of notifications and deliveries. No HTTP and no SQL here."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from api.notifications.deliveries.models import (
    Announced,
    ChannelCounts,
    Delivery,
    DeliveryCounts,
    DeliveryEntry,
    DeliveryPage,
    NewAnnouncement,
    Notification,
    NotificationPage,
)
from api.notifications.deliveries.store import (
    DeliveryFilter,
    DeliveryStore,
    NotificationCursor,
    cursor_of,
    of_notifications,
)
from api.notifications.kinds import Channel
from api.notifications.notices.preparation import Notice, Preparer, id_of
from kit.clock import Clock
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery
from kit.web.paging import decode_cursor, encode_cursor

_STATES: Final = {"sent": "sent", "failed": "failed", "suppressed": "suppressed", "queued": "waiting"}


class NotificationService:
    """One method each."""

    def __init__(self, deliveries: DeliveryStore, preparer: Preparer, clock: Clock) -> None:
        self._deliveries = deliveries
        self._preparer = preparer
        self._clock = clock

    async def announce(self, connection: Transaction, new: NewAnnouncement) -> Announced:
        """Say something to recipients, in the open transaction."""
        request_id = uuid4()
        context = {"title": new.title, "text": new.text}
        notices = [Notice(request_id, "announcement", subject, context) for subject in dict.fromkeys(new.subjects)]
        await self._preparer.prepare(connection, notices)
        ids = {id_of(notice): notice.subject for notice in notices}
        by_notification: dict[UUID, list[Any]] = {id_: [] for id_ in ids}
        for row in await of_notifications(connection, list(ids)):
            by_notification[row["notification_id"]].append(row)
        made = {
            ids[id_]: Notification(
                id=id_,
                kind="announcement",
                category="announcements",
                created_at=rows[0]["created_at"],  # each has a delivery
                deliveries=[_delivery(row) for row in rows],
            )
            for id_, rows in by_notification.items()
        }
        return Announced(notifications=made)

    async def notifications(self, subject: str, limit: int, cursor: str | None) -> tuple[NotificationPage, str | None]:
        """A page of a subject's, newest first, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, NotificationCursor) if cursor else None
        rows = await self._deliveries.notifications(subject, after, limit + 1)
        page = rows[:limit]
        by_notification: dict[UUID, list[Delivery]] = {row["id"]: [] for row in page}
        for row in await self._deliveries.of(list(by_notification)):
            by_notification[row["notification_id"]].append(_delivery(row))
        notifications = [
            Notification(
                id=row["id"],
                kind=row["kind"],
                category=row["category"],
                created_at=row["created_at"],
                deliveries=by_notification[row["id"]],
            )
            for row in page
        ]
        following = encode_cursor(cursor_of(page[-1])) if len(rows) > limit else None
        return NotificationPage(notifications=notifications, next=None), following

    async def deliveries(
        self, selected: DeliveryFilter, limit: int, cursor: str | None
    ) -> tuple[DeliveryPage, str | None]:
        """A page of all deliveries, newest first, with the counts on the first page. Raises BadQuery."""
        if selected.start is not None and selected.end is not None and selected.start >= selected.end:
            raise BadQuery("query/from must be before query/to")
        after = decode_cursor(cursor, NotificationCursor) if cursor else None
        rows = await self._deliveries.deliveries(selected, after, limit + 1)
        page = rows[:limit]
        counts = _counts(await self._deliveries.counts(selected)) if after is None else None
        entries = [DeliveryEntry(**{name: row[name] for name in DeliveryEntry.model_fields}) for row in page]
        following = encode_cursor(cursor_of(page[-1])) if len(rows) > limit else None
        return DeliveryPage(counts=counts, deliveries=entries, next=None), following


def _delivery(row: Any) -> Delivery:
    return Delivery(
        id=row["id"],
        channel=row["channel"],
        state=row["state"],
        reason=row["reason"],
        title=row["title"],
        text=row["body"],
        attempts=row["attempts"],
        digest=row["is_digest_item"],
        due_at=row["due_at"],
        finished_at=row["finished_at"],
    )


def _counts(rows: Sequence[Any]) -> DeliveryCounts:
    reasons: Counter[str] = Counter()
    by_channel: dict[Channel, Counter[str]] = {}
    for row in rows:
        count = row["count"]
        by_channel.setdefault(row["channel"], Counter())[_STATES[row["state"]]] += count
        if row["reason"] is not None:
            reasons[row["reason"]] += count
    return DeliveryCounts(
        **_sums(by_channel.values()),
        by_channel={channel: ChannelCounts(**_sums([counts])) for channel, counts in by_channel.items()},
        suppressed_by_reason=dict(sorted(reasons.items())),
    )


def _sums(counts: Collection[Counter[str]]) -> dict[str, int]:
    sums = {state: sum(one[state] for one in counts) for state in _STATES.values()}
    return {"queued": sum(one.total() for one in counts), **sums}
