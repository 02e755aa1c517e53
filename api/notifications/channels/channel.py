"""The interface of a channel, and what a send may end in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

REASON_CHARS_MAX: Final = 300
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to one address. `id` is the same whenever it is sent again: receivers tell a repetition by it."""

    id: UUID
    kind: str
    subject: str  # the recipient
    address: str
    title: str
    body: str
    html: str | None
    language: str
    created_at: datetime
    context: Mapping[str, Any] = field(default_factory=dict)
    attachment: Attachment | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receiver took it. `id`: as it names it."""

    id: str = ""


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """It was not taken now and may be later: after `seconds`, or None: after a pause of the sender's choice."""

    seconds: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The address is no more: nothing is to be sent there again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """This message is never taken; another one to the same address may be."""

    reason: str


Outcome = Receipt | RetryAfter | Gone | Rejected


class SendingChannel(Protocol):
    """A way to send. Safe to use concurrently."""

    async def send(self, message: OutgoingMessage) -> Outcome:
        """Send it. Raises OSError and TimeoutError where the other side does not answer."""

    async def close(self) -> None:
        """Release connections."""


def reason_of(text: str) -> str:
    """A receiver's words in one line of bounded length."""
    return _UNPRINTABLE.sub(" ", text).strip()[:REASON_CHARS_MAX]
