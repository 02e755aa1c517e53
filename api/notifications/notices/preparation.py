"""From what is to be said to rendered, queued deliveries, in the transaction of the event that caused it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

import msgspec
from prometheus_client import CollectorRegistry, Counter

from api.notifications.deliveries.store import NewDelivery, NewNotification, insert
from api.notifications.kinds import KINDS, Channel
from api.notifications.notices.buckets import Buckets
from api.notifications.preferences.decision import Planned, Recipient, plan
from api.notifications.preferences.schedule import QuietHours
from api.notifications.preferences.store import recipients
from api.notifications.settings import NotificationSettings
from api.notifications.templates.rendering import BadTemplate, Rendered, built_in, render, sendable
from api.notifications.templates.store import EditedTemplate, TemplateKey, edited_templates, template_is_broken
from kit.clock import Clock, to_ms
from kit.config.runtime import RuntimeConfig
from kit.messaging.outbox import Transaction
from kit.observability.logs import get_logger

ERROR_CHARS_MAX: Final = 500  # of a template's error
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be said to a subject. `cause_id`: it is said once for each cause."""

    cause_id: UUID
    kind: str
    subject: str
    context: Mapping[str, Any]
    event_id: UUID | None = None
    invoice_id: UUID | None = None  # its PDF is attached
    digest_at: datetime | None = None  # in a digest of that time at the earliest


class PreparationMetrics:
    """Metrics of what is prepared."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.prepared = Counter(
            "notifications_prepared",
            "Deliveries recorded, by channel and state",
            ("channel", "state"),
            registry=registry,
        )
        self.broken_templates = Counter(
            "notifications_broken_templates",
            "Renderings for which the built-in template stood in, by kind",
            ("kind",),
            registry=registry,
        )


class Preparer:
    """Decides, renders and records."""

    def __init__(
        self,
        config: RuntimeConfig,
        configured: Collection[Channel],
        buckets: Buckets,
        clock: Clock,
        metrics: PreparationMetrics,
    ) -> None:
        """`configured`: the channels that can send. Does not own `buckets`."""
        self._config = config
        self._configured = configured
        self._buckets = buckets
        self._clock = clock
        self._metrics = metrics

    @property
    def settings(self) -> NotificationSettings:
        """As they are now."""
        return self._config.group(NotificationSettings)

    def recipient(self, subject: str, row: Mapping[str, Any] | None) -> Recipient:
        """A recipient with the platform's defaults for what they did not choose."""
        settings = self.settings
        if row is None:
            return Recipient(subject, settings.notification_language, ZoneInfo(settings.notification_time_zone))
        quiet = None if row["quiet_from_min"] is None else QuietHours(row["quiet_from_min"], row["quiet_until_min"])
        return Recipient(
            subject,
            row["language"] or settings.notification_language,
            ZoneInfo(row["time_zone"] or settings.notification_time_zone),
            quiet,
            row["digest_at_min"],
            row["addresses"],
            row["modes"],
            {channel: gone["reason"] for channel, gone in row["gone"].items()},
        )

    async def prepare(self, connection: Transaction, notices: Sequence[Notice]) -> set[UUID]:
        """Record the notices in the open transaction, those of a known cause and subject once. The new notifications'
        ids (`notification_id`)."""
        if not notices:
            return set()
        now = self._clock.now()
        rows = await recipients(connection, {notice.subject for notice in notices})
        rendering = Rendering(await edited_templates(connection, {notice.kind for notice in notices}))
        over = await self._over_rate(notices, now)
        notifications, deliveries = [], []
        for notice in notices:
            recipient = self.recipient(notice.subject, rows.get(notice.subject))
            new = _notification(notice)
            notifications.append(new)
            for planned in self._plan(notice, recipient, now, over):
                rendered = Rendered("", "", None)
                if planned.suppressed is None:
                    place = (planned.channel, recipient.language, recipient.zone)
                    rendered = rendering.render(notice.kind, notice.context, *place)
                deliveries.append(_delivery(new.id, notice, planned, recipient, rendered))
        await self.record_broken(connection, rendering)
        recorded = await insert(connection, notifications, deliveries, now)
        for delivery in deliveries:
            if delivery.notification_id in recorded:
                state = "queued" if delivery.suppressed is None else "suppressed"
                self._metrics.prepared.labels(delivery.channel, state).inc()
        return recorded

    async def record_broken(self, connection: Transaction, rendering: "Rendering") -> None:
        """Tell whoever reads templates, logs or metrics that built-in ones stood in."""
        for key, (version, reason) in rendering.broken.items():
            self._metrics.broken_templates.labels(key[0]).inc()
            _log.warning("template_broken", template="/".join(key), version=version, error=reason)
            await template_is_broken(connection, key, version, reason)

    async def _over_rate(self, notices: Sequence[Notice], now: datetime) -> set[UUID]:
        """The notifications that the buckets do not let through. Receipts, and what goes to a digest, need none."""
        limited = [one for one in notices if one.digest_at is None and KINDS[one.kind].category != "receipts"]
        subjects = [notice.subject for notice in limited]
        taken = await self._buckets.take(subjects, to_ms(now), self.settings.notification_rate_per_h)
        return {id_of(notice) for notice, let_through in zip(limited, taken, strict=True) if not let_through}

    def _plan(self, notice: Notice, recipient: Recipient, now: datetime, over: set[UUID]) -> list[Planned]:
        category, over_rate, digest_at = KINDS[notice.kind].category, id_of(notice) in over, notice.digest_at
        if over_rate and category == "alarms":  # too many alarms are still alarms: together
            over_rate, digest_at = False, now + timedelta(seconds=self.settings.notification_alarm_window_s)
        return plan(recipient, category, self._configured, now, digest_at=digest_at, over_rate=over_rate)


class Rendering:
    """Renders by edited templates, and where one fails by the built-in one."""

    def __init__(self, edited: Mapping[TemplateKey, EditedTemplate]) -> None:
        self._edited = edited
        self.broken: dict[TemplateKey, tuple[int, str]] = {}  # version and error of those that failed

    def render(
        self, kind: str, context: Mapping[str, Any], channel: Channel, language: str, zone: ZoneInfo
    ) -> Rendered:
        """What the channel sends."""
        key = (kind, channel, language)
        own = self._edited.get(key)
        if own is not None:
            try:
                return render(own.source, channel, context, language, zone)
            except BadTemplate as error:
                self.broken[key] = (own.version, str(error)[:ERROR_CHARS_MAX])
        return render(built_in(kind, channel, language), channel, context, language, zone, may_be_empty=True)


def id_of(notice: Notice) -> UUID:
    """The id of the notification, which follows from its cause and subject."""
    return uuid5(notice.cause_id, f"notification/{notice.subject}")


def delivery_id(notification_id: UUID, channel: Channel) -> UUID:
    """The id of a delivery."""
    return uuid5(notification_id, channel)


def _notification(notice: Notice) -> NewNotification:
    category, context = KINDS[notice.kind].category, msgspec.json.encode(sendable(notice.context)).decode()
    return NewNotification(
        id_of(notice), notice.cause_id, notice.event_id, notice.kind, category, notice.subject, context
    )


def _delivery(
    notification_id: UUID, notice: Notice, planned: Planned, recipient: Recipient, rendered: Rendered
) -> NewDelivery:
    return NewDelivery(
        id=delivery_id(notification_id, planned.channel),
        notification_id=notification_id,
        channel=planned.channel,
        address=planned.address,
        language=recipient.language,
        title=rendered.title,
        body=rendered.body,
        html=rendered.html,
        invoice_id=notice.invoice_id if planned.channel == "email" else None,
        suppressed=planned.suppressed,
        is_digest_item=planned.in_digest,
        due_at=planned.due_at,
    )
