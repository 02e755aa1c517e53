"""A collector of traces for tests: OTLP over HTTP, as OpenTelemetry's own exporter sends it."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.posts_received import posts_received


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as a collector gets it; ids in hex."""

    process: str  # service.name
    name: str
    trace_id: str
    span_id: str
    parent_id: str  # empty: the root
    links: tuple[str, ...]  # trace ids
    attributes: dict[str, Any]


class OtlpReceiver:
    """What has come so far."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[ReceivedSpan] = []

    def of_trace(self, trace_id: str) -> list[ReceivedSpan]:
        """Those of one trace."""
        return [span for span in list(self.spans) if span.trace_id == trace_id]

    def take(self, body: bytes) -> None:
        """Decode one export."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_received(names["service.name"], span) for span in scope.spans]


def _received(process: str, span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        process,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        tuple(link.trace_id.hex() for link in span.links),
        {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes},
    )


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Listens on loopback within the block."""
    receiver = OtlpReceiver()

    def take(_: str, headers: Message, body: bytes) -> None:
        receiver.take(gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)

    with posts_received(take, ExportTraceServiceResponse().SerializeToString(), "application/x-protobuf") as address:
        receiver.url = f"http://{address}"
        yield receiver
