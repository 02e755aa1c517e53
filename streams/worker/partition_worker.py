"""One assigned partition of the distributed run: its processor, and the Faust events whose frames the processor has."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import faust
from faust.types import TP

from kit.errors import KitError
from kit.observability.logs import get_logger
from kit.retry import reconnect_pauses_s
from streams.errors import Gap, LogReplaced, StreamsError
from streams.worker.processor import PartitionProcessor, WorkerContext

IDLE_S: Final = 0.5  # between looks at the clock while nothing arrives: windows and sessions may be due
REREAD_S: Final = 5.0  # a seek that has brought nothing after this long was lost: seek again

_log = get_logger(__name__)
Event = Any  # faust.types.EventT of bytes; Faust's stubs know no raw values


class PartitionWorker:
    """Collects the frames of one partition, flushes them, and acknowledges their events in order."""

    def __init__(self, tp: TP, context: WorkerContext, app: faust.App, failed: "asyncio.Future[None]") -> None:
        """Begins to work at once. `failed` gets the error that this partition cannot recover from."""
        self._tp = tp
        self._context = context
        self._app = app
        self._failed = failed
        self._processor = PartitionProcessor(tp.partition, context)
        self._events: deque[tuple[Any, Event]] = deque()  # with the stream that wants the ack
        self._acquired = asyncio.Event()
        self._offered = asyncio.Event()
        self._flushed = asyncio.Event()
        self._gap: Gap | None = None  # the log is to be read again, and the missing offset has not arrived yet
        self._reread_at_s = -float("inf")
        self._read_at_s = context.clock.monotonic_s()  # when the last record came
        self._closed = False
        context.audience.call_when_it_begins(self._offered.set)
        self._task = asyncio.create_task(self._guarded(), name=f"partition {tp.partition}")

    async def take(self, stream: Any, event: Event) -> None:
        """Offer the event's frame to the processor; wait while that is full."""
        await self._acquired.wait()
        while self._processor.full and not self._closed:
            self._flushed.clear()
            await self._flushed.wait()
        if self._closed:
            return
        self._read_at_s = self._context.clock.monotonic_s()
        offset = event.message.offset
        if offset < self._processor.next:
            await stream.ack(event)  # committed before; Kafka's own offset only lags
            return
        try:
            offered = self._processor.offer(offset, event.message.value or b"")
        except Gap as gap:
            self._gap = gap
            await self._reread(gap)
            return
        if offered:
            self._gap, self._reread_at_s = None, -float("inf")
            self._events.append((stream, event))
            self._offered.set()

    async def close(self) -> None:
        """Release the partition: a flush under way ends, everything else is dropped and read by the next owner."""
        self._closed = True
        self._context.audience.forget(self._offered.set)
        for waited_for in (self._acquired, self._flushed):
            waited_for.set()
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._processor.release()
        self._events.clear()

    async def _guarded(self) -> None:
        try:
            await self._run()
        except Exception as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _run(self) -> None:
        await self._until_it_works(self._processor.acquire)
        self._acquired.set()
        await self._processor.publish()
        while not self._closed:  # it is cancelled too, which a library may lose
            self._offered.clear()
            due_s = self._processor.due_in_s(ticks=self._caught_up())
            if (gap := self._gap or self._passed_over()) is not None:
                await self._reread(gap)
            if due_s == 0.0:
                await self._until_it_works(self._processor.flush)
                await self._acknowledge()
                self._flushed.set()
            if due_s == 0.0 or self._processor.publish_in_s() == 0.0:
                await self._processor.publish()
                continue
            moments_s = [IDLE_S, *(s for s in (due_s, self._processor.publish_in_s()) if s is not None)]
            with suppress(TimeoutError):
                async with asyncio.timeout(min(moments_s)):
                    await self._offered.wait()

    async def _until_it_works(self, work: Callable[[], Awaitable[object]]) -> None:
        for pause_s in reconnect_pauses_s():
            try:
                await work()
                return
            except StreamsError:
                raise  # Fenced: only the group can say whose the partition is, so join it again
            except KitError as error:
                _log.warning("store_unavailable", partition=self._tp.partition, error=str(error), pause_s=pause_s)
            except Exception:
                _log.exception("worker_fault", partition=self._tp.partition, pause_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _acknowledge(self) -> None:
        while self._events and self._events[0][1].message.offset < self._processor.next:
            stream, event = self._events.popleft()
            await stream.ack(event)

    def _caught_up(self) -> bool:
        """Whether every record of the log has been read. Raises LogReplaced."""
        end = self._log_end()
        if end is None:
            return False
        self._context.metrics.log_end_offset.labels(str(self._tp.partition)).set(end)
        if end < self._processor.next:
            raise LogReplaced(
                f"partition {self._tp.partition}: the topic ends at offset {end}, the store has committed up to "
                f"{self._processor.next}. The topic was created again, or the database belongs to another one"
            )
        return end <= self._processor.expected

    def _passed_over(self) -> Gap | None:
        """The records that nobody reads: the group's offset is beyond the store's, as after a restore of the database,
        and no further record arrives to show it."""
        quiet_s = self._context.clock.monotonic_s() - self._read_at_s
        end = self._log_end()
        if end is None or end <= self._processor.expected or self._processor.waiting or quiet_s < REREAD_S:
            return None
        return Gap(self._tp.partition, self._processor.expected, end)

    def _log_end(self) -> int | None:
        """The end offset that the last fetch returned; None before the first."""
        try:
            end: int | None = self._app.consumer.highwater(self._tp)
        except Exception:  # aiokafka: not assigned (any more); the rebalance's signal follows
            return None
        return end

    async def _reread(self, gap: Gap) -> None:
        """Seek to the offset that the store wants next, unless that was done a moment ago."""
        now_s = self._context.clock.monotonic_s()
        if now_s - self._reread_at_s < REREAD_S:
            return
        self._reread_at_s = now_s
        earliest = (await self._app.consumer.earliest_offsets(self._tp)).get(self._tp, 0)
        if self._closed:
            return
        if earliest > self._processor.expected and not self._processor.waiting:
            self._processor.skip_to(earliest)  # deleted before it was read: logged as an error, and counted
        wanted = self._processor.expected
        _log.warning("offset_gap", partition=self._tp.partition, wanted=wanted, got=gap.got, earliest=earliest)
        await self._app.consumer.seek(self._tp, wanted)
