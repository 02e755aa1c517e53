"""Writes entries of requests to the database in batches, beside the requests: none waits for it.

The queue is bounded: while the database is away for long, entries are lost; how many is counted, logged, and recorded
as an entry of its own once it is back. A batch has a number and is sent until the database has it, once: after a
connection that was lost, a time-out or the end of the task nobody knows whether it was written. Only entries whose data
the database refuses are left out. Changes themselves have their entry in their own transaction (recording.py).
"""

import asyncio
import secrets
from collections import deque
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from prometheus_client import CollectorRegistry

from kit.audit.entry import LOST, Entry, encoded, entry_of
from kit.audit.recording import SYSTEM
from kit.audit.requests import RequestAudit
from kit.audit.telemetry_counts import Counted
from kit.clock import Clock
from kit.database.postgres import Database, is_about_data
from kit.errors import Unavailable
from kit.instants import floor_to
from kit.observability.logs import get_logger
from kit.observability.loop_metrics import LoopCounter
from kit.retry import reconnect_pauses_s

QUEUED_MAX: Final = 10_000  # entries of ~500 B: 5 MB, or a minute of 160 changes a second
BATCH_MAX: Final = 500  # a statement of ~250 kB
MINUTES_MAX: Final = 60  # of counts that wait: ~1 MB each at most
CLOSE_S_MAX: Final = 5.0  # for what is left when the process ends
_MINUTE: Final = timedelta(minutes=1)
_RECORD_SQL: Final = "SELECT audit.record_batch($1, $2, $3::jsonb)"
_COUNT_SQL: Final = "SELECT audit.count_telemetry($1, $2, $3, $4, $5)"
_log = get_logger(__name__)


class _Minute(NamedTuple):
    """Requests with readings of a minute, and under which source they are counted."""

    at: datetime
    source: str
    counted: Counted


class AuditWriter:
    """One a process; used from one event loop. `requests` is what the HTTP side tells of each request."""

    def __init__(self, database: Database, clock: Clock, registry: CollectorRegistry) -> None:
        """`database`: in a role that may call audit.record_batch and audit.count_telemetry."""
        self._database = database
        self._clock = clock
        self._source = secrets.token_hex(8)
        self._queue: deque[Entry] = deque()
        self._batch: list[Entry] = []  # sent, and not known to be written
        self._number = 0  # of that batch
        self._singly = 0  # entries at the head of the queue of which one is refused
        self._minutes: deque[_Minute] = deque(maxlen=MINUTES_MAX)
        self._minute = self._this_minute()
        self._minute_source = self._source
        self._lost = 0  # not recorded yet
        self._wake = asyncio.Event()
        self.requests = RequestAudit(clock, self.put)
        self._written = LoopCounter("audit_entries_written", "Entries of requests written", registry=registry)
        self._lost_total = LoopCounter(
            "audit_entries_lost",
            "Entries of requests that no room was left for, that the database refused, or that were left at the end",
            registry=registry,
        )

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
            now = self._clock.now()
            left_s = (floor_to(now, _MINUTE) + _MINUTE - now).total_seconds()
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
            except Exception as error:  # whatever it is: what waits is written once it is over
                unforeseen = None if isinstance(error, Unavailable) else error
                _log.warning("audit_waits", error=str(error), entries=self._waiting, exc_info=unforeseen)
                await asyncio.sleep(next(pauses_s))

    def close_minute(self) -> None:
        """Queue what was counted in the minute that ends."""
        minute, self._minute = self._minute, self._this_minute()
        source = self._minute_source
        if self._minute <= minute:  # the clock stepped back: a minute that comes again is counted beside the first
            self._minute_source = secrets.token_hex(8)
        self.requests.close_minute()
        counted = self.requests.telemetry.take()
        if counted.requests or counted.others:
            total = sum(counted.requests.values()) + counted.others
            _log.info("telemetry_counted", minute=minute.isoformat(), tokens=len(counted.requests), requests=total)
            if len(self._minutes) == MINUTES_MAX:
                self._lose(1)
            self._minutes.append(_Minute(minute, source, counted))
        self._wake.set()

    async def flush(self) -> None:
        """Write all that is queued. What is not written when it raises, or is cancelled, is written by the next call.
        Raises Unavailable, or what else the database says that is not about the data."""
        while self._waiting or self._minutes or self._lost:
            if not self._batch:
                self._take_batch()
            if self._batch:
                await self._write_batch()
            if self._minutes:
                minute = self._minutes[0]
                await self._write_minute(minute)
                if self._minutes and self._minutes[0] is minute:  # else it had to make room meanwhile
                    self._minutes.popleft()
        self._wake.clear()

    async def close(self) -> None:
        """Write what is left, for CLOSE_S_MAX at most."""
        self.close_minute()
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await self.flush()
        except Exception as error:  # the process ends, whatever it is
            self._lost_total.inc(self._waiting + len(self._minutes))
            _log.error("audit_entries_left", entries=self._waiting, lost=self._lost, error=str(error))

    @property
    def _waiting(self) -> int:
        """Entries that are not written yet."""
        return len(self._queue) + len(self._batch)

    def _take_batch(self) -> None:
        size = 1 if self._singly else BATCH_MAX
        self._batch = [self._queue.popleft() for _ in range(min(size, len(self._queue)))]
        if self._lost and not self._singly:
            self._batch.append(entry_of(SYSTEM, at=None, action=LOST, correlation_id="", requests=self._lost))
            self._lost = 0
        self._number += 1

    async def _write_batch(self) -> None:
        batch = self._batch
        try:
            await self._database.execute(_RECORD_SQL, self._source, self._number, encoded(batch))
        except Exception as error:
            if not is_about_data(error):
                raise
            self._batch = []
            if len(batch) > 1:  # one of them takes no other with it
                self._queue.extendleft(reversed(batch))
                self._singly = len(batch)
                return
            _log.exception("audit_entry_refused", action=batch[0].action)
            self._lost_total.inc()
        else:
            self._batch = []
            self._written.inc(len(batch))
        self._singly = max(self._singly - 1, 0)

    async def _write_minute(self, minute: _Minute) -> None:
        requests = minute.counted.requests
        token_ids: list[UUID] = list(requests)
        try:
            await self._database.execute(
                _COUNT_SQL, minute.at, minute.source, token_ids, list(requests.values()), minute.counted.others
            )
        except Exception as error:
            if not is_about_data(error):
                raise
            _log.exception("audit_counts_refused", tokens=len(token_ids))
            self._lost_total.inc()

    def _lose(self, entries: int) -> None:
        self._lost += entries
        self._lost_total.inc(entries)
        if self._lost == entries:
            _log.error("audit_entries_lost", queued=len(self._queue))

    def _this_minute(self) -> datetime:
        return floor_to(self._clock.now(), _MINUTE)
