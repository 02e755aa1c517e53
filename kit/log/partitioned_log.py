"""The partitioned log of opaque records: what is appended is durable, and is read in order, once or more.

Seam with two implementations: in-process here (durable when the reader has acknowledged, which it does after its
commit), and RabbitMQ queues bridged to Kafka (durable when the broker has confirmed). Both pass one contract suite.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from kit.errors import Overloaded, Unavailable

RECORDS_MAX: Final = (
    4_096  # unconfirmed, all partitions together: 4 s of 1,000 frames/s, longer than a database failover
)
BYTES_MAX: Final = 256 << 20  # 256 MiB: 2,600 frames of 100 kB; what a process may spend on waiting for a dead broker


class LogWriter(Protocol):
    """The writing side."""

    async def append(self, partition: int, record: bytes) -> None:
        """Return once the record is durable. Records of one partition keep the order in which append was called.

        Raises Overloaded at the bound of unconfirmed records, at once and without having taken the record.
        Raises Unavailable when durability could not be had in time; the record may still arrive (once or more).
        """

    async def close(self) -> None:
        """Wait for what is under way, then release everything."""


@dataclass(slots=True)
class Budget:
    """How many records and bytes may be unconfirmed at once."""

    records_max: int = RECORDS_MAX
    bytes_max: int = BYTES_MAX
    records: int = 0
    bytes: int = 0

    def take(self, size: int) -> None:
        """Raises Overloaded, taking nothing, where one record of `size` bytes more does not fit."""
        if self.records >= self.records_max or self.bytes + size > self.bytes_max:
            raise Overloaded(
                f"{self.records} records ({self.bytes} bytes) wait to become durable: the bound is reached"
            )
        self.records += 1
        self.bytes += size

    def give_back(self, size: int) -> None:
        """One record of `size` bytes needs no more room."""
        self.records -= 1
        self.bytes -= size


@dataclass(slots=True)
class _Entry:
    record: bytes
    durable: asyncio.Future[None]


@dataclass(slots=True)
class _Partition:
    """What is not acknowledged yet: `entries[0]` has offset `first`, the reader gets `first + unread` next."""

    first: int = 0
    started: bool = False
    unread: int = 0  # index into entries
    entries: deque[_Entry] = field(default_factory=deque)
    readable: asyncio.Event = field(default_factory=asyncio.Event)


class InProcessLog:
    """LogWriter and its reading side in one process: an append resolves when the reader acknowledges.

    One reader a partition. Records live in memory only: the writer still holds what is not acknowledged (its callers
    wait), so a crash loses nothing that anybody was told is durable.
    """

    def __init__(self, *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX, timeout_s: float = 10.0) -> None:
        """`timeout_s`: how long an append may wait for the reader before its caller gets Unavailable."""
        self._budget = Budget(records_max, bytes_max)
        self._timeout_s = timeout_s
        self._partitions: dict[int, _Partition] = {}
        self._closed = self._abandoned = False

    async def append(self, partition: int, record: bytes) -> None:
        """See LogWriter. After a time-out the record stays and still reaches the reader: no hole in the numbers."""
        if self._closed:
            raise Unavailable("the log is closed")
        self._budget.take(len(record))
        log = self._partition(partition)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        durable.add_done_callback(_mark_seen)
        log.entries.append(_Entry(record, durable))
        log.readable.set()
        await asyncio.wait((durable,), timeout=self._timeout_s)
        if not durable.done():
            raise Unavailable(f"partition {partition}: not durable within {self._timeout_s} s")
        durable.result()

    def start(self, partition: int, next_offset: int) -> None:
        """The reader begins (again) at `next_offset`, the first one that it has not committed.

        What was read before and lies below counts as acknowledged (a commit whose answer was lost), the rest is read
        again.
        Raises ValueError where acknowledged records would have to come back: the store has forgotten a commit.
        """
        log = self._partition(partition)
        if not log.started:
            log.first, log.started = next_offset, True
        elif next_offset < log.first:
            raise ValueError(f"partition {partition}: offset {next_offset} asked for, {log.first - 1} was acknowledged")
        else:
            self.ack(partition, next_offset)
        self.rewind(partition)

    async def read(self, partition: int, records_max: int, timeout_s: float) -> list[tuple[int, bytes]]:
        """The next records with their offsets, at least one; empty after `timeout_s` without any.

        Raises Unavailable once the log is closed.
        """
        log = self._partition(partition)
        if not log.started:
            raise ValueError(f"partition {partition} has no start offset yet")
        if log.unread == len(log.entries) and not self._closed:
            log.readable.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await log.readable.wait()
            except TimeoutError:
                return []
        if self._closed and log.unread == len(log.entries):
            raise Unavailable("the log is closed")
        start = log.unread
        batch = [
            (log.first + index, entry.record)
            for index, entry in enumerate(islice(log.entries, start, start + records_max), start)
        ]
        log.unread = start + len(batch)
        return batch

    def ack(self, partition: int, next_offset: int) -> None:
        """Every record below `next_offset` is committed: their appends return. Acknowledging twice changes nothing."""
        log = self._partition(partition)
        if next_offset > log.first + log.unread:
            raise ValueError(
                f"partition {partition}: {next_offset} acknowledged, {log.first + log.unread} not read yet"
            )
        while log.first < next_offset:
            entry = log.entries.popleft()
            log.first += 1
            log.unread -= 1
            self._budget.give_back(len(entry.record))
            if not entry.durable.done():
                entry.durable.set_result(None)

    def rewind(self, partition: int) -> None:
        """What is not acknowledged is read again, from the oldest on."""
        log = self._partition(partition)
        log.unread = 0
        if log.entries:
            log.readable.set()

    def fail(self, partition: int, error: Exception) -> None:
        """Tell the waiting callers that durability cannot be had now. Their records stay and are still handed on."""
        for entry in self._partition(partition).entries:
            if not entry.durable.done():
                entry.durable.set_exception(Unavailable(f"partition {partition}: {error}"))

    def lag(self, partition: int) -> int:
        """How many records are not acknowledged."""
        return len(self._partition(partition).entries)

    def abandon(self, error: Exception) -> None:
        """Take no more and fail every waiting append at once: its reader will commit nothing any more."""
        self._closed = self._abandoned = True
        for partition, log in self._partitions.items():
            self.fail(partition, error)
            log.readable.set()

    @property
    def uncommittable(self) -> bool:
        """Whether it is in vain to wait for commits: it was abandoned, or closed, and what it holds had its time."""
        return self._abandoned or (self._closed and any(log.entries for log in self._partitions.values()))

    async def close(self) -> None:
        """Take no more, give the readers the append time-out to acknowledge what is there, then fail the rest."""
        self._closed = True
        waiting = [entry.durable for log in self._partitions.values() for entry in log.entries]
        if waiting:
            await asyncio.wait(waiting, timeout=self._timeout_s)
        for partition, log in self._partitions.items():
            self.fail(partition, Unavailable("the log was closed before this was durable"))
            log.readable.set()

    def _partition(self, partition: int) -> _Partition:
        return self._partitions.setdefault(partition, _Partition())


def _mark_seen(future: asyncio.Future[None]) -> None:
    """Whoever gave up waiting has been told already: an exception that comes later is not news."""
    if not future.cancelled():
        future.exception()
