"""One partition in a worker: acquire it, collect frames, flush them, release it, and recover from failures in between.

No framework: the embedded worker and the Kafka worker drive it. Not thread-safe: one task drives a processor, which
does its work (decode, step, commit) in the worker's threads, one flush at a time.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from opentelemetry import trace

from kit.clock import Clock
from kit.errors import KitError, Unavailable
from kit.live.audience import Audience
from kit.live.view import LiveView
from kit.observability.logs import get_logger
from kit.observability.tracing import current_traceparent, origin_of, span
from schemas.frame import FrameError
from schemas.frame_rows import FAILED, UNREADABLE
from streams.effects import NULL_I64, Effects, StepParams
from streams.engine.batch import Frame
from streams.errors import BorderMoved, StreamsError
from streams.kernels.runs import distinct
from streams.state.encoding import load_state, snapshot, take_patch
from streams.storage.commit import Flush, commit
from streams.storage.events import FlushContext
from streams.storage.store import Acquired, Store
from streams.worker.compute import StepStore, compute_effects
from streams.worker.decoding import read_frames, refuse_unreadable, refused_whole
from streams.worker.frame_buffer import BufferedFrame, FrameBuffer
from streams.worker.live_documents import CpuBudget, live_documents
from streams.worker.metrics import WorkerMetrics

LIVE_TOPIC: Final = "telemetry"
TICK_S_MIN: Final = 0.2  # between flushes without frames: emission and time-outs are in seconds
# Documents cost as much as the step. Making them takes a tenth of a core at most: at ten thousand readings a second
# that is with every flush; under full load a connector is shown once in five readings, and at least after each pause.
LIVE_SHARE_MAX: Final = 0.1
LIVE_PAUSE_S_MAX: Final = 1.0
RELEASE_S_MAX: Final = 10.0  # for a commit under way when the partition is taken away; the fence covers what is longer
# Waiting for more than these is not worth it: of a flush of so many its fixed cost of 3 ms is a third.
FEW_READINGS: Final = 1_000
# A base is rewritten when the patches since are four times as large: then a quarter more is written than what changes.
# Below this size it does not matter. The next owner applies each of them, in ~1 ms.
_PATCHES_TO_BASE: Final = 4
_BASE_BYTES_MIN: Final = 64 << 10
_PATCHES_MAX: Final = 500

_log = get_logger(__name__)
T = TypeVar("T")


class PartitionStateLike(Protocol):
    """What a processor itself needs of the state of a partition; all else is done by StateFunctions."""

    slots: int

    def next_due_ms(self, params: StepParams) -> int | None:
        """The moment at which a step is due though nothing arrives; None: not before something arrives."""


@dataclass(frozen=True, slots=True)
class StateFunctions:
    """The functions that load, advance and show the state of a partition; tests replace them."""

    load: Callable[[int, Sequence[bytes]], Any]
    compute: Callable[[Any, Sequence[Frame], int, StepStore, StepParams], Effects]
    take_patch: Callable[[Any], bytes]
    snapshot: Callable[[Any], bytes]
    documents: Callable[[Any, NDArray[np.int64]], dict[str, bytes]]


STATE_FUNCTIONS: Final = StateFunctions(load_state, compute_effects, take_patch, snapshot, live_documents)


def _for_ever() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What all processors of a process share: the store, the clock, the threads, the limits."""

    store: Store
    live: LiveView
    audience: Audience  # of the live documents
    live_budget: CpuBudget
    clock: Clock
    metrics: WorkerMetrics
    executor: Executor  # as many threads as flushes may run at once
    params: Callable[[], StepParams]  # as they are now: operators change some of them meanwhile
    readings_max: int  # of one flush
    interval_s: float  # between the beginnings of two flushes of a partition
    interval_unwatched_s: float  # the same while nobody looks at the live view and little waits
    functions: StateFunctions = STATE_FUNCTIONS
    retention_days: Callable[[], int] = _for_ever  # raw readings older than that are dropped; 0: never
    status_retention_days: Callable[[], int] = _for_ever  # status intervals that ended before that, likewise
    quarantine_retention_days: Callable[[], int] = _for_ever  # what was refused before that
    window_retention_days: Callable[[], Mapping[str, int]] = dict  # windows, by their width


class PartitionProcessor:
    """The life of one partition in this worker. Make a new one after Fenced or a release."""

    def __init__(self, partition: int, context: WorkerContext) -> None:
        self.partition = partition
        self.next = 0  # the first offset that is not committed; known after `acquire`
        self._context = context
        self._buffer = FrameBuffer(partition, context.clock, context.readings_max)
        self._epoch = self._commits = 0
        self._border_ms = NULL_I64
        self._state: PartitionStateLike | None = None
        self._base_bytes = self._patch_bytes = self._patches = 0
        self._flush: Flush | None = None  # computed and not known to be committed
        self._batch: list[BufferedFrame] = []  # its frames
        self._flushed_at_s = -float("inf")
        self._received_ms = 0
        self._unpublished: list[NDArray[np.int64]] = []  # slots, none of the arrays empty
        self._published_at_s = -float("inf")
        self._live_unavailable = False
        self._busy: asyncio.Future[Any] | None = None
        context.metrics.watch(partition, lambda: len(self._buffer), self._buffer.age_s)
        self._counts = context.metrics.of_partition(partition)

    @property
    def expected(self) -> int:
        """The offset that is to be offered next."""
        return self._buffer.expected

    @property
    def waiting(self) -> bool:
        """Whether frames are offered and not committed."""
        return len(self._buffer) > 0

    @property
    def full(self) -> bool:
        """The buffer is full; offer more when a flush has ended."""
        return self._buffer.full

    def offer(self, offset: int, frame: bytes) -> bool:
        """Take the frame for the next flush. False: it is buffered or committed already. Raises Gap."""
        return self._buffer.offer(offset, frame)

    def skip_to(self, offset: int) -> None:
        """The log has lost what lies before: continue there. Only while nothing waits."""
        lost = self._buffer.skip_to(offset)
        _log.error("offsets_lost", partition=self.partition, until=offset, count=lost)
        self._context.metrics.lost.labels(str(self.partition)).inc(lost)

    def due_in_s(self, *, ticks: bool = True) -> float | None:
        """Seconds until the next flush should begin; 0: now; None: not before something arrives.

        `ticks`: whether passing time may close windows and sessions though nothing arrives. Not while frames are known
        to wait in the log: they may keep these open.
        """
        since_s = self._context.clock.monotonic_s() - self._flushed_at_s
        if self._flush or self._buffer.plenty:
            return 0.0
        if len(self._buffer):
            return max(0.0, self._interval_s() - since_s)
        due_ms = self._state.next_due_ms(self._context.params()) if ticks and self._state else None
        if due_ms is None:
            return None
        return max(TICK_S_MIN - since_s, (due_ms - self._context.clock.now_ms()) / 1_000, 0.0)

    def _interval_s(self) -> float:
        """The 202s are sent: only who looks now sees a reading later for it, and events of sessions wait so long."""
        unwatched = not self._context.audience.looking and self._buffer.readings < FEW_READINGS
        return self._context.interval_unwatched_s if unwatched else self._context.interval_s

    @property
    def has_unwritten_rows(self) -> bool:
        """Whether rows of windows or running sessions wait for a flush without frames."""
        return self._state is not None and self._state.next_due_ms(self._context.params()) == 0

    async def acquire(self) -> int:
        """Take the partition over and load its state; the offset to read from. Raises Unavailable, ConfigError."""
        self._take_over(*await self._in_thread(self._load))
        return self.next

    async def flush(self) -> int:
        """Commit what waits, or without frames what is due by time; the first offset not committed (to acknowledge).

        Raises Unavailable: call again, nothing is lost or done twice. Raises Fenced: release the partition. Anything
        else is a fault that no frame explains; the state is dropped, and calling again acquires the partition again.
        After a cancelled call only `release` makes sense.
        """
        self._flushed_at_s = self._context.clock.monotonic_s()
        while True:
            if self._state is None:
                await self.acquire()
            if self._flush is None:
                self._batch = self._buffer.next_batch()
            try:
                flush = await self._in_thread(self._work)
            except BorderMoved:
                self._state = self._flush = None
                continue
            except StreamsError:
                self._state = self._flush = None
                raise
            except KitError:
                if self._flush is None:
                    self._state = None  # the step stopped half-way
                self._context.metrics.retries.labels(str(self.partition)).inc()
                raise
            except Exception as error:
                self._state = self._flush = None
                if not self._buffer.failed(self._batch):
                    _log.error("flush_failed", partition=self.partition, next=self.next, exc_info=error)
                    raise
                count = len(self._batch)
                _log.warning("flush_failed_on_data", partition=self.partition, frames=count, exc_info=error)
                continue
            if flush is not None:
                self._flushed(flush)
            return self.next

    def publish_in_s(self) -> float | None:
        """Seconds until the live view should be brought up to date; 0: now; None: it is."""
        if self._state is None or not self._unpublished:
            return None
        latest_s = max(0.0, self._published_at_s + LIVE_PAUSE_S_MAX - self._context.clock.monotonic_s())
        return (
            latest_s
            if self._live_unavailable or not self._context.audience.looking
            else min(latest_s, self._context.live_budget.wait_s())
        )

    async def publish(self) -> None:
        """Bring the live view up to date with what is committed, if it is due. Where it is unavailable, later."""
        if self._state is None or self.publish_in_s() != 0.0:
            return
        slots = distinct(np.concatenate(self._unpublished), self._state.slots)
        with self._counts.timed("live"):
            documents = await self._in_thread(lambda: self._documents(slots))
            try:
                await self._context.live.put(LIVE_TOPIC, documents)
                self._live_unavailable = False
            except Unavailable as error:
                self._live_unavailable = True
                self._context.metrics.live_failures.labels(str(self.partition)).inc()
                _log.warning("live_view_unavailable", partition=self.partition, error=str(error))
        # If it was unavailable, it may have lost everything.
        self._unpublished = [np.arange(self._state.slots)] if self._live_unavailable else []
        self._published_at_s = self._context.clock.monotonic_s()

    async def release(self) -> None:
        """Release the partition: wait for what is under way, drop the rest."""
        if self._busy is not None and not self._busy.done():
            await asyncio.wait((self._busy,), timeout=RELEASE_S_MAX)
        self._buffer.clear()
        self._state = None
        with suppress(KeyError):
            self._context.metrics.unwatch(self.partition)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run it in a thread; a cancelled caller leaves it running, and `release` waits for it."""
        if self._busy is not None and not self._busy.done():
            await asyncio.wait((self._busy,))
        self._busy = asyncio.get_running_loop().run_in_executor(self._context.executor, work)
        self._busy.add_done_callback(_retrieve)
        result: T = await asyncio.shield(self._busy)
        self._busy = None  # it would keep its result: a flush's documents or a whole state
        return result

    # -- before and after the thread's work -------------------------------------------------------------------------

    def _take_over(self, acquired: Acquired, state: PartitionStateLike) -> None:
        if acquired.next < self.next:
            raise StreamsError(f"partition {self.partition}: the store went back from {self.next} to {acquired.next}")
        self._epoch, self._commits = acquired.epoch, acquired.commits
        self._border_ms = acquired.border_ms
        self._base_bytes, self._patch_bytes = acquired.base_bytes, acquired.patch_bytes
        self._patches = max(len(acquired.bodies) - 1, 0)
        self._forget_until(acquired.next)
        self._flush = None
        self._state = state
        self._unpublished = [np.arange(state.slots)] if state.slots else []
        self._published_at_s = -float("inf")
        self._live_unavailable = False
        self._context.metrics.acquired.labels(str(self.partition)).inc()
        _log.info("partition_acquired", partition=self.partition, epoch=self._epoch, next=self.next, slots=state.slots)

    def _flushed(self, flush: Flush) -> None:
        self._flush = None
        self._commits = flush.commit
        if flush.base:
            self._base_bytes, self._patch_bytes, self._patches = len(flush.body), 0, 0
        else:
            self._patch_bytes += len(flush.body)
            self._patches += 1
        if len(flush.effects.touched):
            self._unpublished.append(flush.effects.touched)
        self._counts.flushed(flush.effects, len(self._batch), sum(len(waiting.frame) for waiting in self._batch))
        self._counts.state_bytes.inc(len(flush.body))
        self._buffer.forget(len(self._batch))
        self._batch = []  # or its frames would be kept until the next flush, 15 MB
        self._forget_until(flush.end)

    def _forget_until(self, end: int) -> None:
        self._buffer.forget_until(end)
        self.next = end
        self._context.metrics.next_offset.labels(str(self.partition)).set(end)

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _load(self) -> tuple[Acquired, PartitionStateLike]:
        # After a failure, only if no other worker has acquired the partition since: else the two workers would take it
        # from each other for ever.
        acquired = self._context.store.acquire(self.partition, self._epoch or None)
        return acquired, self._context.functions.load(self.partition, acquired.bodies)

    def _work(self) -> Flush | None:
        frames = [waiting.header for waiting in self._batch if waiting.header is not None]
        origin = origin_of(header.traceparent for header in frames)
        attributes = {"partition": self.partition, "messaging.batch.message_count": len(self._batch)}
        with span("streams.flush", origin=origin, kind=trace.SpanKind.CONSUMER, attributes=attributes):
            if self._flush is None:
                self._flush = self._compute()
            if self._flush is not None:
                with self._counts.timed("commit"), span("streams.commit", kind=trace.SpanKind.CLIENT):
                    commit(self._context.store, self._flush)
            return self._flush

    def _compute(self) -> Flush | None:
        """One step over the batch; None: there is nothing to commit."""
        context, state, batch = self._context, self._state, self._batch
        if state is None:
            raise ValueError("a step needs a state")
        with self._counts.timed("decode"):
            frames, unreadable = self._decode(batch)
        now_ms = context.clock.now_ms()
        # While a backlog is read the time is that of the frames: what waits in the log is not silence.
        self._received_ms = max([self._received_ms, *(header.received_ms for header, _ in frames)])
        with self._counts.timed("step"):
            step_ms = min(now_ms, self._received_ms) if frames else now_ms
            params = replace(context.params(), oldest_ms=self._border_ms)
            effects = context.functions.compute(state, frames, step_ms, context.store, params)
            for waiting in unreadable:
                refuse_unreadable(effects.refused, waiting.frame, now_ms)
            if not batch and not effects.any_rows:
                return None
            body = context.functions.take_patch(state)
            base = self._needs_base(len(body))
            if base:
                body = context.functions.snapshot(state)
        return Flush(
            partition=self.partition,
            epoch=self._epoch,
            commit=self._commits + 1,
            start=self.next,
            end=batch[-1].next if batch else self.next,
            effects=effects,
            body=body,
            base=base,
            context=FlushContext(now_ms, current_traceparent()),
            border_ms=self._border_ms,
        )

    def _needs_base(self, patch_bytes: int) -> bool:
        bytes_max = max(self._base_bytes * _PATCHES_TO_BASE, _BASE_BYTES_MIN)
        return not self._base_bytes or self._patches >= _PATCHES_MAX or self._patch_bytes + patch_bytes > bytes_max

    def _documents(self, slots: NDArray[np.int64]) -> dict[str, bytes]:
        began_s = self._context.clock.thread_cpu_s()
        documents = self._context.functions.documents(self._state, slots)
        self._context.live_budget.spend(self._context.clock.thread_cpu_s() - began_s)
        return documents

    def _decode(self, batch: list[BufferedFrame]) -> tuple[list[Frame], list[BufferedFrame]]:
        """Frames for the step, and those whose header is unreadable."""
        frames: list[Frame] = []
        readable = [(waiting, waiting.header) for waiting in batch if waiting.header is not None]
        sound = [(header, waiting.frame) for waiting, header in readable if not self._buffer.is_suspect(waiting)]
        decoded = iter(read_frames(sound, self.partition))
        for waiting, header in readable:
            reason, detail = FAILED, "processing it failed repeatedly"
            if not self._buffer.is_suspect(waiting):
                rows = next(decoded)
                if not isinstance(rows, FrameError):
                    frames.append(rows)
                    continue
                reason, detail = UNREADABLE, str(rows)
            self._report_poison(waiting, detail)
            frames.append(refused_whole(header, waiting.frame, reason, detail))
        return frames, [waiting for waiting in batch if waiting.header is None]

    def _report_poison(self, waiting: BufferedFrame, detail: str) -> None:
        self._context.metrics.poison.labels(str(self.partition)).inc()
        _log.error("frame_quarantined", partition=self.partition, offset=waiting.offset, detail=detail)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception, which a cancelled caller does not."""
    if not future.cancelled():
        future.exception()
