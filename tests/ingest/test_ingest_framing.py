"""Laws of framing: numbers without a gap whatever fails, exact totals, and no answer before all items are durable."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan
from prometheus_client import CollectorRegistry

from ingest import framing
from ingest.admission import Admitted, RefusedItem, admit_json, to_columns
from ingest.framing import Framer
from ingest.grouping import EXTRA_FRAME_BYTES_MAX, REFUSED_FRAME_BYTES_MAX, RequestContext
from ingest.metrics import IngestMetrics
from kit.clock import ManualClock
from kit.errors import KitError, Overloaded, Unavailable
from kit.observability.tracing import setup_tracing, traceparent_of
from schemas.frame import FRAME_ITEMS_MAX, FrameHeader, FrameKind, decode_body, decode_header, partition_of
from schemas.packed import ROWS_MAX
from schemas.reading import PLAIN_READING_SCHEMA, RAW_ITEM_BYTES_MAX, with_all_columns
from tests.ingest.wire_strategies import NOW_MS, RULES
from tests.waiting import eventually

PARTITIONS = 3


@dataclass
class ScriptedLog:
    """Accepts, refuses or loses records by its script; accepted ones are in `taken`, durable ones in `durable`."""

    script: list[str] = field(default_factory=list)  # outcome of each append; "ok" when used up
    taken: list[bytes] = field(default_factory=list)
    durable: list[bytes] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, partition: int, record: bytes) -> None:
        outcome = self.script.pop(0) if self.script else "ok"
        if outcome == "full":
            raise Overloaded("full", 7)
        if outcome == "closed":
            raise Unavailable("closed")
        assert decode_header(record).partition == partition
        self.taken.append(record)
        if outcome == "at once":
            self.durable.append(record)
            return
        await asyncio.sleep(0)  # an accepted record waits at least one turn of the loop
        await self.gate.wait()
        if outcome == "lost":
            raise Unavailable("no confirm in time")
        self.durable.append(record)

    async def close(self) -> None:
        """Nothing to release."""


def framer_on(log: ScriptedLog, totals: dict[int, int] | None = None) -> Framer:
    known = {} if totals is None else totals
    return Framer(
        log,
        source="0123456789abcdef",
        partitions=PARTITIONS,
        linger_ms=0,
        clock=ManualClock(),
        metrics=IngestMetrics(CollectorRegistry()),
        on_durable=known.__setitem__,
    )


def readings(stations: list[str], start: int = 0, **more: Any) -> Admitted:
    items = [
        {"station_id": name, "connector_id": 1, "ts": NOW_MS, "seq": start + at} | more
        for at, name in enumerate(stations)
    ]
    return admit_json(msgspec.json.encode(items), RULES)


def refused(station: str | None, size: int = 3) -> RefusedItem:
    return RefusedItem(0, "absurd", "too much", b"r" * size, station)


def headers_of(frames: list[bytes]) -> dict[int, list[FrameHeader]]:
    found: dict[int, list[FrameHeader]] = defaultdict(list)
    for frame in frames:
        header = decode_header(frame)
        assert header.items == decode_body(frame).num_rows <= FRAME_ITEMS_MAX
        found[header.partition].append(header)
    return found


def assert_no_gap(frames: list[bytes]) -> None:
    for headers in headers_of(frames).values():
        assert [header.number for header in headers] == list(range(len(headers)))
        total = 0
        for header in headers:
            total += header.items
            assert header.items_total == total


def seqs_of(frames: list[bytes]) -> list[int]:
    found: list[int] = []
    for frame in frames:
        if decode_header(frame).kind == FrameKind.READINGS:
            found += decode_body(frame).column("seq").to_pylist()
    return found


_outcomes = st.lists(st.sampled_from(["ok", "at once", "full", "closed", "lost"]), max_size=30)
_requests = st.lists(
    st.tuples(st.lists(st.sampled_from(["A", "b", "C", "D", "E"]), max_size=6), st.integers(0, 3), st.booleans()),
    max_size=12,
)


@given(script=_outcomes, requests=_requests)
def test_whatever_fails_numbers_have_no_gap_and_answers_are_true(
    script: list[str], requests: list[tuple[list[str], int, bool]]
) -> None:
    async def scenario() -> None:
        log = ScriptedLog(list(script))
        totals: dict[int, int] = {}
        framer = framer_on(log, totals)
        framer.start()
        sent: list[tuple[set[int], int, asyncio.Task[None]]] = []
        start = 0
        for stations, bad, as_columns in requests:
            admitted = readings(stations, start)
            admitted = to_columns(admitted) if as_columns else admitted
            admitted = Admitted(admitted.rows, [refused("A"), refused(None), refused("C")][:bad])
            task = asyncio.create_task(framer.submit(admitted, RequestContext("token")))
            sent.append((set(range(start, start + len(stations))), bad, task))
            start += len(stations)
            if start % 2:
                await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        log.gate.set()
        results = await asyncio.gather(*(task for _, _, task in sent), return_exceptions=True)
        await framer.close()
        assert_no_gap(log.taken)
        durable = seqs_of(log.durable)
        assert len(durable) == len(set(durable))
        for (wanted, _, _), result in zip(sent, results, strict=True):
            assert result is None or isinstance(result, KitError)
            if result is None:
                assert wanted <= set(durable)
        expected = {
            at: max(header.items_total for header in headers) for at, headers in headers_of(log.durable).items()
        }
        assert totals == expected
        if not script:
            assert sum(totals.values()) == sum(len(wanted) + bad for wanted, bad, _ in sent)

    asyncio.run(scenario())


class Faulty:
    """Raises in those of all calls of what it wraps, counted together."""

    def __init__(self, calls: Iterable[int]) -> None:
        self._calls = set(calls)
        self._count = 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, and a raise before it where its turn has come."""

        def call(*arguments: Any, **named: Any) -> Any:
            self._count += 1
            if self._count in self._calls:
                raise RuntimeError(f"call {self._count}: {function}")
            return function(*arguments, **named)

        return call


_PLACES = [
    "clock.now_ms",
    "clock.monotonic_s",
    "log.append",
    "on_durable",
    "metrics.append_s.observe",
    "metrics.frame_items.observe",
    "metrics.frames_failed.inc",
]
_MODULE_PLACES = ["group", "encode_frame", "records_spans", "FrameHeader"]


@given(faults=st.sets(st.integers(1, 60), max_size=8), requests=_requests, script=_outcomes)
def test_an_error_anywhere_gives_no_number_twice_and_loses_nothing_acknowledged(
    faults: set[int], requests: list[tuple[list[str], int, bool]], script: list[str]
) -> None:
    async def scenario(patched: pytest.MonkeyPatch) -> None:
        log = ScriptedLog(list(script))
        framer = framer_on(log)
        faulty = Faulty(faults)
        for place in _PLACES:
            *path, name = f"_{place}".split(".")
            owner = reduce(getattr, path, framer)
            patched.setattr(owner, name, faulty.wrap(getattr(owner, name)))
        for name in _MODULE_PLACES:
            patched.setattr(f"ingest.framing.{name}", faulty.wrap(getattr(framing, name)))
        framer.start()
        sent: list[tuple[set[int], asyncio.Task[None]]] = []
        start = 0
        for stations, bad, as_columns in requests:
            admitted = readings(stations, start)
            admitted = to_columns(admitted) if as_columns else admitted
            admitted = Admitted(admitted.rows, [refused("A"), refused(None), refused("C")][:bad])
            task = asyncio.create_task(framer.submit(admitted, RequestContext("token")))
            sent.append((set(range(start, start + len(stations))), task))
            start += len(stations)
            for _ in range(start % 4):
                await asyncio.sleep(0)
        log.gate.set()
        async with asyncio.timeout(5):  # nobody waits for ever
            results = await asyncio.gather(*(task for _, task in sent), return_exceptions=True)
            await framer.close()
        assert_no_gap(log.taken)
        durable = set(seqs_of(log.durable))
        for (wanted, _), result in zip(sent, results, strict=True):
            assert result is not None or wanted <= durable

    with pytest.MonkeyPatch.context() as patched:
        asyncio.run(scenario(patched))


async def test_rows_go_to_the_partition_of_their_station_in_order_of_arrival() -> None:
    log = ScriptedLog()
    log.gate.set()
    framer = framer_on(log)
    framer.start()
    names = [f"CP{at % 7}" for at in range(50)]
    await asyncio.gather(
        framer.submit(readings(names), RequestContext("t")),
        framer.submit(to_columns(readings(names, 100)), RequestContext("t")),
    )
    await framer.close()
    for frame in log.durable:
        body = decode_body(frame)
        assert {partition_of(name, PARTITIONS) for name in body.column("station_id").to_pylist()} == {
            decode_header(frame).partition
        }
        seqs = body.column("seq").to_pylist()
        assert seqs == sorted(seqs)


async def test_many_requests_share_one_frame_a_partition() -> None:
    log = ScriptedLog()
    log.gate.set()
    framer = framer_on(log)
    framer.start()
    context = RequestContext("t", "00-11111111111111111111111111111111-2222222222222222-01", "corr-1")
    await asyncio.gather(*(framer.submit(readings(["A"], at), context) for at in range(100)))
    await framer.close()
    (header,) = headers_of(log.durable)[partition_of("A", PARTITIONS)]
    assert (header.items, header.traceparent, header.correlation_id) == (100, context.traceparent, "corr-1")


async def test_a_frame_of_several_traces_is_linked_to_each_request() -> None:
    log = ScriptedLog()
    log.gate.set()
    framer = framer_on(log)
    framer.start()
    exporter = InMemorySpanExporter()
    tracing = setup_tracing("test", exporter=exporter)
    try:
        contexts = [RequestContext("t", f"00-{at:032x}-{at:016x}-01") for at in range(1, 301)]
        await asyncio.gather(*(framer.submit(readings(["A"], at), one) for at, one in enumerate(contexts)))
        await framer.close()
    finally:
        tracing.shutdown()
    (publish,) = exporter.get_finished_spans()
    assert [link.context.trace_id for link in publish.links] == list(range(1, 301))
    (header,) = headers_of(log.durable)[partition_of("A", PARTITIONS)]
    assert publish.context is not None
    assert header.traceparent == traceparent_of(NonRecordingSpan(publish.context))


async def test_requests_during_a_frame_in_flight_share_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.framing.COLLECT_S_MAX", 600.0)
    log = ScriptedLog()
    framer = framer_on(log)
    framer.start()
    first = asyncio.create_task(framer.submit(readings(["A"]), RequestContext("t")))
    await eventually(lambda: len(log.taken) == 1)
    others = []
    for at in range(1, 9):
        others.append(asyncio.create_task(framer.submit(readings(["A"], at), RequestContext("t"))))
        await asyncio.sleep(0)
    log.gate.set()
    await asyncio.gather(first, *others)
    await framer.close()
    assert [header.items for header in headers_of(log.durable)[partition_of("A", PARTITIONS)]] == [1, 8]


@pytest.mark.parametrize("reason", ["time", "a full flush"])
async def test_collecting_more_requests_is_bounded(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    monkeypatch.setattr("ingest.framing.COLLECT_S_MAX", 0.0 if reason == "time" else 600.0)
    monkeypatch.setattr("ingest.framing.FRAME_ITEMS_TARGET", 10)
    log = ScriptedLog()
    framer = framer_on(log)
    framer.start()
    size = 10 * PARTITIONS if reason == "a full flush" else 1
    tasks = [asyncio.create_task(framer.submit(readings(["A"]), RequestContext("t")))]
    await eventually(lambda: len(log.taken) == 1)
    tasks.append(asyncio.create_task(framer.submit(readings(["A"] * size, 1), RequestContext("t"))))
    await eventually(lambda: len(log.taken) > 1)
    log.gate.set()
    await asyncio.gather(*tasks)
    await framer.close()


async def test_a_large_request_is_split_and_answered_after_its_last_frame() -> None:
    log = ScriptedLog(["at once", "ok"])
    framer = framer_on(log)
    framer.start()
    big = Admitted(readings([]).rows, [refused("A", RAW_ITEM_BYTES_MAX) for _ in range(100)])
    task = asyncio.create_task(framer.submit(big, RequestContext("t")))
    await eventually(lambda: len(log.taken) == 2)
    assert len(log.durable) == 1
    assert not task.done()
    log.gate.set()
    await task
    await framer.close()
    assert_no_gap(log.taken)
    assert all(len(frame) < 2 * REFUSED_FRAME_BYTES_MAX for frame in log.taken)
    assert sum(header.items for header in headers_of(log.durable)[partition_of("A", PARTITIONS)]) == 100


@pytest.mark.parametrize("as_columns", [False, True])
async def test_details_stay_with_their_readings_among_plain_ones(as_columns: bool) -> None:
    log = ScriptedLog()
    log.gate.set()
    framer = framer_on(log)
    framer.start()
    names = [f"CP{at % 7}" for at in range(50)]
    detailed = readings(names, 1_000, power_factor=0.5, energy_export_wh=3)
    parts = [readings(names), to_columns(detailed) if as_columns else detailed, readings(names, 2_000)]
    await asyncio.gather(*(framer.submit(part, RequestContext("t")) for part in parts))
    await framer.close()
    rows = [row for frame in log.durable for row in with_all_columns(decode_body(frame)).to_pylist()]
    assert len(rows) == 150
    for row in rows:
        is_detailed = 1_000 <= row["seq"] < 2_000
        assert row["extra"] == ('{"power_factor":0.5}' if is_detailed else None)
        assert row["energy_export_mwh"] == (3_000 if is_detailed else None)


async def test_plain_readings_make_frames_of_the_plain_columns() -> None:
    log = ScriptedLog()
    log.gate.set()
    framer = framer_on(log)
    framer.start()
    await framer.submit(readings(["A"] * (ROWS_MAX + 1)), RequestContext("t"))
    await framer.close()
    assert [decode_body(frame).schema for frame in log.durable] == [PLAIN_READING_SCHEMA]


async def test_frames_with_much_extra_are_cut_by_its_bytes() -> None:
    log = ScriptedLog()
    log.gate.set()
    framer = framer_on(log)
    framer.start()
    await framer.submit(readings(["A"] * 1_000, note="x" * 4_000), RequestContext("t"))
    await framer.close()
    assert_no_gap(log.durable)
    assert seqs_of(log.durable) == list(range(1_000))
    assert len(log.durable) == -(-1_000 // (EXTRA_FRAME_BYTES_MAX // 4_011))  # {"note":"…"} has 11 more
    assert max(map(len, log.durable)) < EXTRA_FRAME_BYTES_MAX * 1.1


async def test_overload_passes_on_the_time_to_retry_after() -> None:
    log = ScriptedLog(["full"])
    framer = framer_on(log)
    framer.start()
    with pytest.raises(Overloaded) as caught:
        await framer.submit(readings(["A"]), RequestContext("t"))
    assert caught.value.retry_after_s == 7
    log.gate.set()
    await framer.submit(readings(["A"]), RequestContext("t"))
    await framer.close()
    assert_no_gap(log.taken)
    assert len(log.durable) == 1


async def test_close_flushes_what_waits_and_accepts_nothing_more() -> None:
    log = ScriptedLog()
    log.gate.set()
    framer = framer_on(log)
    framer.start()
    waiting = asyncio.create_task(framer.submit(readings(["A"]), RequestContext("t")))
    await asyncio.sleep(0)
    await framer.close()
    await waiting
    assert len(log.durable) == 1
    with pytest.raises(Unavailable):
        await framer.submit(readings(["A"]), RequestContext("t"))


async def test_a_cancelled_request_affects_no_other() -> None:
    log = ScriptedLog()
    framer = framer_on(log)
    framer.start()
    tasks = [asyncio.create_task(framer.submit(readings(["A"], at), RequestContext("t"))) for at in range(2)]
    await eventually(lambda: log.taken)
    tasks[0].cancel()
    log.gate.set()
    await tasks[1]
    await framer.close()
    assert seqs_of(log.durable) == [0, 1]


async def test_items_without_a_station_stay_in_the_partition_of_their_token() -> None:
    log = ScriptedLog()
    log.gate.set()
    framer = framer_on(log)
    framer.start()
    for _ in range(3):
        await framer.submit(Admitted(readings([]).rows, [refused(None)]), RequestContext("token"))
    await framer.close()
    assert len(headers_of(log.durable)) == 1
