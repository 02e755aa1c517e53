"""Group commit: items of many requests leave together, in few frames, and every request waits for its own.

One Framer is one source (schemas/frame.py): it numbers its frames per partition without a hole. A number is spent when
the log has taken the frame; a frame the log did not take at all gives its number to the next.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Final

from ingest.admission import Admitted
from ingest.grouping import PendingRequest, RequestContext, UnnumberedFrame, group
from ingest.metrics import IngestMetrics
from kit.clock import Clock
from kit.errors import KitError, Overloaded, Unavailable
from kit.log.partitioned_log import LogWriter
from kit.observability.logs import get_logger
from schemas.frame import FrameHeader, encode_frame

FRAME_ITEMS_USUAL: Final = 1_000  # a partition's frame is this full when the linger is cut short
# A frame costs ~4 ms of processors on its way through two brokers to a worker, whatever is in it. So while frames are
# under way, what comes is collected until one of them is durable, or for this long.
COMPANY_S_MAX: Final = 0.03
# Items that wait for the next flush. A flush of this many takes ~0.3 s: who comes later is told to come back, which is
# kinder than a queue. ~300 B each: 60 MB. A single larger request is let in when nobody else waits.
ITEMS_PENDING_MAX: Final = 200_000

_log = get_logger(__name__)


class Framer:
    """One life of one gateway as a source of frames."""

    def __init__(
        self,
        log: LogWriter,
        *,
        source: str,
        partitions: int,
        linger_ms: int,
        clock: Clock,
        metrics: IngestMetrics,
        on_durable: Callable[[int, int], None] = lambda _partition, _items_total: None,
    ) -> None:
        """`source`: 16 hex digits, new at every start.

        `on_durable(partition, items_total)`: a frame is durable, and up to it the partition had so many items. Only
        ever told more.
        """
        self.source = source
        self._log = log
        self._partitions = partitions
        self._items_usual = FRAME_ITEMS_USUAL * partitions
        self._linger_s = linger_ms / 1_000
        self._clock = clock
        self._metrics = metrics
        self._on_durable = on_durable
        self._numbers = [0] * partitions  # of the next frame
        self._items_totals = [0] * partitions  # of all frames the log took
        self._durable_totals = [0] * partitions  # of the highest durable frame
        self._pending: list[PendingRequest] = []
        self._items_pending = 0
        self._due = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._appends: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        metrics.frames_unconfirmed.set_function(lambda: len(self._appends))

    def start(self) -> None:
        """Begin to flush."""
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="framer")

    async def close(self) -> None:
        """Flush what waits, let what is under way end, stop. The log stays open."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._due.set()
        await runner
        if self._appends:
            await asyncio.wait(self._appends)

    async def submit(self, admitted: Admitted, context: RequestContext) -> None:
        """Return once all items are durable.

        Raises Overloaded and Unavailable; some of the items may be, or become, durable all the same.
        """
        items = admitted.accepted + len(admitted.refused)
        if items == 0:
            return
        if self._runner is None:
            raise Unavailable("the gateway is stopping")
        if self._pending and self._items_pending + items > ITEMS_PENDING_MAX:
            raise Overloaded(f"{self._items_pending} readings wait already")
        portion = PendingRequest(admitted, context, asyncio.get_running_loop().create_future())
        self._pending.append(portion)
        self._items_pending += items
        if self._items_pending >= self._items_usual:
            self._due.set()
        elif self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(self._linger_s, self._due.set)
        await portion.durable

    async def _run(self) -> None:
        while self._runner is not None or self._pending:
            await self._due.wait()
            self._due.clear()
            await self._company()
            if self._linger is not None:
                self._linger.cancel()
                self._linger = None
            portions, self._pending, self._items_pending = self._pending, [], 0
            try:
                await self._hand_over(group(portions, self._partitions))
            except Exception as error:  # a bug here must not leave requests waiting for ever
                _log.exception("flush_failed")
                for portion in portions:
                    portion.fail(error)

    async def _company(self) -> None:
        """Wait for more, if it costs nobody much."""
        if not self._appends or self._runner is None or self._items_pending >= self._items_usual:
            return
        # The linger is over and not begun again: only a full flush and the end are due now.
        cut_short = asyncio.ensure_future(self._due.wait())
        until = {*self._appends, cut_short}
        await asyncio.wait(until, timeout=COMPANY_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        cut_short.cancel()

    async def _hand_over(self, drafts: list[list[UnnumberedFrame]]) -> None:
        """Frames of one partition one after the other; those of different partitions side by side."""
        for wave in zip_longest(*drafts):
            started = [(draft, self._append(draft)) for draft in wave if draft is not None and draft.wanted]
            await asyncio.sleep(0)  # the log takes a record, or refuses it, before it first waits
            for draft, task in started:
                if task.done() and task.exception() is not None:
                    continue  # not taken: its number goes to the next
                self._numbers[draft.partition] += 1
                self._items_totals[draft.partition] += draft.items

    def _append(self, draft: UnnumberedFrame) -> asyncio.Task[None]:
        partition, context = draft.partition, draft.portions[0].context
        items_total = self._items_totals[partition] + draft.items
        header = FrameHeader(
            kind=draft.kind,
            partition=partition,
            source=self.source,
            number=self._numbers[partition],
            items=draft.items,
            items_total=items_total,
            received_ms=self._clock.now_ms(),
            traceparent=context.traceparent,
            correlation_id=context.correlation_id,
        )
        task = asyncio.create_task(self._deliver(draft, items_total, encode_frame(header, draft.batch)))
        self._appends.add(task)
        task.add_done_callback(self._appends.discard)
        task.add_done_callback(_mark_seen)
        return task

    async def _deliver(self, draft: UnnumberedFrame, items_total: int, frame: bytes) -> None:
        """Raises what the log raises, after telling the requests."""
        started_s = self._clock.monotonic_s()
        try:
            await self._log.append(draft.partition, frame)
        except Exception as error:
            self._metrics.frames_failed.inc()
            if not isinstance(error, KitError):
                _log.exception("append_failed", partition=draft.partition, bytes=len(frame))
            _fail(draft.portions, error)
            raise
        self._metrics.append_s.observe(self._clock.monotonic_s() - started_s)
        self._metrics.frame_items.observe(draft.items)
        if items_total > self._durable_totals[draft.partition]:  # confirms may overtake each other
            self._durable_totals[draft.partition] = items_total
            self._on_durable(draft.partition, items_total)
        for portion in draft.portions:
            portion.confirm()


def _fail(portions: Iterable[PendingRequest], error: Exception) -> None:
    for portion in portions:
        portion.fail(error)


def _mark_seen(task: asyncio.Task[None]) -> None:
    """The requests were told; nobody else waits for the task."""
    if not task.cancelled():
        task.exception()
