"""Periodic maintenance of the tables by every worker: pieces made ahead, the raw index, retention."""

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from kit.clock import format_rfc3339
from kit.errors import KitError
from kit.observability.logs import get_logger
from schemas.frame_rows import WHOLE_FRAMES
from streams.worker.processor import WorkerContext

# Raw rows written since are not in the index, and every query of their week reads them all: at 100,000 readings/s these
# are 1 M rows, 0.1 s of reading.
MAINTAIN_EVERY_S: Final = 10.0
TRIM_EVERY_S: Final = 3_600.0  # between two looks for status intervals, windows and refused items that are too old

_log = get_logger(__name__)


async def maintain_regularly(context: WorkerContext) -> None:
    """Until cancelled. Raw readings past their retention are dropped a week at a time, everything else every hour."""
    loop = asyncio.get_running_loop()
    trimmed_at_s = -TRIM_EVERY_S
    while True:
        now = context.clock.now()
        retention_days = context.retention_days()
        before = now - timedelta(days=retention_days) if retention_days else None
        try:
            maintain = partial(context.store.maintain, context.clock.now_ms(), before)
            await loop.run_in_executor(context.executor, maintain)
            now_s = context.clock.monotonic_s()
            if now_s - trimmed_at_s >= TRIM_EVERY_S:
                await loop.run_in_executor(context.executor, partial(_trim, context, now))
                trimmed_at_s = now_s
        except KitError as error:
            _log.warning("maintenance_failed", error=str(error))
        except Exception:
            _log.exception("maintenance_failed")  # it must never end the worker
        await asyncio.sleep(MAINTAIN_EVERY_S)


def _trim(context: WorkerContext, now: datetime) -> None:
    if days := context.status_retention_days():
        context.store.drop_intervals(now - timedelta(days=days))
    if days := context.quarantine_retention_days():
        # Frames that could not be processed wait for somebody: their readings count nowhere.
        before = now - timedelta(days=days)
        if dropped := context.store.drop_quarantined(before, WHOLE_FRAMES):
            context.metrics.quarantine_dropped.inc(dropped)
            _log.info("quarantine_trimmed", dropped=dropped, received_before=format_rfc3339(before))
    if any((by_width := context.window_retention_days()).values()):
        context.store.drop_windows(now, by_width)
