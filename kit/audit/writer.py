"""Writes entries of requests to the database in batches, beside the requests: none waits for it.

The queue is bounded: while the database is away for long, entries are lost; how many is counted, logged, and recorded
as an entry of its own once it is back. Changes themselves have their entry in their own transaction (recording.py).
"""

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from prometheus_client import CollectorRegistry

from kit.audit.entry import LOST, RECORD_SQL, Actor, Entry, encoded, entry_of
from kit.audit.requests import RequestAudit
from kit.audit.telemetry_counts import Counted
from kit.clock import Clock, from_ms
from kit.database.postgres import Database
from kit.errors import Unavailable
from kit.observability.logs import get_logger
from kit.observability.loop_metrics import LoopCounter
from kit.retry import reconnect_pauses_s

QUEUED_MAX: Final = 10_000  # entries of ~500 B: 5 MB, or a minute of 160 changes a second
BATCH_MAX: Final = 500  # a statement of ~250 kB
MINUTES_MAX: Final = 60  # of counts that wait: ~1 MB each at most
CLOSE_S_MAX: Final = 5.0  # for what is left when the process ends
_MINUTE_S: Final = 60.0
_COUNT_SQL: Final = "SELECT audit.count_telemetry($1, $2, $3, $4, $5)"
_SYSTEM: Final = Actor("system")
_log = get_logger(__name__)


class AuditWriter:
    """One a process; used from one event loop. `requests` is what the HTTP side tells of each request."""

    def __init__(self, database: Database, clock: Clock, registry: CollectorRegistry) -> None:
        """`database`: in a role that may call audit.record and audit.count_telemetry."""
        self._database = database
        self._clock = clock
        self._source = secrets.token_hex(8)
        self._queue: deque[Entry] = deque()
        self._minutes: deque[tuple[datetime, Counted]] = deque(maxlen=MINUTES_MAX)
        self._minute = self._this_minute()
        self._lost = 0  # not recorded yet
        self._wake = asyncio.Event()
        self.requests = RequestAudit(clock, self.put)
        self._written = LoopCounter("audit_entries_written", "Entries of requests written", registry=registry)
        self._lost_total = LoopCounter(
            "audit_entries_lost", "Entries of requests that no room was left for, or the database refused",
            registry=registry,
        )  # fmt: skip

    def put(self, entry: Entry) -> None:
        """Queue an entry; it is lost where too many wait."""
        if len(self._queue) >= QUEUED_MAX:
            self._lose(1)
            return
        self._queue.append(entry)
        self._wake.set()

    async def run(self) -> None:
        """Write what comes, until it is cancelled."""
        pauses_s = reconnect_pauses_s()
        while True:
            now_s = self._clock.now_ms() / 1_000
            left_s = (math.floor(now_s / _MINUTE_S) + 1) * _MINUTE_S - now_s
            try:
                async with asyncio.timeout(max(left_s, 0.001)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            if self._this_minute() != self._minute:
                self.close_minute()
            try:
                await self.flush()
                pauses_s = reconnect_pauses_s()
            except Unavailable as error:
                _log.warning("audit_waits", error=str(error), entries=len(self._queue))
                await asyncio.sleep(next(pauses_s))

    def close_minute(self) -> None:
        """Queue what was counted in the minute that ends."""
        minute, self._minute = self._minute, self._this_minute()
        self.requests.close_minute()
        counted = self.requests.telemetry.take()
        if counted.requests or counted.others:
            total = sum(counted.requests.values()) + counted.others
            _log.info("telemetry_counted", minute=minute.isoformat(), tokens=len(counted.requests), requests=total)
            if len(self._minutes) == MINUTES_MAX:
                self._lose(1)
            self._minutes.append((minute, counted))
        self._wake.set()

    async def flush(self) -> None:
        """Write all that is queued. Raises Unavailable; what is not written stays queued."""
        while self._queue or self._minutes or self._lost:
            if self._lost:
                lost = self._lost
                await self._write([entry_of(_SYSTEM, at=None, action=LOST, correlation_id="", requests=lost)])
                self._lost -= lost
            batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            try:
                await self._write(batch)
            except Unavailable:
                self._queue.extendleft(reversed(batch))
                raise
            if self._minutes:
                await self._write_minute(*self._minutes[0])
                self._minutes.popleft()
        self._wake.clear()

    async def close(self) -> None:
        """Write what is left, for CLOSE_S_MAX at most."""
        self.close_minute()
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await self.flush()
        except (Unavailable, TimeoutError) as error:
            _log.error("audit_entries_left", entries=len(self._queue), lost=self._lost, error=str(error))

    async def _write(self, batch: Sequence[Entry]) -> None:
        if not batch:
            return
        try:
            await self._database.execute(RECORD_SQL, encoded(list(batch)))
            self._written.inc(len(batch))
        except Unavailable:
            raise
        except Exception:  # of ours, in one of them: without its end the same batch would fail for ever
            if len(batch) > 1:
                for entry in batch:
                    await self._write([entry])
                return
            _log.exception("audit_entry_refused", action=batch[0].action)
            self._lost_total.inc()

    async def _write_minute(self, minute: datetime, counted: Counted) -> None:
        token_ids: list[UUID] = list(counted.requests)
        try:
            await self._database.execute(
                _COUNT_SQL, minute, self._source, token_ids, list(counted.requests.values()), counted.others
            )
        except Unavailable:
            raise
        except Exception:
            _log.exception("audit_counts_refused", tokens=len(token_ids))
            self._lost_total.inc()

    def _lose(self, entries: int) -> None:
        self._lost += entries
        self._lost_total.inc(entries)
        if self._lost == entries:
            _log.error("audit_entries_lost", queued=len(self._queue))

    def _this_minute(self) -> datetime:
        minute_ms = round(_MINUTE_S * 1_000)
        return from_ms(self._clock.now_ms() // minute_ms * minute_ms)
