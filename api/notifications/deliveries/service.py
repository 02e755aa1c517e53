"""The use cases of notifications and preferences. No HTTP and no SQL here."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from api.notifications.channels.signing import shown_secret
from api.notifications.deliveries.models import (
    Addresses,
    Announced,
    ChannelCounts,
    Delivery,
    DeliveryCounts,
    DeliveryEntry,
    DeliveryPage,
    NewAnnouncement,
    Notification,
    NotificationPage,
    Preferences,
    Quiet,
    StoredPreferences,
)
from api.notifications.deliveries.store import (
    DeliveryFilter,
    DeliveryStore,
    NotificationCursor,
    cursor_of,
    of_notifications,
)
from api.notifications.kinds import CATEGORIES, CHANNELS, MANDATORY, Channel
from api.notifications.notices import store
from api.notifications.notices.preparation import Notice, Preparer, id_of
from api.notifications.notices.store import StoredRecipient
from api.notifications.preferences.decision import mode_of
from api.notifications.preferences.schedule import DAY_MIN
from kit.clock import Clock
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery, NotFound
from kit.web.paging import decode_cursor, encode_cursor

_STATES: Final = {"sent": "sent", "failed": "failed", "suppressed": "suppressed", "queued": "waiting"}


class NotificationService:
    """One method each."""

    def __init__(self, deliveries: DeliveryStore, preparer: Preparer, clock: Clock) -> None:
        self._deliveries = deliveries
        self._preparer = preparer
        self._clock = clock

    # -- preferences ------------------------------------------------------------------------------------------------

    async def preferences(self, subject: str) -> StoredPreferences:
        """Of a subject; of one that never chose anything, the defaults."""
        rows = await store.recipients(self._deliveries.database, [subject])
        return self._preferences(subject, rows.get(subject))

    async def put_preferences(self, subject: str, wanted: Preferences, editor: str) -> StoredPreferences:
        """Replace them. Raises BadQuery."""
        self._check(subject, wanted)
        quiet = None
        if wanted.quiet is not None:
            quiet = (_minute_of(wanted.quiet.start), _minute_of(wanted.quiet.end))
        recipient = StoredRecipient(
            subject=subject,
            language=wanted.language,
            time_zone=wanted.time_zone,
            quiet=quiet,
            digest_at_min=_minute_of(wanted.digest_at),
            addresses=wanted.addresses.model_dump(exclude_none=True),
            modes=wanted.modes,
            updated_at=self._clock.now(),
            updated_by=editor,
        )
        async with self._deliveries.database.transaction() as connection:
            await store.put_recipient(connection, recipient)
            rows = await store.recipients(connection, [subject])
        return self._preferences(subject, rows[subject])

    def webhook_secret(self, subject: str) -> str:
        """What the subject verifies webhooks with. Raises NotFound where there are none."""
        key = self._preparer.settings.webhook_key
        if not key:
            raise NotFound("webhooks are not configured here: an operator sets VOLTSTREAM_WEBHOOK_KEY")
        return shown_secret(key, subject)

    def _check(self, subject: str, wanted: Preferences) -> None:
        settings = self._preparer.settings
        for category, channel in MANDATORY:
            if wanted.modes.get(category, {}).get(channel, "now") != "now":
                raise BadQuery(
                    f"body/modes/{category}/{channel}: {category} by {channel} cannot be switched off or put into "
                    "digests; choose now, or leave it out"
                )
        hook = wanted.addresses.webhook
        if hook is not None and not hook.startswith("https://") and not settings.webhook_allow_private:
            raise BadQuery("body/addresses/webhook: begin it with https://")
        chat = wanted.addresses.chat
        if chat is not None and (subject.startswith("driver/") or chat not in settings.chat_urls):
            raise BadQuery("body/addresses/chat: is no chat that is configured for operators; leave it out")

    def _preferences(self, subject: str, row: dict[str, Any] | None) -> StoredPreferences:
        recipient = self._preparer.recipient(subject, row)
        effective = {
            category: {channel: mode_of(recipient, category, channel) for channel in CHANNELS}
            for category in CATEGORIES
        }
        chosen: dict[str, Any] = {}
        if row is not None:
            quiet = None
            if recipient.quiet is not None:
                bounds = (recipient.quiet.from_min, recipient.quiet.until_min)
                quiet = Quiet.model_validate(dict(zip(("from", "until"), map(_time_of, bounds), strict=True)))
            chosen = {
                "language": row["language"],
                "time_zone": row["time_zone"],
                "quiet": quiet,
                "addresses": Addresses(**row["addresses"]),
                "modes": row["modes"],
            }
        return StoredPreferences(
            **chosen,
            digest_at=_time_of(recipient.digest_at_min),
            subject=subject,
            effective=effective,
            gone=dict(recipient.gone),
            updated_at=None if row is None else row["updated_at"],
            updated_by=None if row is None else row["updated_by"],
        )

    # -- notifications ----------------------------------------------------------------------------------------------

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


def _minute_of(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return (int(hours) * 60 + int(minutes)) % DAY_MIN


def _time_of(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
