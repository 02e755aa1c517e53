"""Reports to the live view how many items this gateway has accepted: `accepted` in the ledger of readings, before a
worker has processed the frames."""

import asyncio
from typing import Final

from kit.errors import KitError
from kit.live.view import LiveView
from kit.observability.logs import get_logger

TOPIC: Final = "ledger"
PAUSE_S: Final = 0.1  # between two puts: at most 10/s, however many frames

_log = get_logger(__name__)


class LedgerReporter:
    """Publishes the totals of durable frames, at most 10 times a second: `source/partition` -> `{"items_total": n}`."""

    def __init__(self, live: LiveView, source: str) -> None:
        self._live = live
        self._source = source
        self._totals: dict[int, int] = {}  # not reported yet
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start reporting."""
        self._runner = asyncio.create_task(self._run(), name="ledger-reporter")

    def note(self, partition: int, items_total: int) -> None:
        """Record that a frame which raises the partition's total to `items_total` is durable."""
        if items_total > self._totals.get(partition, 0):
            self._totals[partition] = items_total
            self._changed.set()

    async def close(self) -> None:
        """Report once more and stop."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            await asyncio.wait((runner,))
            await self._report()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._report()
            await asyncio.sleep(PAUSE_S)

    async def _report(self) -> None:
        totals, self._totals = self._totals, {}
        documents = {f"{self._source}/{at}": b'{"items_total":%d}' % total for at, total in totals.items()}
        try:
            if documents:
                await self._live.put(TOPIC, documents)
        except (KitError, asyncio.CancelledError) as error:
            for partition, total in totals.items():
                self.note(partition, total)
            if isinstance(error, asyncio.CancelledError):
                raise
            _log.warning("ledger_not_reported", error=str(error))
