"""event.failed.v1, which the buses publish for every message that is dead-lettered."""

from typing import Final
from uuid import UUID, uuid5

import msgspec

from kit.clock import Clock, format_rfc3339
from kit.messaging.bus import EVENT_ID, Announce, FailedMessage, Message
from kit.messaging.messages import header_text
from schemas.events import EventFailed, EventMetadata, envelope_of
from schemas.topics import EVENT_FAILED

SOURCE: Final = "events"


class _Readable(msgspec.Struct):
    """The part of a failed event that can still be decoded."""

    metadata: EventMetadata


_decoder = msgspec.json.Decoder(_Readable)


def dead_letter_event_factory(clock: Clock) -> Announce:
    """A function that builds the event of a failed message."""

    def event_failed(failed: FailedMessage) -> Message:
        metadata = metadata_of(failed.message.body)
        message = failed.message
        payload = EventFailed(
            queue=failed.queue,
            event_id=metadata.event_id if metadata else _uuid(message.headers.get(EVENT_ID, "")),
            event_type=metadata.type if metadata else message.routing_key,
            attempts=message.attempt,
            error=header_text(failed.error),
        )
        event_id = uuid5(failed.letter_id, EVENT_FAILED)
        envelope = envelope_of(
            EVENT_FAILED,
            event_id,
            payload,
            source=SOURCE,
            timestamp=format_rfc3339(clock.now_ms()),
            correlation_id=metadata.correlation_id if metadata else "",
            traceparent=metadata.traceparent if metadata else "",
        )
        return Message(envelope.exchange, envelope.routing_key, envelope.encoded(), {EVENT_ID: str(event_id)})

    return event_failed


def metadata_of(body: bytes) -> EventMetadata | None:
    """The metadata of an encoded event; None where it cannot be decoded."""
    try:
        return _decoder.decode(body).metadata
    except (ValueError, RecursionError):
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
