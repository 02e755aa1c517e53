"""Requests and responses of preferences, as OpenAPI shows them."""

import re
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from api.notifications.kinds import Category, Channel, Mode
from api.notifications.models import Language, NotificationModel
from api.time_zones import checked_time_zone
from kit.patterns import worded
from schemas.identifiers import PRINTABLE

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
    StringConstraints(pattern=worded(r"^[0-9]{2}:[0-9]{2}$", "a time of day like 22:00, from 00:00 to 23:59")),
    AfterValidator(_minutes),
    Field(description="on the recipient's clock", examples=["22:00"]),
]


class Addresses(NotificationModel):
    """Where a recipient is reached, by channel."""

    email: Annotated[str, StringConstraints(max_length=254), AfterValidator(_email)] | None = None
    push: (
        Annotated[
            str,
            StringConstraints(
                min_length=1,
                max_length=4_096,
                pattern=worded(r"^[\x21-\x7e]+$", "printable ASCII characters without spaces"),
            ),
        ]
        | None
    ) = Field(default=None, description="the device's registration token of Firebase Cloud Messaging")
    sms: (
        Annotated[
            str, StringConstraints(pattern=worded(r"^\+[1-9][0-9]{6,14}$", "a number of E.164, like +31612345678"))
        ]
        | None
    ) = Field(default=None, description="E.164", examples=["+31612345678"])
    webhook: (
        Annotated[
            str,
            StringConstraints(
                max_length=2_048, pattern=worded(r"^[\x21-\x7e]+$", "printable ASCII characters without spaces")
            ),
            AfterValidator(_webhook),
        ]
        | None
    ) = Field(default=None, description="an https URL at a public address")
    chat: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)] | None = Field(
        default=None, description="a name of VOLTSTREAM_CHAT_URLS; not for drivers"
    )


class Quiet(NotificationModel):
    """Quiet hours: what comes then waits until they end, but for webhooks. They may go over midnight; the two times
    differ."""

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
