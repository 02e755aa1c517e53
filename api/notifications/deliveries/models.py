"""Requests and responses of notifications and deliveries, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from api.notifications.kinds import Category, Channel
from api.notifications.models import NotificationModel, Subject
from kit.patterns import worded
from schemas.identifiers import PRINTABLE

SUBJECTS_MAX: Final = 100  # of one request
State = Literal["queued", "sent", "failed", "suppressed"]
Text = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=4_000,
        pattern=worded(
            r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+$", "text without control characters but for line breaks and tabs"
        ),
    ),
]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=PRINTABLE)]


class NewAnnouncement(NotificationModel):
    """Something to be said to recipients."""

    subjects: list[Subject] = Field(min_length=1, max_length=SUBJECTS_MAX)
    title: Title
    text: Text


class Delivery(NotificationModel):
    """A delivery by one channel."""

    id: UUID
    channel: Channel
    state: State
    reason: str | None = Field(description="of failed and suppressed; of queued: why the last attempt failed")
    title: str = Field(description="empty where it was suppressed")
    text: str = Field(description="likewise")
    attempts: int
    digest: bool = Field(description="whether it comes in a digest")
    due_at: datetime | None = Field(description="of the next attempt; null: none is to come, or its digest's")
    finished_at: datetime | None


class Notification(NotificationModel):
    """A notification and its deliveries."""

    id: UUID
    kind: str
    category: Category
    created_at: datetime
    deliveries: list[Delivery]


class NotificationPage(NotificationModel):
    """A page of notifications, newest first."""

    notifications: list[Notification]
    next: str | None = Field(description="address of the next page; null on the last")


class Announced(NotificationModel):
    """What came of an announcement."""

    notifications: dict[str, Notification] = Field(description="by subject")


class DeliveryEntry(NotificationModel):
    """A delivery, as operators see it: without its text."""

    id: UUID
    notification_id: UUID
    event_id: UUID | None
    kind: str
    subject: str
    channel: Channel
    state: State
    reason: str | None
    attempts: int
    digest_id: UUID | None = Field(description="the delivery of the digest that it is in")
    created_at: datetime
    due_at: datetime | None
    finished_at: datetime | None


class ChannelCounts(NotificationModel):
    """Deliveries of a channel: queued = sent + failed + suppressed + waiting."""

    queued: int = Field(description="all that were ever recorded")
    sent: int
    failed: int
    suppressed: int
    waiting: int = Field(description="queued and not at an end")


class DeliveryCounts(ChannelCounts):
    """Deliveries of all channels, of the time, channel and subject that were asked for, in any state."""

    by_channel: dict[Channel, ChannelCounts]
    suppressed_by_reason: dict[str, int]


class DeliveryPage(NotificationModel):
    """A page of deliveries, newest first, and the counts of all."""

    counts: DeliveryCounts | None = Field(description="on the first page")
    deliveries: list[DeliveryEntry]
    next: str | None
