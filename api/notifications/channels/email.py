"""E-mail by SMTP, with TLS from the start or by STARTTLS."""

import re
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Final

import aiosmtplib
from aiosmtplib.errors import (
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from api.notifications.channels.channel import (
    Gone,
    Outcome,
    OutgoingMessage,
    Receipt,
    Rejected,
    RetryAfter,
    reason_of,
)
from api.notifications.settings import NotificationSettings
from kit.errors import ConfigError

# RFC 3463: bad destination mailbox, host, syntax; moved; no longer accepts mail.
_GONE_ENHANCED: Final = re.compile(r"\b5\.(?:1\.[1236]|2\.1)\b")
_GONE_CODES: Final = (550, 551, 553)  # RFC 5321, of RCPT: no such mailbox, not local, its name is not allowed
_ENHANCED: Final = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")
_PERMANENT: Final = 500


class EmailChannel:
    """See SendingChannel. One connection a message: a server that keeps idle clients is the exception."""

    def __init__(self, settings: NotificationSettings) -> None:
        """Raises ConfigError where the file of certificates cannot be read."""
        self._settings = settings
        self._domain = parseaddr(settings.mail_from)[1].rpartition("@")[2]
        self._tls: ssl.SSLContext | None = None
        if settings.smtp_security != "none":
            try:
                self._tls = ssl.create_default_context(cafile=settings.smtp_ca_file or None)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"VOLTSTREAM_SMTP_CA_FILE={settings.smtp_ca_file}: {error}") from None

    async def send(self, message: OutgoingMessage) -> Outcome:
        """See SendingChannel."""
        settings = self._settings
        smtp = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            tls_context=self._tls,
            username=settings.smtp_user or None,
            password=settings.smtp_password or None,
            timeout=settings.notification_timeout_s,
        )
        mail = self._mail(message)
        try:
            async with smtp:
                _, answer = await smtp.send_message(mail)
        except SMTPException as error:
            return _outcome(error)
        return Receipt(reason_of(answer))

    def _mail(self, message: OutgoingMessage) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = self._settings.mail_from
        mail["To"] = message.address
        if self._settings.mail_reply_to:
            mail["Reply-To"] = self._settings.mail_reply_to
        mail["Subject"] = message.title
        mail["Date"] = format_datetime(message.created_at)
        mail["Message-ID"] = f"<{message.id}@{self._domain}>"
        mail["Content-Language"] = message.language
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        mail.set_content(message.body)
        if message.html is not None:
            mail.add_alternative(message.html, subtype="html")
        if message.attachment is not None:
            kind, _, subtype = message.attachment.media_type.partition("/")
            mail.add_attachment(
                message.attachment.content, maintype=kind, subtype=subtype, filename=message.attachment.name
            )
        return mail

    async def close(self) -> None:
        """See SendingChannel."""


def _outcome(error: SMTPException) -> Outcome:
    """Raises the time-outs and lost connections of aiosmtplib as what they are: OSError and TimeoutError."""
    if isinstance(error, OSError):  # its time-outs and lost connections are both
        raise error
    if isinstance(error, SMTPRecipientsRefused) and error.recipients:
        return _outcome(error.recipients[0])
    if isinstance(error, SMTPAuthenticationError):
        return RetryAfter(None, reason_of(f"login refused: {error.code} {error.message}"))
    if isinstance(error, SMTPResponseException):
        reason = reason_of(f"{error.code} {error.message}")
        if error.code < _PERMANENT:
            return RetryAfter(None, reason)
        enhanced = _ENHANCED.search(error.message)
        if isinstance(error, SMTPRecipientRefused) and (
            _GONE_ENHANCED.match(enhanced[0]) if enhanced else error.code in _GONE_CODES
        ):
            return Gone(reason)
        return Rejected(reason)
    return RetryAfter(None, reason_of(str(error)))
