"""Settings of notifications."""

import re
from typing import Annotated, Final, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from kit.config.adjustable import adjustable
from kit.settings import SECRET, URL, with_scheme

PAUSED: Final = "notifications.paused"
SUBJECT_CHARS_MAX: Final = 80  # operator/ and a subject of 64
SUBJECT_PATTERN: Final = r"^(driver|operator|team)/[^\x00-\x1f\x7f]+$"
_SUBJECT: Final = re.compile(SUBJECT_PATTERN)


class NotificationSettings(BaseModel):
    """Channels, limits and defaults of notifications. A channel without its settings is not configured: what would go
    by it is recorded as suppressed."""

    notification_sending: bool = Field(
        True, description="whether this process sends; off: it only prepares, and another process sends"
    )
    notifications_paused: bool = Field(
        False,
        description="maintenance: notifications are prepared and wait, none is sent, until it ends",
        json_schema_extra=adjustable(PAUSED),
    )
    notification_language: str = Field("en", pattern=r"^[a-z]{2}$", description="of recipients who chose none")
    notification_time_zone: str = Field("UTC", max_length=64, description="IANA, of recipients who chose none")
    notification_alarm_subjects: tuple[str, ...] = Field(
        ("team/operators",), max_length=20, description='recipients of alarms, as ["team/operators", "operator/anna"]'
    )
    notification_alarm_window_s: int = Field(
        900,
        ge=60,
        le=86_400,
        description="after an alarm of a place and cause the next ones go to digests, one in so many seconds",
        json_schema_extra=adjustable("notifications.alarm_window", unit="s"),
    )
    notification_rate_per_h: int = Field(
        30,
        ge=1,
        le=10_000,
        description="most notifications to a subject in an hour; receipts do not count",
        json_schema_extra=adjustable("notifications.rate", unit="1/h"),
    )
    notification_retention_days: int = Field(
        90,
        ge=31,  # events may be delivered again for 30 days: see kit/messaging/inbox.py
        le=3_650,
        description="notifications and their deliveries are deleted after so many days",
        json_schema_extra=adjustable("notifications.retention", unit="d"),
    )
    notification_attempts_max: int = Field(8, ge=1, le=50, description="attempts before a delivery has failed")
    notification_timeout_s: int = Field(20, ge=1, le=60, description="longest that one attempt takes")

    # E-mail is sent where a host is set.
    smtp_host: str = Field("", max_length=253, description="mail server; empty: no e-mail")
    smtp_port: int = Field(587, ge=1, le=65_535, description="of the mail server: 587 with STARTTLS, 465 with TLS")
    smtp_security: Annotated[str, Field(pattern=r"^(starttls|tls|none)$")] = Field(
        "starttls", description="starttls: required, never skipped; tls: from the start; none: only where it is safe"
    )
    smtp_ca_file: str = Field("", description="certificates (PEM) that sign the mail server's; empty: the system's")
    smtp_user: str = Field("", max_length=256, description="login at the mail server; empty: none")
    smtp_password: str = Field("", repr=False, description="of the login", json_schema_extra=SECRET)
    mail_from: str = Field("", max_length=320, description="sender of e-mail: name@example.com or Name <name@…>")
    mail_reply_to: str = Field("", max_length=320, description="where answers go; empty: to the sender")

    # Push is sent where a service account is set.
    fcm_account_file: str = Field(
        "", description="service account (JSON) of Firebase Cloud Messaging, with its project; empty: no push"
    )
    fcm_url: Annotated[str, with_scheme("http", "https")] = Field(
        "https://fcm.googleapis.com", description="FCM's address, or of a stand-in", json_schema_extra=URL
    )

    # SMS is sent where an address is set.
    sms_url: Annotated[str, with_scheme("http", "https")] = Field(
        "",
        repr=False,
        description="where messages are POSTed as form: To, From, Body; empty: no SMS",
        json_schema_extra=URL,
    )
    sms_user: str = Field("", max_length=256, description="basic authentication at the SMS provider")
    sms_password: str = Field("", repr=False, description="of it", json_schema_extra=SECRET)
    sms_from: str = Field("", max_length=20, description="sender of SMS")

    # Webhooks are sent where a key is set.
    webhook_key: str = Field(
        "",
        repr=False,
        max_length=256,
        description="secret that each recipient's signing secret is derived from, 32 characters or more; empty: none",
        json_schema_extra=SECRET,
    )
    webhook_allow_private: bool = Field(
        False, description="allow webhooks by plain HTTP and to private addresses, as in a closed network or a test"
    )

    # Chats of operators, by apprise (the extra `chat`).
    chat_urls: dict[str, str] = Field(
        {},
        repr=False,
        description='addresses for apprise by name, as {"ops": "slack://…"}; recipients choose one by its name',
        json_schema_extra=SECRET,
    )

    # The PDF of an invoice comes from billing: of the same process, or over HTTP from here.
    billing_url: Annotated[str, with_scheme("http", "https")] = Field(
        "", description="billing's address where it is another process: http://host:port", json_schema_extra=URL
    )
    billing_token: str = Field(
        "", repr=False, description="token of role operator or finance for it", json_schema_extra=SECRET
    )

    @field_validator("notification_time_zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        from api.time_zones import checked_time_zone

        return checked_time_zone(value)

    @field_validator("notification_alarm_subjects")
    @classmethod
    def _are_subjects(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_SUBJECT.fullmatch(subject) for subject in value):
            raise ValueError("write subjects like team/operators or operator/anna")
        return value

    @field_validator("webhook_key")
    @classmethod
    def _is_long(cls, value: str) -> str:
        if value and len(value) < 32:
            raise ValueError("take 32 random characters or more")
        return value

    @model_validator(mode="after")
    def _mail_is_whole(self) -> Self:
        if self.smtp_host and "@" not in self.mail_from:
            raise ValueError("VOLTSTREAM_SMTP_HOST is set and VOLTSTREAM_MAIL_FROM is no address: set both")
        if self.sms_url and not self.sms_from:
            raise ValueError("VOLTSTREAM_SMS_URL is set and VOLTSTREAM_SMS_FROM is not: set both")
        if bool(self.billing_url) != bool(self.billing_token):
            raise ValueError("set VOLTSTREAM_BILLING_URL and VOLTSTREAM_BILLING_TOKEN together, or neither")
        return self


GROUP = NotificationSettings
