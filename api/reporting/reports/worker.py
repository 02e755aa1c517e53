"""Makes the reports that wait, one after the other, and deletes old ones: the jobs."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

from api.reporting.errors import TooMany
from api.reporting.reports.computing import ReportComputation
from api.reporting.reports.content import ReportContent
from api.reporting.reports.events import report_generated
from api.reporting.reports.store import ReportStore, StoredReport, finish
from api.reporting.schema import SCHEMA
from api.reporting.tables import stored_shape
from kit.clock import Clock
from kit.errors import Unavailable
from kit.messaging.outbox import insert_async
from kit.observability.logs import get_logger

COMPUTE_S_MAX: Final = 1_800.0  # 10,000 stations with 14 months of statuses: 400 batches of 2.7 s, and room
LEASE: Final = timedelta(seconds=2 * COMPUTE_S_MAX)  # of a process that crashed; longer than an attempt can take
ATTEMPTS_MAX: Final = 5  # of a report that ends its process each time, or whose process is ended each time
_DELETED_AT_ONCE: Final = 100

_log = get_logger(__name__)


class ReportWorker:
    """The jobs of reports. Several processes may run them: each report is claimed by one."""

    def __init__(
        self,
        store: ReportStore,
        content: ReportContent,
        computation: ReportComputation,
        clock: Clock,
        keep: Callable[[], timedelta],
    ) -> None:
        """`keep`: how long a report is kept after it was made."""
        self._store = store
        self._content = content
        self._computation = computation
        self._clock = clock
        self._keep = keep
        self._making: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """The job: make those that wait, beside the service's other jobs, which a report must not hold up."""
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make_beside(), name="reports")

    async def close(self) -> None:
        """Give back the report that is being made."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait((self._making,))

    async def make_waiting(self) -> None:
        """Make those that are queued, and those whose process died, one after the other. Raises Unavailable."""
        while (report := await self._store.claim(self._clock.now(), LEASE)) is not None:
            await self._make(report)

    async def delete_old(self) -> None:
        """Delete what is older than is kept. Raises Unavailable."""
        moment = self._clock.now() - self._keep()
        while old := await self._store.finished_before(moment, _DELETED_AT_ONCE):
            for report_id in old:
                await self._content.delete(report_id)
            await self._store.delete(old)

    async def _make_beside(self) -> None:
        try:
            await self.make_waiting()
        except Unavailable as error:
            _log.warning("reports_postponed", error=str(error))
        except Exception:  # nobody waits for this task
            _log.exception("reports_postponed")

    async def _make(self, report: StoredReport) -> None:
        if report.lost >= ATTEMPTS_MAX:
            await self._store.fail(report, f"gave up after {ATTEMPTS_MAX} attempts", self._clock.now())
            return
        try:
            async with asyncio.timeout(COMPUTE_S_MAX):
                await self._compute(report)
        except TooMany as error:
            await self._store.fail(report, str(error), self._clock.now())
        except TimeoutError:
            reason = f"it took more than {COMPUTE_S_MAX:.0f} s: ask for less time, or for some of the stations"
            await self._store.fail(report, reason, self._clock.now())
        except (Unavailable, asyncio.CancelledError):
            with suppress(Unavailable):
                await self._store.queue_again(report)
            raise
        except Exception as error:  # a report that cannot be made must not keep others from being made
            _log.exception("report_failed", report_id=str(report.id), kind=report.kind)
            await self._store.fail(report, f"an error of voltstream's own: {type(error).__name__}", self._clock.now())

    async def _compute(self, report: StoredReport) -> None:
        """Content first, then the row and the event in one transaction: what is done can be read."""
        computed_at = self._clock.now()
        tables = await self._computation.tables(report)
        await self._content.delete_before(report.id, report.attempts)
        await self._content.put(report.id, report.attempts, tables)
        shapes = [stored_shape(table) for table in tables]
        async with self._store.database.transaction() as connection:
            if await finish(connection, report, shapes, computed_at, self._clock.now()):
                await insert_async(connection, SCHEMA, [report_generated(report, shapes, computed_at)])
        _log.info("report_done", report_id=str(report.id), kind=report.kind, rows=sum(one["rows"] for one in shapes))
