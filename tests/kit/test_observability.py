"""Log lines and trace contexts."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Final

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan

from kit.observability.logs import correlation_id, get_logger, setup_logging
from kit.observability.tracing import current_traceparent, origin_of, setup_tracing, span, traceparent_of


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged within the test; logging is as before after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    setup_logging("tested", "info", human=False, stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_json_and_names_its_request_and_trace(lines: io.StringIO) -> None:
    token = correlation_id.set("c-1")
    with span("work"):
        get_logger("somewhere").info("happened", count=3)
        trace_id = current_traceparent().split("-")[1]
    correlation_id.reset(token)
    line = json.loads(lines.getvalue())
    assert (line["event"], line["count"], line["level"], line["service"]) == ("happened", 3, "info", "tested")
    assert (line["correlation_id"], line["trace_id"]) == ("c-1", trace_id)


def test_a_library_logs_in_the_same_form(lines: io.StringIO) -> None:
    logging.getLogger("some.library").warning("lost %s", "amqp://u:hush@h")
    line = json.loads(lines.getvalue())
    assert line["event"] == "lost amqp://u:***@h"
    assert line["logger"] == "some.library"


def test_no_secret_is_logged_wherever_it_stands(lines: io.StringIO) -> None:
    token = "vsd_" + "hush" * 10
    log = get_logger("somewhere")
    keys = dict.fromkeys(("password", "token", "Authorization", "client_secret"), "hush")
    log.info(f"got {token}", url="redis://:hush@h/0", header=f"Bearer {'hush' * 5}", **keys)
    try:
        raise ValueError(f"cannot use {token} at postgresql://u:hush@h/d")
    except ValueError:
        log.exception("failed")
    assert len(lines.getvalue().splitlines()) == 2
    assert "hush" not in lines.getvalue().replace(
        'raise ValueError(f"cannot use {token} at postgresql://u:***@h/d")', ""
    )


def test_lines_below_the_level_are_not_written(lines: io.StringIO) -> None:
    get_logger("somewhere").debug("detail")
    assert lines.getvalue() == ""


@given(st.text())
def test_any_text_is_a_trace_context_or_none(text: str) -> None:
    with span("work", origin=origin_of([text])):
        assert len(current_traceparent()) == 55


@pytest.mark.parametrize(
    "malformed",
    ["", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-" + "1" * 32 + "-" + "0" * 16 + "-01", "ff-" + "1" * 49],
)
def test_a_malformed_traceparent_starts_a_new_trace(malformed: str) -> None:
    with span("work", origin=origin_of([malformed])):
        assert current_traceparent().split("-")[1] not in malformed


def test_a_child_span_stays_in_its_trace() -> None:
    with span("outer"):
        outer = current_traceparent()
        with span("inner"):
            inner = current_traceparent()
    assert outer.split("-")[1] == inner.split("-")[1]
    assert outer != inner
    assert current_traceparent() == ""


_TRACES: Final = st.sampled_from([f"{number:032x}" for number in (1, 2, 3)])
_TRACEPARENTS: Final = st.builds(
    lambda trace_id, span, sampled: f"00-{trace_id}-{span:016x}-{sampled:02x}",
    _TRACES,
    st.integers(1, 9),
    st.integers(0, 1),
)


@given(st.lists(st.one_of(_TRACEPARENTS, st.just("")), max_size=8))
def test_work_for_many_requests_is_in_their_one_trace_or_linked_to_each(given_: list[str]) -> None:
    """And it is recorded where any of them is."""
    exporter = InMemorySpanExporter()
    tracing = setup_tracing("test", exporter=exporter)
    try:
        with span("work", origin=origin_of(given_)):
            pass
    finally:
        tracing.shutdown()
    requests = list(dict.fromkeys(filter(None, given_)))
    sampled = [one for one in requests if one.endswith("-01")]
    found = exporter.get_finished_spans()
    assert len(found) == (1 if sampled or not requests else 0)
    if not sampled:
        return
    (work,) = found
    assert work.context is not None
    linked = [traceparent_of(NonRecordingSpan(link.context)) for link in work.links]
    if len({one[3:35] for one in requests}) == 1:
        assert work.parent is not None
        assert [traceparent_of(NonRecordingSpan(work.parent)), *linked] == sampled
        assert f"{work.context.trace_id:032x}" == sampled[0][3:35]
    else:
        assert work.parent is None
        assert linked == sampled


@given(st.lists(_TRACEPARENTS, min_size=1, max_size=8))
def test_without_a_collector_the_trace_is_the_same(given_: list[str]) -> None:
    with span("work", origin=origin_of(given_)):
        trace_id = current_traceparent()[3:35]
    traces = {one[3:35] for one in given_}
    assert (trace_id in traces) is (len(traces) == 1)
