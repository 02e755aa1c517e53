"""Tracing: W3C trace context in and out, spans by OpenTelemetry.

Without a collector nothing is recorded: a span then only carries its ids (~2 us), so that log lines, frames and events
of one request still share a trace id. With a collector, OTEL_TRACES_SAMPLER and OTEL_BSP_* set sampling and batching,
as the SDK documents them.
"""

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.util.types import AttributeValue

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)
_EMPTY: Final = Context()
_UNSAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)

# One per process, as in the SDK. None: nothing is recorded.
_tracer: Tracer | None = None


class Tracing:
    """The process's tracing, until `shutdown`."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider

    def shutdown(self) -> None:
        """Send what is buffered (up to the exporter's time-out) and stop."""
        global _tracer  # see its definition
        _tracer = None
        if self._provider is not None:
            self._provider.shutdown()


def setup_tracing(
    service: str, otlp_endpoint: str = "", *, ca_file: str = "", exporter: SpanExporter | None = None
) -> Tracing:
    """Send this process's spans to the collector at `otlp_endpoint` (OTLP/HTTP base URL), or record none.

    `ca_file`: CAs (PEM) of its certificate, unless OpenTelemetry's own variables name others. `exporter` is for tests:
    every finished span is handed to it at once.
    """
    global _tracer  # see its definition
    if exporter is None and not otlp_endpoint:
        _tracer = None
        return Tracing(None)
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    else:
        # Imported here: it costs 100 ms and 15 MB, which only processes that trace should pay.
        from kit.observability.otlp import otlp_exporter

        exporter = otlp_exporter(otlp_endpoint, ca_file)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("voltstream")
    return Tracing(provider)


def context_from(traceparent: str) -> Context:
    """The trace context a `traceparent` names; an empty one (a new trace) where it is absent or malformed."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or match[1] == "ff":
        return _EMPTY
    parent = SpanContext(
        int(match[2], 16), int(match[3], 16), is_remote=True, trace_flags=TraceFlags(int(match[4], 16))
    )
    return trace.set_span_in_context(NonRecordingSpan(parent), _EMPTY) if parent.is_valid else _EMPTY


def current_traceparent() -> str:
    """The running span as a W3C `traceparent`, or empty outside of any span."""
    return traceparent_of(trace.get_current_span())


def traceparent_of(span: Span) -> str:
    """The span as a W3C `traceparent`, or empty if it has no ids."""
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def records_spans() -> bool:
    """Whether spans of this process may be recorded. If not, a request's ids need to be made only where they are
    used: `child_traceparent`."""
    return _tracer is not None


def child_traceparent(traceparent: str) -> str:
    """The `traceparent` of a new span, not recorded, within the given one, or of a new trace."""
    return traceparent_of(start_span("", context_from(traceparent), SpanKind.SERVER))


def start_span(name: str, parent: Context | None, kind: SpanKind) -> Span:
    """A span that the caller ends, and has to make current where it should be."""
    if _tracer is not None:
        return _tracer.start_span(name, parent, kind)
    # The SDK's own unrecorded span costs ten times this.
    above = trace.get_current_span(parent).get_span_context()
    known = above.is_valid
    trace_id, flags = (above.trace_id, above.trace_flags) if known else (random.getrandbits(128) | 1, _UNSAMPLED)
    return NonRecordingSpan(SpanContext(trace_id, random.getrandbits(64) | 1, is_remote=False, trace_flags=flags))


@contextmanager
def span(
    name: str,
    *,
    parent: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Iterator[Span]:
    """A span around the block, child of `parent` or else of the running span; an exception is recorded on it."""
    running = start_span(name, parent, kind)
    if attributes:
        running.set_attributes(attributes)
    with trace.use_span(running, end_on_exit=True):
        yield running
