"""Requests and responses of the notifications service, as OpenAPI shows them."""

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.notifications.kinds import KINDS, Category, Channel, Mode
from api.notifications.settings import SUBJECT_CHARS_MAX, SUBJECT_PATTERN
from api.notifications.templates.rendering import BODY_CHARS_MAX, HTML_CHARS_MAX, TITLE_CHARS_MAX
from api.time_zones import checked_time_zone
from schemas.identifiers import PRINTABLE

SUBJECTS_MAX: Final = 100  # of one request
State = Literal["queued", "sent", "failed", "suppressed"]
Subject = Annotated[
    str,
    StringConstraints(max_length=SUBJECT_CHARS_MAX, pattern=SUBJECT_PATTERN),
    Field(description="driver/…, operator/… or team/…", examples=["driver/D1"]),
]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$"), Field(description="ISO 639-1")]
Text = Annotated[
    str, StringConstraints(min_length=1, max_length=4_000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+$")
]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=PRINTABLE)]
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9-]+"
)


def _email(text: str) -> str:
    if _EMAIL.fullmatch(text) is None or ".." in text:
        raise ValueError("is no e-mail address; write one like name@example.com")
    return text


def _webhook(text: str) -> str:
    try:
        url = urlsplit(text)
        whole = bool(url.hostname) and url.port != 0
    except ValueError:
        whole = False
    if not whole or url.scheme not in ("http", "https") or "@" in url.netloc:
        raise ValueError("write a URL like https://example.com/hook, without user and password")
    return text


def _minutes(text: str) -> str:
    hours, _, minutes = text.partition(":")
    if int(hours) > 23 or int(minutes) > 59:
        raise ValueError("write a time of day like 22:00, from 00:00 to 23:59")
    return text


TimeOfDay = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{2}:[0-9]{2}$"),
    AfterValidator(_minutes),
    Field(description="on the recipient's clock", examples=["22:00"]),
]


class NotificationModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Addresses(NotificationModel):
    """Where a recipient is reached, by channel."""

    email: Annotated[str, StringConstraints(max_length=254), AfterValidator(_email)] | None = None
    push: Annotated[str, StringConstraints(min_length=1, max_length=4_096, pattern=r"^[\x21-\x7e]+$")] | None = Field(
        default=None, description="the device's registration token of Firebase Cloud Messaging"
    )
    sms: Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")] | None = Field(
        default=None, description="E.164", examples=["+31612345678"]
    )
    webhook: (
        Annotated[str, StringConstraints(max_length=2_048, pattern=r"^[\x21-\x7e]+$"), AfterValidator(_webhook)] | None
    ) = Field(default=None, description="an https URL at a public address")
    chat: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)] | None = Field(
        default=None, description="a name of VOLTSTREAM_CHAT_URLS; not for drivers"
    )


class Quiet(NotificationModel):
    """Quiet hours: what comes then waits until they end, but for webhooks. They may go over midnight."""

    start: TimeOfDay = Field(alias="from")
    end: TimeOfDay = Field(alias="until")


class Preferences(NotificationModel):
    """What a recipient wants. What is left out is the platform's default."""

    language: Language | None = None
    time_zone: Annotated[str, StringConstraints(max_length=64), AfterValidator(checked_time_zone)] | None = Field(
        default=None, description="IANA", examples=["Europe/Amsterdam"]
    )
    quiet: Quiet | None = None
    digest_at: TimeOfDay = Field(default="08:00", description="when the digest of the day comes")
    addresses: Addresses = Addresses()
    modes: dict[Category, dict[Channel, Mode]] = Field(
        default_factory=dict, description="by category and channel; receipts by e-mail are always now"
    )


class StoredPreferences(Preferences):
    """A recipient's preferences, and what follows from them."""

    subject: str
    effective: dict[Category, dict[Channel, Mode]] = Field(description="modes, with defaults")
    gone: dict[Channel, str] = Field(description="channels that say the address is no more: give another one")
    updated_at: datetime | None = Field(description="null: nothing was ever chosen")
    updated_by: str | None


class WebhookSecret(NotificationModel):
    """What a recipient verifies webhooks with, as libraries of Standard Webhooks take it."""

    secret: str


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


Kind = Annotated[str, StringConstraints(max_length=32, pattern=f"^({'|'.join(KINDS)})$")]


class TemplateParts(NotificationModel):
    """The source of a template, Jinja2."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=TITLE_CHARS_MAX, pattern=r"^[^\x00]+$")]
    body: Annotated[str, StringConstraints(min_length=1, max_length=BODY_CHARS_MAX, pattern=r"^[^\x00]+$")]
    html: Annotated[str, StringConstraints(min_length=1, max_length=HTML_CHARS_MAX, pattern=r"^[^\x00]+$")] | None = (
        Field(default=None, description="of e-mail; null: title and body in a plain layout")
    )


class NewTemplate(TemplateParts):
    """A template to take the place of the present one."""

    version: int = Field(strict=True, ge=0, le=2**31 - 2, description="that you read; 0: the built-in one")


class StoredTemplate(TemplateParts):
    """A template in use."""

    kind: str
    channel: Channel
    language: str
    source: Literal["built-in", "edited"]
    version: int
    error: str | None = Field(description="why it could not be rendered last; the built-in one stood in")
    variables: dict[str, Any] = Field(description="a sample of what it may use, beside language and time_zone")
    updated_at: datetime | None
    updated_by: str | None


class TemplateEntry(NotificationModel):
    """An edited template."""

    kind: str
    channel: Channel
    language: str
    version: int
    error: str | None
    updated_at: datetime
    updated_by: str


class TemplateList(NotificationModel):
    """The edited templates; all others are built-in."""

    kinds: list[str]
    channels: list[Channel]
    built_in_languages: list[str]
    edited: list[TemplateEntry]


class PreviewRequest(NotificationModel):
    """What to render: the given source, or the one in use, with the sample's variables and those given."""

    template: TemplateParts | None = None
    variables: dict[str, Any] = Field(default_factory=dict)
    time_zone: Annotated[str, StringConstraints(max_length=64), AfterValidator(checked_time_zone)] = "UTC"


class Preview(NotificationModel):
    """What would be sent."""

    title: str
    body: str
    html: str | None
