"""A collector of traces for tests: OTLP over HTTP, as OpenTelemetry's own exporter sends it."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


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

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
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

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing: the test's output is for what fails."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = OtlpReceiver(server)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
