"""The worker of the embedded run: one loop for each partition of the in-process log."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from kit.errors import Unavailable
from kit.log.partitioned_log import InProcessLog
from kit.observability.logs import get_logger
from kit.retry import reconnect_pauses_s
from streams.errors import StreamsError
from streams.worker.maintenance import maintain_regularly
from streams.worker.processor import PartitionProcessor, WorkerContext

RECORDS_MAX: Final = 1_024  # of one read: 200,000 readings, one flush, in frames of 200
IDLE_S: Final = 0.5  # between looks at the clock while nothing arrives: windows and sessions may be due
STOP_S_MAX: Final = 10.0  # for committing what is left in the log; its writers wait no longer either

_log = get_logger(__name__)


class EmbeddedWorker:
    """Works on all partitions of the log, until stopped.

    Every append waits for the commit, so a sender waits at least the worker's `interval_s`: 0 suits best, since what
    arrives during one commit makes the next flush.
    """

    def __init__(self, log: InProcessLog, context: WorkerContext, partitions: int) -> None:
        self._log = log
        self._context = context
        self._partitions = range(partitions)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Work until `stop`. Raises StreamsError where a second process on the same database takes a partition."""
        upkeep = asyncio.create_task(maintain_regularly(self._context))
        self._tasks = [asyncio.create_task(self._work_on(partition)) for partition in self._partitions]
        try:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                if not task.cancelled():
                    task.result()
        finally:
            everything = [upkeep, *self._tasks]
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def stop(self) -> None:
        """Commit what has been appended, or what the database takes within `STOP_S_MAX`; then `run` returns."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=0.0 if self._log.uncommittable else STOP_S_MAX)
        for task in self._tasks:
            task.cancel()

    async def _work_on(self, partition: int) -> None:
        processor = PartitionProcessor(partition, self._context)
        try:
            await _until_it_works(processor.acquire)
            self._log.start(partition, processor.next)
            await processor.publish()
            while not self._stopping or self._log.lag(partition):
                if not processor.full and not await self._collect(processor):
                    break
                if processor.due_in_s() == 0.0:
                    await _until_it_works(processor.flush)
                    self._log.ack(partition, processor.next)
                await processor.publish()
            if processor.has_unwritten_rows:
                await _until_it_works(processor.flush)
        finally:
            await processor.release()

    async def _collect(self, processor: PartitionProcessor) -> bool:
        """Read from the log and offer it, waiting until something else is due. False: the log is closed and empty."""
        due_s = processor.due_in_s()
        moments_s = [IDLE_S, *(s for s in (due_s, processor.publish_in_s()) if s is not None)]
        timeout_s = 0.0 if self._stopping else min(moments_s)
        try:
            records = await self._log.read(processor.partition, RECORDS_MAX, timeout_s)
        except Unavailable:
            if not processor.waiting:
                return False
            await asyncio.sleep(due_s or 0.0)
            return True
        for offset, record in records:
            processor.offer(offset, record)
        return True


async def _until_it_works(work: Callable[[], Awaitable[object]]) -> None:
    """Try until `work` succeeds. The records stay in the log meanwhile, whose bound stops their senders."""
    for pause_s in reconnect_pauses_s():
        try:
            await work()
            return
        except StreamsError:
            raise
        except Unavailable as error:
            _log.warning("store_unavailable", error=str(error), pause_s=pause_s)
        except Exception:
            _log.exception("worker_fault", pause_s=pause_s)
        await asyncio.sleep(pause_s)
