"""Consumes `telemetry.generated.v1` events, as simulators publish them, and ingests their readings."""

from collections.abc import Callable
from typing import Final

import msgspec

from ingest.admission import AdmissionRules, admit_json, damaged_member
from ingest.errors import MalformedBody, TooLarge
from ingest.framing import Framer
from ingest.grouping import RequestContext
from ingest.metrics import IngestMetrics
from kit.errors import Unprocessable
from kit.messaging.bus import Message
from kit.observability.tracing import valid_traceparent
from kit.web.request_ids import correlation_id_of
from schemas.events import EventMetadata
from schemas.topics import TELEMETRY_GENERATED

# Events handled at once. Each waits for a linger and a confirm, ~20 ms: 256 are ~12,000 events/s, and at 100 readings
# each ~8 MB of bodies.
PREFETCH: Final = 256
_TOKEN_ID: Final = "bus"  # noqa: S105  # in place of a device token's id, which partitions items without a station


class _Payload(msgspec.Struct):
    readings: msgspec.Raw


class _Generated(msgspec.Struct):
    metadata: EventMetadata
    payload: _Payload


_decoder = msgspec.json.Decoder(_Generated)
_metadata = msgspec.json.Decoder(EventMetadata)


class TelemetryConsumer:
    """Handles those events. The bus is trusted: they may have readings of any station."""

    def __init__(self, framer: Framer, rules: Callable[[], AdmissionRules], metrics: IngestMetrics) -> None:
        self._framer = framer
        self._rules = rules
        self._metrics = metrics

    async def handle(self, message: Message) -> None:
        """Return once every item is durable, as a reading or in quarantine.

        Raises Unprocessable for a malformed event (the bus dead-letters it at once), Overloaded and Unavailable (the
        bus delivers it again).
        """
        try:
            metadata, readings = _parts(message.body)
            admitted = admit_json(readings, self._rules())
        except (ValueError, RecursionError, MalformedBody, TooLarge) as error:
            raise Unprocessable(f"not a {TELEMETRY_GENERATED} event: {error}") from error
        self._metrics.requests.inc()
        self._metrics.body_bytes.inc(len(message.body))
        self._metrics.refused(admitted.refused)
        # What its publisher wrote there may be anything, and a frame whose header says more than it may is refused.
        traced, correlated = valid_traceparent(metadata.traceparent), metadata.correlation_id.encode("utf-8", "replace")
        context = RequestContext(_TOKEN_ID, traced, correlation_id_of(correlated))
        await self._framer.submit(admitted, context)
        self._metrics.accepted.inc(admitted.accepted)
        self._metrics.dropped(admitted.remarks)


def _parts(body: bytes) -> tuple[EventMetadata, bytes]:
    """Metadata and the readings' JSON, which may be damaged. Raises what decoding raises, and MalformedBody."""
    try:
        event = _decoder.decode(body)
    except (ValueError, RecursionError):
        # A reading may be the reason; then only that reading is refused.
        readings = damaged_member(damaged_member(body, "payload"), "readings")
        return _metadata.decode(damaged_member(body, "metadata")), readings
    return event.metadata, bytes(event.payload.readings)
