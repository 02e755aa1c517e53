"""The processor of a partition, with a fake step and state."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kit.clock import ManualClock, from_ms
from kit.errors import Unavailable
from kit.live.audience import LOOK_S, Audience
from kit.live.view import InProcessLive
from kit.observability.tracing import setup_tracing
from schemas.frame import JOINED_MAGIC, FrameKind, join_frames
from schemas.frame_rows import FAILED
from schemas.packed import ROWS_MAX
from streams.effects import READING_COLUMNS, Effects, StepParams
from streams.engine.batch import Frame
from streams.errors import Fenced, Gap
from streams.worker.compute import StepStore
from streams.worker.frame_buffer import AHEAD, FrameBuffer
from streams.worker.live_documents import CpuBudget
from streams.worker.processor import (
    FEW_READINGS,
    LIVE_PAUSE_S_MAX,
    LIVE_TOPIC,
    TICK_S_MIN,
    PartitionProcessor,
    StateFunctions,
    WorkerContext,
)
from tests.streams.frames_and_effects import T0_MS, charging, columns, effects_of, frame_of

PARTITION = 1
Ask = Callable[[str], list[tuple[Any, ...]]]


class FakeState:
    """Remembers the numbers of the frames it has seen; its body is that list."""

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen
        self.slots = len(seen)
        self.due_ms: int | None = None

    def take_patch(self) -> bytes:
        return b"%d," % self.seen[-1] if self.seen else b""

    def snapshot(self) -> bytes:
        return b"".join(b"%d," % number for number in self.seen)

    def next_due_ms(self, _: StepParams) -> int | None:
        return self.due_ms


class FakeStep:
    """One row of a reading an item; fails on frames whose number is in `poison`."""

    def __init__(self) -> None:
        self.poison: set[int] = set()
        self.at_ms: list[int] = []
        self.state = FakeState([])
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def load(self, _: int, bodies: Sequence[bytes]) -> FakeState:
        self.state = FakeState([int(number) for body in bodies for number in body.split(b",")[:-1]])
        return self.state

    def compute(
        self, state: FakeState, frames: Sequence[Frame], now_ms: int, store: StepStore, _: StepParams
    ) -> Effects:
        self.before()
        self.at_ms.append(now_ms)
        readings = [header for header, _ in frames if header.kind == FrameKind.READINGS]
        bad = self.poison & {header.number for header in readings}
        state.seen += [header.number for header, _ in frames]
        if bad:
            raise ValueError(f"poison: {bad}")
        rows = columns(READING_COLUMNS, sum(header.items for header in readings))
        rows["connector_key"][:] = store.register_connectors(PARTITION, [("A", 1)])[0]
        rows["ts_ms"][:] = T0_MS
        for name in ("status", "session_event", "flags", "payload_hash", "part", "named"):
            rows[name][:] = 0
        state.slots = len(state.seen)
        refused = [(header, batch) for header, batch in frames if header.kind == FrameKind.REFUSED]
        effects = effects_of(rows, sources=[], touched=np.arange(state.slots),
                             quarantined=sum(header.items for header, _ in refused))  # fmt: skip
        for header, batch in refused:
            assert isinstance(batch, pa.RecordBatch)
            row = batch.to_pylist()[0]
            for column in ("station_id", "reason", "detail", "raw"):
                getattr(effects.refused, column).append(row[column])
            effects.refused.connector_id.append(None)
            effects.refused.received_ms.append(header.received_ms)
        self.after()
        return effects

    def documents(self, _: FakeState, slots: NDArray[np.int64]) -> dict[str, bytes]:
        return {f"S/{slot}": b"{}" for slot in slots.tolist()}


def functions_of(fake: FakeStep) -> StateFunctions:
    return StateFunctions(fake.load, fake.compute, lambda s: s.take_patch(), lambda s: s.snapshot(), fake.documents)


@pytest.fixture
def fake() -> FakeStep:
    return FakeStep()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(from_ms(T0_MS + 3_600_000))


@pytest.fixture
def faked(worker: WorkerContext, fake: FakeStep, clock: ManualClock) -> WorkerContext:
    return replace(
        worker, functions=functions_of(fake), clock=clock, audience=Audience(clock), readings_max=40
    )  # fmt: skip


@pytest.fixture
async def processor(faked: WorkerContext) -> AsyncIterator[PartitionProcessor]:
    processor = PartitionProcessor(PARTITION, faked)
    await processor.acquire()
    yield processor
    await processor.release()


@pytest.fixture
def ask(telemetry_url: str) -> Ask:
    def answer(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(telemetry_url) as connection:
            return connection.execute(query.encode()).fetchall()

    return answer


def frame(number: int) -> bytes:
    return frame_of(PARTITION, number, charging("A", number, rows=10))


async def test_frames_are_taken_once_and_in_order(processor: PartitionProcessor, fake: FakeStep) -> None:
    assert processor.offer(0, frame(0))
    assert not processor.offer(0, frame(0))
    with pytest.raises(Gap) as gap:
        processor.offer(2, frame(2))
    assert (gap.value.wanted, gap.value.got) == (1, 2)
    assert await processor.flush() == 1
    assert not processor.offer(0, frame(0))
    assert processor.offer(1, frame(1))
    assert await processor.flush() == 2
    assert fake.state.seen == [0, 1]


async def test_another_processor_continues_where_the_store_is(
    processor: PartitionProcessor, faked: WorkerContext, fake: FakeStep
) -> None:
    for number in range(3):
        processor.offer(number, frame(number))
        await processor.flush()
    successor = PartitionProcessor(PARTITION, faked)
    assert await successor.acquire() == 3
    assert fake.state.seen == [0, 1, 2]
    processor.offer(3, frame(3))
    with pytest.raises(Fenced):
        await processor.flush()
    assert successor.offer(3, frame(3))
    assert await successor.flush() == 4


async def test_one_flush_takes_no_more_than_its_bound(processor: PartitionProcessor) -> None:
    for number in range(9):
        processor.offer(number, frame(number))
    assert [await processor.flush() for _ in range(3)] == [4, 8, 9]


@pytest.mark.parametrize("a_record", [1, 2, 4, 9])
@pytest.mark.parametrize("poison", [{0}, {5}, {3, 4, 8}])
async def test_a_bad_frame_is_kept_whole_and_the_others_are_stored(
    processor: PartitionProcessor, fake: FakeStep, ask: Ask, poison: set[int], a_record: int
) -> None:
    fake.poison = poison
    frames = [frame(number) for number in range(9)]
    records = [join_frames(frames[start : start + a_record]) for start in range(0, 9, a_record)]
    for offset, record in enumerate(records):
        processor.offer(offset, record)
    while processor.waiting:
        await processor.flush()
    assert processor.next == len(records)
    stored = (9 - len(poison)) * 10
    assert ask("SELECT count(*) FROM telemetry.reading") == [(stored,)]
    assert ask("SELECT reason, raw FROM telemetry.quarantine ORDER BY id") == [
        (FAILED, frame(number)) for number in sorted(poison)
    ]
    query = f"SELECT stored, quarantined FROM telemetry.ledger WHERE partition = {PARTITION}"
    assert ask(query) == [(stored, 10 * len(poison))]
    assert fake.state.seen == list(range(9))


async def test_a_flush_that_ends_inside_a_record_commits_up_to_its_beginning(
    processor: PartitionProcessor, faked: WorkerContext, fake: FakeStep, ask: Ask
) -> None:
    fake.poison = {3}
    records = [frame(0), join_frames([frame(number) for number in range(1, 5)]), frame(5)]
    for offset, record in enumerate(records):
        processor.offer(offset, record)
    assert await processor.flush() == 1
    assert fake.state.seen == [0, 1]
    successor = PartitionProcessor(PARTITION, faked)
    assert await successor.acquire() == 1
    for offset, record in enumerate(records[1:], 1):
        assert successor.offer(offset, record)
    while successor.waiting:
        await successor.flush()
    assert successor.next == 3
    assert ask("SELECT raw FROM telemetry.quarantine") == [(frame(3),)]


async def test_after_a_flush_that_ended_inside_a_record_every_reading_is_stored_once(
    worker: WorkerContext, ask: Ask
) -> None:
    context = replace(worker, readings_max=20)
    record = join_frames([frame(number) for number in range(7)])
    for _ in range(4):
        processor = PartitionProcessor(PARTITION, context)
        assert await processor.acquire() == 0
        processor.offer(0, record)
        await processor.flush()
        await processor.release()
    successor = PartitionProcessor(PARTITION, context)
    await successor.acquire()
    successor.offer(0, record)
    while successor.waiting:
        await successor.flush()
    assert successor.next == 1
    await successor.release()
    assert ask("SELECT count(*), count(DISTINCT ts), max(energy_mwh) FROM telemetry.reading") == [(70, 70, 69_000)]
    assert ask(f"SELECT stored, duplicate FROM telemetry.ledger WHERE partition = {PARTITION}") == [(70, 0)]


async def test_what_is_not_a_frame_is_kept_whole(processor: PartitionProcessor, ask: Ask) -> None:
    whole = frame(0)
    elsewhere = frame_of(PARTITION + 1, 1, charging("A", 1))
    many = frame_of(PARTITION, 2, charging("A", 1, rows=ROWS_MAX + 1))  # not packed
    other = many.replace(b"station_id", b"station_xx")
    cut = [whole[:-40], whole[:-8], many[:-40], join_frames([many, many])[:-1]]
    broken = [b"", b"garbage", JOINED_MAGIC, other, elsewhere, *cut]
    for offset, bytes_ in enumerate([*broken, whole]):
        processor.offer(offset, bytes_)
    while processor.waiting:
        await processor.flush()
    assert ask("SELECT raw FROM telemetry.quarantine ORDER BY octet_length(raw), raw") == [
        (one,) for one in sorted(broken, key=lambda one: (len(one), one))
    ]
    assert ask("SELECT count(*) FROM telemetry.reading") == [(10,)]


async def test_a_fault_that_no_frame_explains_is_no_frames_fault(
    processor: PartitionProcessor, fake: FakeStep, ask: Ask
) -> None:
    def fault() -> None:
        raise RuntimeError("a fault of ours")

    fake.before = fault
    processor.offer(0, frame(0))
    with pytest.raises(RuntimeError):
        await processor.flush()
    assert ask("SELECT count(*) FROM telemetry.quarantine") == [(0,)]
    fake.before = lambda: None
    assert await processor.flush() == 1


async def test_an_outage_in_the_commit_tries_the_same_effects_again(
    processor: PartitionProcessor, fake: FakeStep, faked: WorkerContext
) -> None:
    def cut() -> None:  # the connection that the commit will be lent
        with faked.store.connections.lend() as connection:
            pass
        connection.pgconn.finish()

    fake.after = cut
    processor.offer(0, frame(0))
    with pytest.raises(Unavailable):
        await processor.flush()
    fake.after = lambda: None
    processor.offer(1, frame(1))
    assert processor.due_in_s() == 0.0
    assert await processor.flush() == 1  # the first try's batch
    assert len(fake.at_ms) == 1  # and its step's effects
    assert await processor.flush() == 2


async def test_after_an_outage_in_the_step_it_starts_again_from_what_is_committed(
    processor: PartitionProcessor, fake: FakeStep
) -> None:
    processor.offer(0, frame(0))
    await processor.flush()
    processor.offer(1, frame(1))
    away = True

    def outage() -> None:
        if away:
            fake.state.seen.append(99)  # half a step
            raise Unavailable("the database is away")

    fake.before = outage
    with pytest.raises(Unavailable):
        await processor.flush()
    away = False
    assert await processor.flush() == 2
    assert fake.state.seen == [0, 1]


async def test_after_a_failure_a_partition_is_not_taken_back_from_its_new_owner(
    processor: PartitionProcessor, faked: WorkerContext, fake: FakeStep
) -> None:
    def outage() -> None:
        raise Unavailable("the database is away")

    fake.before = outage
    processor.offer(0, frame(0))
    with pytest.raises(Unavailable):
        await processor.flush()
    fake.before = lambda: None
    successor = PartitionProcessor(PARTITION, faked)
    await successor.acquire()
    with pytest.raises(Fenced):
        await processor.flush()
    successor.offer(0, frame(0))
    assert await successor.flush() == 1


async def test_the_view_takes_its_share_of_the_time_and_no_more(
    faked: WorkerContext, fake: FakeStep, clock: ManualClock
) -> None:
    share, view = 0.1, InProcessLive()

    def documents(state: FakeState, slots: NDArray[np.int64]) -> dict[str, bytes]:
        clock.advance(0.01)
        return fake.documents(state, slots)

    functions = replace(faked.functions, documents=documents)
    processor = PartitionProcessor(
        PARTITION, replace(faked, live=view, live_budget=CpuBudget(clock, share), functions=functions)
    )
    await processor.acquire()
    assert processor.publish_in_s() is None
    for number in range(3):
        processor.offer(number, frame(number))
        await processor.flush()
        await processor.publish()
        assert set(await view.all(LIVE_TOPIC)) == {"S/0"}
        assert processor.publish_in_s() == (None if number == 0 else pytest.approx(0.01 / share))
    clock.advance(0.01 / share)
    assert processor.publish_in_s() == 0.0
    await processor.publish()
    assert set(await view.all(LIVE_TOPIC)) == {"S/0", "S/1", "S/2"}
    await processor.release()


async def test_however_busy_others_are_the_view_is_never_older_than_the_pause(
    faked: WorkerContext, clock: ManualClock
) -> None:
    spent = CpuBudget(clock, 0.1)
    processor = PartitionProcessor(PARTITION, replace(faked, live_budget=spent))
    await processor.acquire()
    for number in range(2):
        spent.spend(100)
        processor.offer(number, frame(number))
        await processor.flush()
        await processor.publish()
        assert processor.publish_in_s() == (None if number == 0 else LIVE_PAUSE_S_MAX)
    clock.advance(LIVE_PAUSE_S_MAX)
    await processor.publish()
    assert set(await faked.live.all(LIVE_TOPIC)) == {"S/0", "S/1"}
    await processor.release()


async def test_while_nobody_looks_few_readings_wait_longer_and_no_longer_once_someone_does(
    faked: WorkerContext, clock: ManualClock
) -> None:
    context = replace(faked, interval_s=0.1, interval_unwatched_s=0.5, readings_max=10 * FEW_READINGS)
    processor, began = PartitionProcessor(PARTITION, context), asyncio.Event()
    context.audience.call_when_it_begins(began.set)
    await processor.acquire()
    clock.advance(LOOK_S)

    async def flush_one(offset: int) -> None:
        processor.offer(offset, frame(offset))
        await processor.flush()

    await flush_one(0)
    await processor.publish()
    processor.offer(1, frame(1))
    assert processor.due_in_s() == pytest.approx(0.5)
    offset = 1
    while offset * 10 < FEW_READINGS:  # a frame has ten
        offset += 1
        processor.offer(offset, frame(offset))
    assert processor.due_in_s() == pytest.approx(0.1)
    await processor.flush()
    assert processor.publish_in_s() == LIVE_PAUSE_S_MAX
    processor.offer(offset + 1, frame(offset + 1))
    assert processor.due_in_s() == pytest.approx(0.5)
    assert not began.is_set()
    context.audience.looked()
    assert began.is_set()
    assert processor.due_in_s() == pytest.approx(0.1)
    assert processor.publish_in_s() == 0.0
    await processor.release()


async def test_the_next_flushes_are_collected_while_one_is_under_way(clock: ManualClock) -> None:
    buffer = FrameBuffer(PARTITION, clock, readings_max=30)
    offsets = iter(range(99))

    def fill() -> tuple[int, int]:
        """How many frames of ten readings it took to be plenty, and to be full."""
        plenty = frames = 0
        while not buffer.full:
            plenty += not buffer.plenty
            offset = next(offsets)
            buffer.offer(offset, frame(offset))
            frames += 1
        return plenty, frames

    assert fill() == (3, 3 * AHEAD)
    batch = buffer.next_batch()
    assert fill() == (0, 3)
    buffer.forget_until(batch[-1].offset + 1)
    assert buffer.full
    assert [waiting.offset for waiting in buffer.next_batch()] == [3, 4, 5]


async def test_the_view_is_rebuilt_on_taking_over_and_after_it_was_away(
    processor: PartitionProcessor, faked: WorkerContext, clock: ManualClock
) -> None:
    class Away(InProcessLive):
        away = False

        async def put(self, topic: str, documents: Mapping[str, bytes]) -> None:
            if self.away:
                raise Unavailable("the view is away")
            await super().put(topic, documents)

    view = Away()
    for number in range(2):
        processor.offer(number, frame(number))
    await processor.flush()
    successor = PartitionProcessor(PARTITION, replace(faked, live=view))
    await successor.acquire()
    await successor.publish()
    assert set(await view.all(LIVE_TOPIC)) == {"S/0", "S/1"}
    view.away = True
    successor.offer(2, frame(2))
    assert await successor.flush() == 3
    await successor.publish()
    view.away = False
    await successor.publish()
    assert set(await view.all(LIVE_TOPIC)) == {"S/0", "S/1"}, "not before a pause"
    clock.advance(LIVE_PAUSE_S_MAX)
    await successor.publish()
    assert set(await view.all(LIVE_TOPIC)) == {"S/0", "S/1", "S/2"}


async def test_time_is_that_of_the_frames_while_they_come_and_the_clocks_when_they_do_not(
    processor: PartitionProcessor, fake: FakeStep, clock: ManualClock
) -> None:
    """After an outage of hours, what waits in the log is no silence that would close sessions."""
    processor.offer(0, frame(0))
    await processor.flush()
    assert fake.at_ms == [T0_MS + 9_000 + 5]
    fake.state.due_ms = clock.now_ms()
    clock.advance(TICK_S_MIN)
    assert processor.due_in_s(ticks=False) is None
    assert processor.due_in_s() == 0.0
    await processor.flush()
    assert fake.at_ms[-1] == clock.now_ms()


async def test_a_tick_that_brings_nothing_commits_nothing(
    processor: PartitionProcessor, fake: FakeStep, ask: Ask
) -> None:
    await processor.flush()
    assert len(fake.at_ms) == 1
    assert ask(f"SELECT commits FROM telemetry.stream_offset WHERE partition = {PARTITION}") == [(0,)]


async def test_flushes_keep_their_distance_unless_one_is_full(
    processor: PartitionProcessor, clock: ManualClock
) -> None:
    spaced = PartitionProcessor(PARTITION, replace(processor._context, interval_s=0.5))
    await spaced.acquire()
    assert spaced.due_in_s() is None
    spaced.offer(0, frame(0))
    assert spaced.due_in_s() == 0.0
    await spaced.flush()
    spaced.offer(1, frame(1))
    assert spaced.due_in_s() == 0.5
    clock.advance(0.3)
    assert spaced.due_in_s() == pytest.approx(0.2)
    for number in range(2, 5):
        spaced.offer(number, frame(number))
    assert spaced.due_in_s() == 0.0


async def test_the_age_of_a_stalled_partition_shows(
    processor: PartitionProcessor, faked: WorkerContext, clock: ManualClock
) -> None:
    def age_s() -> list[float]:
        return [sample.value for metric in faked.metrics.progress_age_s.collect() for sample in metric.samples]

    processor.offer(0, frame(0))
    clock.advance(7.0)
    assert age_s() == [7.0]
    await processor.flush()
    assert age_s() == [0.0]


async def test_what_the_log_has_lost_is_counted_and_passed_over(
    processor: PartitionProcessor, faked: WorkerContext, ask: Ask
) -> None:
    processor.skip_to(5)
    processor.offer(5, frame(5))
    assert await processor.flush() == 6
    assert ask(f"SELECT next FROM telemetry.stream_offset WHERE partition = {PARTITION}") == [(6,)]
    assert faked.metrics.lost.labels(str(PARTITION))._value.get() == 5


@pytest.mark.parametrize(("patch", "times"), [(b"7," * 20_000, 4), (b"7,", 500)], ids=["large", "many"])
async def test_the_state_is_written_as_patches_and_anew_when_they_are_large_or_many(
    processor: PartitionProcessor, fake: FakeStep, ask: Ask, patch: bytes, times: int
) -> None:
    fake.state.take_patch = lambda: patch  # type: ignore[method-assign]  # a fake
    fake.state.snapshot = lambda: b"7," * 20_000  # type: ignore[method-assign]  # a fake
    bodies = []
    for number in range(times + 2):
        processor.offer(number, frame(number))
        await processor.flush()
        bodies.append(len(ask("SELECT FROM telemetry.partition_state")))
    assert bodies == [*range(1, times + 2), 1]


async def test_a_flush_is_linked_to_the_traces_of_its_frames(processor: PartitionProcessor) -> None:
    exporter = InMemorySpanExporter()
    tracing = setup_tracing("test", exporter=exporter)
    try:
        for number in range(2):
            processor.offer(number, frame(number))
        await processor.flush()
    finally:
        tracing.shutdown()
    (flush,) = [span for span in exporter.get_finished_spans() if span.name == "streams.flush"]
    assert [link.context.trace_id for link in flush.links] == [1, 2]


async def test_releasing_waits_for_the_commit_under_way(faked: WorkerContext, fake: FakeStep, ask: Ask) -> None:
    processor = PartitionProcessor(PARTITION, faked)
    await processor.acquire()
    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    fake.before = lambda: (loop.call_soon_threadsafe(begun.set), None)[1]
    processor.offer(0, frame(0))
    flushing = asyncio.create_task(processor.flush())
    await begun.wait()
    flushing.cancel()
    await processor.release()
    assert ask("SELECT count(*) FROM telemetry.reading") == [(10,)]
