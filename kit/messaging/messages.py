"""Messages of the event bus, in both buses alike: exchanges, headers, dead letters, replays.

A message whose handling failed for good is published to the dead-letter exchange and announced by an event.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol
from uuid import UUID, uuid5

DIRECT: Final = "direct_events"
FANOUT: Final = "fanout_broadcast"
DEAD_LETTERS: Final = "dlx_events"
EXCHANGES: Final = (DIRECT, FANOUT, DEAD_LETTERS)
DEFAULT_EXCHANGE: Final = ""  # AMQP's own: to the queue that the routing key names, and to no other
Binding = tuple[str, str]
"""An exchange and a routing key: what a queue gets."""

DEAD_LETTER_QUEUE: Final = "dead_letters"  # gets every dead letter of every queue

EVENT_ID: Final = "event_id"  # header: consumers dedupe on it, logs name it
ERROR: Final = "error"  # header of a dead letter: the error of its last attempt
ATTEMPTS: Final = "attempts"  # header of a dead letter: the number of its attempts
LETTER_ID: Final = "letter_id"  # header of a dead letter: the same one has the same id however often it is published
ORIGIN_EXCHANGE: Final = "origin_exchange"  # headers of a dead letter: as its message was published
ORIGIN_ROUTING_KEY: Final = "origin_routing_key"
REPLAYS: Final = "replays"  # header: how often the message was replayed from the dead letters
HEADER_CHARS_MAX: Final = 500  # AMQP headers share one frame of 128 kB with everything else
HEADER_NAME_CHARS_MAX: Final = 60  # AMQP has room for 255 bytes
HEADERS_MAX: Final = 32

_DEAD_LETTER_HEADERS: Final = (ERROR, ATTEMPTS, LETTER_ID, ORIGIN_EXCHANGE, ORIGIN_ROUTING_KEY)
_LETTER_ID_NAMESPACE: Final = UUID("5d0c9f0e-5b86-4a0e-8f11-6a7a8ac3a2f4")


def header_text(value: object) -> str:
    """A header's value, which its publisher may choose freely, as a text that every bus and table accepts: without NUL
    and single surrogates, and short enough to be published again in a header."""
    text = str(value)[:HEADER_CHARS_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-8", "replace").decode()


def header_texts(headers: Iterable[tuple[object, object]]) -> dict[str, str]:
    """Those of a message: the first HEADERS_MAX."""
    return {
        header_text(name)[:HEADER_NAME_CHARS_MAX]: header_text(value) for name, value in islice(headers, HEADERS_MAX)
    }


def count_of(value: str | None) -> int:
    """A count in a header; 0 where it is none."""
    return int(value) if value is not None and value.isascii() and value.isdecimal() and len(value) <= 9 else 0


@dataclass(frozen=True, slots=True)
class Message:
    """A message as published or delivered."""

    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 1  # of this delivery, from 1


Handler = Callable[[Message], Awaitable[None]]


class Publishes(Protocol):
    """A bus, or what publishes to one."""

    async def publish(self, message: Message) -> None:
        """See `Bus.publish`."""


@dataclass(frozen=True, slots=True)
class FailedMessage:
    """A message whose handling failed for good, and the queue in which it failed."""

    queue: str
    message: Message
    error: str

    @property
    def letter_id(self) -> UUID:
        """Id of its dead letter. It follows from queue, event and replays, so a letter published twice is kept once."""
        headers = self.message.headers
        event = headers.get(EVENT_ID, "")
        if not 0 < len(event) < HEADER_CHARS_MAX:  # there is none, or it was cut
            event = hashlib.sha256(self.message.body).hexdigest()
        return uuid5(_LETTER_ID_NAMESPACE, f"{self.queue}/{headers.get(REPLAYS, 0)}/{event}")

    def dead_letter(self) -> Message:
        """The message to publish to the dead-letter exchange."""
        message = self.message
        headers = {
            ERROR: header_text(self.error),
            ATTEMPTS: str(message.attempt),
            LETTER_ID: str(self.letter_id),
            ORIGIN_EXCHANGE: message.exchange,
            ORIGIN_ROUTING_KEY: message.routing_key,
        }
        return Message(DEAD_LETTERS, self.queue, message.body, {**message.headers, **headers})


Announce = Callable[[FailedMessage], Message]
"""Makes the event that announces a failed message. It may be published twice: derive its id from the letter's."""


def replay_of(letter: Message) -> Message:
    """The message that returns a dead letter to the queue it failed in, and to no other (see `as_published`)."""
    headers = {key: value for key, value in letter.headers.items() if key not in (ERROR, ATTEMPTS, LETTER_ID)}
    times = count_of(headers.get(REPLAYS)) + 1
    return Message(DEFAULT_EXCHANGE, letter.routing_key, letter.body, {**headers, REPLAYS: str(times)})


def addressed_to(queue: str, message: Message) -> Message:
    """The message for this queue only (see `as_published`)."""
    origin = {ORIGIN_EXCHANGE: message.exchange, ORIGIN_ROUTING_KEY: message.routing_key}
    return Message(DEFAULT_EXCHANGE, queue, message.body, {**message.headers, **origin})


def as_published(message: Message) -> Message:
    """A message that was addressed to a queue as it was first published: this is what its handler gets."""
    headers = {key: value for key, value in message.headers.items() if key not in _DEAD_LETTER_HEADERS}
    return Message(
        message.headers.get(ORIGIN_EXCHANGE, message.exchange),
        message.headers.get(ORIGIN_ROUTING_KEY, message.routing_key),
        message.body,
        headers,
        message.attempt,
    )


def failure_event_of(failed_message: FailedMessage, announce: Announce | None) -> Message | None:
    """The event that announces it. None where the failed message was itself such an event: that would never end."""
    if announce is None:
        return None
    event = announce(failed_message)
    message = failed_message.message
    return None if (event.exchange, event.routing_key) == (message.exchange, message.routing_key) else event
