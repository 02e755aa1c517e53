"""event.failed.v1: how the buses tell of an event that a consumer gave up."""

from typing import Final
from uuid import UUID, uuid5

import msgspec

from kit.clock import Clock, format_rfc3339
from kit.messaging.bus import DIRECT, EVENT_ID, Announce, FailedMessage, Message
from kit.messaging.delivery import ERROR_CHARS_MAX
from schemas.events import EventFailed, EventMetadata, envelope_of
from schemas.topics import EVENT_FAILED

SOURCE: Final = "events"


class _Lost(msgspec.Struct):
    """What can still be read of the event."""

    metadata: EventMetadata


_decoder = msgspec.json.Decoder(_Lost)


def announcer(clock: Clock) -> Announce:
    """Makes the event of a message given up."""

    def event_failed(given_up: FailedMessage) -> Message:
        lost = metadata_of(given_up.message.body)
        message = given_up.message
        payload = EventFailed(
            queue=given_up.queue,
            event_id=lost.event_id if lost else _uuid(message.headers.get(EVENT_ID, "")),
            event_type=lost.type if lost else message.routing_key,
            attempts=message.attempt,
            error=given_up.error[:ERROR_CHARS_MAX],
        )
        event_id = uuid5(given_up.letter_id, EVENT_FAILED)
        envelope = envelope_of(
            EVENT_FAILED,
            event_id,
            payload,
            source=SOURCE,
            timestamp=format_rfc3339(clock.now_ms()),
            correlation_id=lost.correlation_id if lost else "",
            traceparent=lost.traceparent if lost else "",
        )
        return Message(DIRECT, envelope.routing_key, envelope.encoded(), {EVENT_ID: str(event_id)})

    return event_failed


def metadata_of(body: bytes) -> EventMetadata | None:
    """What an event says of itself; None where it cannot be read."""
    try:
        return _decoder.decode(body).metadata
    except (ValueError, RecursionError):
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
