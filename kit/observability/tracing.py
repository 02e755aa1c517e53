"""Tracing: W3C trace context in and out, spans by OpenTelemetry.

Work for many requests at once (a frame, a record of the log, a flush) goes on in their trace where they have one, and
else begins a trace that is linked to each of them, as OpenTelemetry's conventions for messaging say: `origin_of`.

Without a collector nothing is recorded: a span then only carries its ids (~2 us), so that log lines, frames and events
of one request still share a trace id. With a collector, OTEL_TRACES_SAMPLER and OTEL_BSP_* set sampling and batching,
as the SDK documents them. What is linked is recorded where something that it is linked to is.
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
)
from opentelemetry.util.types import AttributeValue

if TYPE_CHECKING:
    import httpx

LINKS_MAX: Final = 1_024  # of a span: a frame has the items of as many requests at most, as a rule

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)
_TRACE_ID: Final = slice(3, 35)  # of a traceparent
_EMPTY: Final = Context()
_UNSAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)

# One per process, as in the SDK. None: nothing is recorded.
_tracer: Tracer | None = None


class SpanOrigin(NamedTuple):
    """What a span of work for many requests goes on from."""

    parent: Context | None = None  # an empty one begins a trace; None: the running span's
    links: Sequence[Link] = ()


_RUNNING: Final = SpanOrigin()


class _LinkedSampler(Sampler):
    """Samples the root of a trace as what it is linked to, so that a sampled request is seen to its end. Anything else
    as `own` does."""

    def __init__(self, own: Sampler) -> None:
        self._own = own

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See OpenTelemetry."""
        if not links or trace.get_current_span(parent_context).get_span_context().is_valid:
            return self._own.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        sampled = any(link.context.trace_flags.sampled for link in links)
        return SamplingResult(Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP, attributes)

    def get_description(self) -> str:
        """See OpenTelemetry."""
        return f"Linked{{{self._own.get_description()}}}"


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
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}),
        span_limits=SpanLimits(max_links=LINKS_MAX),
        shutdown_on_exit=False,
    )
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    else:
        # Imported here: it costs 100 ms and 15 MB, which only processes that trace should pay.
        from kit.observability.otlp import otlp_exporter

        exporter = otlp_exporter(otlp_endpoint, ca_file)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.sampler = _LinkedSampler(provider.sampler)
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


def valid_traceparent(given: str) -> str:
    """The same where it is a W3C `traceparent`, else empty."""
    return given if _TRACEPARENT.fullmatch(given) else ""


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


def origin_of(traceparents: Iterable[str]) -> SpanOrigin:
    """Of work for requests with these: within their trace where they have one (in the span of the first, with links to
    the others), else in a new trace with a link to each. Empty and malformed ones do not count; linked are those that
    are sampled, LINKS_MAX at most."""
    distinct = list(dict.fromkeys(filter(None, traceparents)))
    is_one_trace = len({traceparent[_TRACE_ID] for traceparent in distinct}) == 1
    if _tracer is None:
        return SpanOrigin(context_from(distinct[0]) if is_one_trace else _EMPTY)
    found = [trace.get_current_span(context_from(traceparent)).get_span_context() for traceparent in distinct]
    contexts = sorted(filter(attrgetter("is_valid"), found), key=lambda one: not one.trace_flags.sampled)
    if not contexts:
        return SpanOrigin(_EMPTY)
    links = [Link(context) for context in islice(contexts, LINKS_MAX) if context.trace_flags.sampled]
    if is_one_trace:
        return SpanOrigin(trace.set_span_in_context(NonRecordingSpan(contexts[0]), _EMPTY), links[1:])
    return SpanOrigin(_EMPTY, links or [Link(contexts[0])])  # which says that none is sampled


def start_span(name: str, parent: Context | None, kind: SpanKind, links: Sequence[Link] = ()) -> Span:
    """A span that the caller ends, and has to make current where it should be. `parent`: None for the running span's;
    `links`: to what else it is work for."""
    if _tracer is not None:
        return _tracer.start_span(name, parent, kind, links=links)
    # The SDK's own unrecorded span costs ten times this.
    above = trace.get_current_span(parent).get_span_context()
    known = above.is_valid
    trace_id, flags = (above.trace_id, above.trace_flags) if known else (random.getrandbits(128) | 1, _UNSAMPLED)
    return NonRecordingSpan(SpanContext(trace_id, random.getrandbits(64) | 1, is_remote=False, trace_flags=flags))


def end_failed(span: Span, error: BaseException | None) -> None:
    """End a span whose work failed with `error`; None: it did not."""
    if error is not None and span.is_recording():
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
    span.end()


@contextmanager
def span(
    name: str,
    *,
    origin: SpanOrigin = _RUNNING,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Iterator[Span]:
    """A span around the block, from that origin or else child of the running span; an exception is recorded on it."""
    running = start_span(name, origin.parent, kind, origin.links)
    if attributes:
        running.set_attributes(attributes)
    with trace.use_span(running, end_on_exit=True):
        yield running


async def pass_trace_on(request: "httpx.Request") -> None:
    """An event hook of an httpx client, before a request: names the running span to the server."""
    if traceparent := current_traceparent():
        request.headers["traceparent"] = traceparent
