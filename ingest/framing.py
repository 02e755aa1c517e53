"""Batches the items of many requests into frames and writes them to the log; each request waits until its own frames
are durable.

One Framer is one source (schemas/frame.py): it numbers its frames per partition without a gap. A number is used up once
the log has accepted the frame; the number of a frame that the log refused goes to the next one.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Final

from opentelemetry.trace import Span, SpanKind

from ingest.admission import Admitted
from ingest.grouping import PendingRequest, Sender, UnnumberedFrame, group
from ingest.linger import Linger
from ingest.metrics import IngestMetrics
from kit.clock import Clock
from kit.errors import KitError, Overloaded, Unavailable
from kit.log.partitioned_log import LogWriter
from kit.observability.logs import get_logger
from kit.observability.tracing import end_failed, origin_of, records_spans, start_span, traceparent_of
from schemas.frame import FrameHeader, encode_frame

FRAME_ITEMS_TARGET: Final = 1_000  # per partition; with this many on average the linger is cut short
# A frame costs ~4 ms of processor time on its way through two brokers to a worker, whatever its size. So while frames
# are in flight, new items are collected until one of the frames is durable, or for this long.
COLLECT_S_MAX: Final = 0.03
_TIMER_S: Final = 0.0005  # timers come so much too early: uvloop rounds to milliseconds
# Items that wait for the next flush. A flush of this many takes ~0.3 s: later requests get a 503 with Retry-After,
# which is better than a queue. ~300 B each: 60 MB. A single larger request is accepted when no other waits.
ITEMS_PENDING_MAX: Final = 200_000

_log = get_logger(__name__)


class Framer:
    """Writes the items of pending requests to the log as numbered frames, for one run of one gateway."""

    def __init__(
        self,
        log: LogWriter,
        *,
        source: str,
        partitions: int,
        linger_ms: int,
        linger_batch_ms: int = 0,
        clock: Clock,
        metrics: IngestMetrics,
        on_durable: Callable[[int, int], None] = lambda _partition, _items_total: None,
    ) -> None:
        """`source`: 16 hex digits, new at every start.

        `on_durable(partition, items_total)` is called when a frame is durable that raises the partition's total of
        items to `items_total`; totals only grow.
        """
        self.source = source
        self._log = log
        self._partitions = partitions
        self._items_target = FRAME_ITEMS_TARGET * partitions
        self._linger = Linger(linger_ms / 1_000, partitions, linger_batch_ms / 1_000)
        self._clock = clock
        self._metrics = metrics
        self._on_durable = on_durable
        self._numbers = [0] * partitions  # of the next frame
        self._items_totals = [0] * partitions  # of all frames that the log accepted
        self._durable_totals = [0] * partitions  # of the highest durable frame
        self._pending: list[PendingRequest] = []
        self._items_pending = 0
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None  # set from the first pending request until their flush
        self._collecting: asyncio.Future[None] | None = None  # done: no more is to be collected for this flush
        self._appends: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        metrics.frames_unconfirmed.set_function(lambda: len(self._appends))

    def start(self) -> None:
        """Start flushing."""
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="framer")

    async def close(self) -> None:
        """Flush pending requests, wait for frames in flight, stop. The log stays open."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._due.set()
        self._end_collecting()
        await runner
        if self._appends:
            await asyncio.wait(self._appends)

    async def submit(self, admitted: Admitted, context: Sender, on_taken: Callable[[], None] | None = None) -> None:
        """Return once all items are durable. `on_taken` is called before it first waits, where it does not raise.

        Raises Overloaded and Unavailable; some of the items may be, or become, durable all the same.
        """
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: Exception | None) -> None:
            if durable.done():
                return  # cancelled
            if error is None:
                durable.set_result(None)
            else:
                durable.set_exception(error)

        request = PendingRequest(admitted, context, settle)
        self.enqueue(request)
        if on_taken is not None:
            on_taken()
        try:
            await durable
        finally:
            request.done = True  # also where its caller is cancelled

    def enqueue(self, request: PendingRequest) -> None:
        """Settle the request once all its items are durable, or with Overloaded or Unavailable.

        Raises the same where it is not taken; then it is not settled.
        """
        items = request.admitted.accepted + len(request.admitted.refused)
        if items == 0:
            request.settle(None)
            return
        if self._runner is None:
            raise Unavailable("the gateway is stopping")
        if self._pending and self._items_pending + items > ITEMS_PENDING_MAX:
            raise Overloaded(f"{self._items_pending} readings are pending already")
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if not self._pending:
            self._linger.begin(now_s)
        self._linger.add(items, now_s)
        self._pending.append(request)
        self._items_pending += items
        if self._items_pending >= self._items_target:
            self._due.set()
            self._end_collecting()
        elif self._timer is None:
            self._timer = loop.call_at(self._linger.due_s, self._end_linger, loop)

    def _end_linger(self, loop: asyncio.AbstractEventLoop) -> None:
        """Flush, unless requests have come since that others may follow."""
        due_s = self._linger.due_s
        if loop.time() >= due_s - _TIMER_S:
            self._due.set()
        else:
            self._timer = loop.call_at(due_s, self._end_linger, loop)

    async def _run(self) -> None:
        while self._runner is not None or self._pending:
            await self._due.wait()
            self._due.clear()
            await self._collect_more()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            requests, self._pending, self._items_pending = self._pending, [], 0
            try:
                await self._send_frames(group(requests, self._partitions))
            except Exception as error:  # a bug here must not leave requests waiting for ever
                _log.exception("flush_failed")
                for request in requests:
                    request.fail(error)

    async def _collect_more(self) -> None:
        """Wait briefly for more requests while frames are in flight."""
        if not self._appends or self._runner is None or self._items_pending >= self._items_target:
            return
        loop = asyncio.get_running_loop()
        self._collecting = loop.create_future()
        timer = loop.call_later(COLLECT_S_MAX, self._end_collecting)
        await self._collecting
        timer.cancel()

    def _end_collecting(self, _: object = None) -> None:
        if self._collecting is not None and not self._collecting.done():
            self._collecting.set_result(None)

    async def _send_frames(self, frames: list[list[UnnumberedFrame]]) -> None:
        """Append frames of one partition one after the other, those of different partitions concurrently."""
        for wave in zip_longest(*frames):
            numbered = [self._number(frame) for frame in wave if frame is not None and frame.is_awaited]
            started = [frame for frame in numbered if frame is not None]
            for frame in started:
                self._append(frame)
            try:
                await asyncio.sleep(0)  # the log takes a record, or refuses it, before it first waits
            finally:
                for frame in started:
                    if not frame.is_refused:  # else its number goes to the next frame
                        self._numbers[frame.partition] += 1
                        self._items_totals[frame.partition] = frame.items_total

    def _number(self, frame: UnnumberedFrame) -> "_NumberedFrame | None":
        """The frame with the next number of its partition, which it does not use up. None: it cannot be encoded, and
        its requests have failed; frames of other partitions go on."""
        span = None
        try:
            context = frame.requests[0].context
            items_total = self._items_totals[frame.partition] + frame.items
            span = _span_of(frame) if records_spans() else None
            header = FrameHeader(
                kind=frame.kind,
                partition=frame.partition,
                source=self.source,
                number=self._numbers[frame.partition],
                items=frame.items,
                items_total=items_total,
                received_ms=self._clock.now_ms(),
                traceparent=context.traceparent if span is None else traceparent_of(span),
                correlation_id=context.correlation_id,
            )
            return _NumberedFrame(
                frame.partition, frame.items, items_total, encode_frame(header, frame.rows), frame.requests, span
            )
        except Exception as error:
            _log.exception("frame_not_encoded", partition=frame.partition, items=frame.items)
            if span is not None:
                end_failed(span, error)
            _fail(frame.requests, error)
            return None

    def _append(self, frame: "_NumberedFrame") -> None:
        task = asyncio.create_task(self._deliver(frame))
        self._appends.add(task)
        task.add_done_callback(self._appends.discard)
        task.add_done_callback(self._end_collecting)
        task.add_done_callback(_retrieve_exception)
        if frame.span is not None:
            task.add_done_callback(partial(_end, frame.span))

    async def _deliver(self, frame: "_NumberedFrame") -> None:
        """Append and complete the frame's requests. Raises what the log raises, after failing them."""
        try:
            started_s = self._clock.monotonic_s()
            await self._log.append(frame.partition, frame.encoded)
        except Exception as error:
            frame.is_refused = True
            _fail(frame.requests, error)
            self._metrics.frames_failed.inc()
            if not isinstance(error, KitError):
                _log.exception("append_failed", partition=frame.partition, bytes=len(frame.encoded))
            raise
        try:
            if frame.items_total > self._durable_totals[frame.partition]:  # confirms may overtake each other
                self._durable_totals[frame.partition] = frame.items_total
                self._on_durable(frame.partition, frame.items_total)
            self._metrics.append_s.observe(self._clock.monotonic_s() - started_s)
            self._metrics.frame_items.observe(frame.items)
        except Exception:  # a bug there changes nothing for the requests: their items are durable
            _log.exception("durable_frame_not_counted", partition=frame.partition)
        for request in frame.requests:
            request.confirm()


@dataclass(slots=True, eq=False)
class _NumberedFrame:
    """A frame as it is appended."""

    partition: int
    items: int
    items_total: int  # of its partition, itself included
    encoded: bytes
    requests: list[PendingRequest]
    span: Span | None
    is_refused: bool = False  # by the log, which has not taken it if it says so before it first waits


def _span_of(frame: UnnumberedFrame) -> Span:
    """Of a frame on its way into the log: work for each of its requests."""
    parent, links = origin_of(request.context.traceparent for request in frame.requests)
    span = start_span("frames publish", parent, SpanKind.PRODUCER, links)
    span.set_attributes({"partition": frame.partition, "messaging.batch.message_count": frame.items})
    return span


def _end(span: Span, task: "asyncio.Task[None]") -> None:
    end_failed(span, asyncio.CancelledError() if task.cancelled() else task.exception())


def _fail(requests: Iterable[PendingRequest], error: Exception) -> None:
    for request in requests:
        request.fail(error)


def _retrieve_exception(task: asyncio.Task[None]) -> None:
    """Nothing awaits the task: its requests have the exception already."""
    if not task.cancelled():
        task.exception()
