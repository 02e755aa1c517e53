"""The partitioned log of opaque records: the interface of its writer, and the log in memory.

Records are durable when `append` returns, and are read in order, at least once. Two implementations pass one contract
suite: in memory here (durable when the reader has acknowledged, which it does after its commit), and RabbitMQ queues
bridged to Kafka (durable when the broker has confirmed).
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from kit.errors import Overloaded, Unavailable
from kit.futures import done_within, mark_seen

RECORDS_MAX: Final = 4_096  # unconfirmed, in all partitions: 4 s of 1,000 frames/s, longer than a database failover
BYTES_MAX: Final = 256 << 20  # 256 MiB: 2,600 frames of 100 kB; what a process may buffer while a broker is down


class LogWriter(Protocol):
    """The producer's side of the log."""

    async def append(self, partition: int, record: bytes) -> None:
        """Return once the record is durable. Records of one partition keep the order in which append was called.

        Raises Overloaded where too many records are unconfirmed, at once and without taking this one.
        Raises Unavailable where it is not durable in time; it may still become so (once or more).
        """

    async def close(self) -> None:
        """Wait for appends under way, then release everything."""


@dataclass(slots=True)
class UnconfirmedLimit:
    """Limits the records and bytes that are unconfirmed at once."""

    records_max: int = RECORDS_MAX
    bytes_max: int = BYTES_MAX
    records: int = 0
    bytes: int = 0

    def take(self, size: int) -> None:
        """Count a record of `size` bytes. Raises Overloaded, counting nothing, where it does not fit."""
        if self.records >= self.records_max or self.bytes + size > self.bytes_max:
            raise Overloaded(
                f"{self.records} records ({self.bytes} bytes) wait to become durable: the limit is reached"
            )
        self.records += 1
        self.bytes += size

    def release(self, size: int) -> None:
        """A record of `size` bytes is confirmed."""
        self.records -= 1
        self.bytes -= size


@dataclass(slots=True)
class _Entry:
    record: bytes
    durable: asyncio.Future[None]


@dataclass(slots=True)
class _Partition:
    """Records not acknowledged yet: `entries[0]` has offset `first`, the reader gets offset `first + unread` next."""

    first: int = 0
    started: bool = False
    unread: int = 0  # index into entries
    entries: deque[_Entry] = field(default_factory=deque)
    readable: asyncio.Event = field(default_factory=asyncio.Event)


class InProcessLog:
    """LogWriter and its reading side in one process: an append returns when the reader acknowledges.

    One reader per partition. Records are in memory only: the callers of unacknowledged appends still wait, so a crash
    loses no record whose append has returned.
    """

    def __init__(self, *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX, timeout_s: float = 10.0) -> None:
        """`timeout_s`: how long an append may wait for the reader before its caller gets Unavailable."""
        self._unconfirmed = UnconfirmedLimit(records_max, bytes_max)
        self._timeout_s = timeout_s
        self._partitions: dict[int, _Partition] = {}
        self._closed = self._abandoned = False

    async def append(self, partition: int, record: bytes) -> None:
        """See LogWriter. After a time-out the record stays and still reaches the reader: no gap in the offsets."""
        if self._closed:
            raise Unavailable("the log is closed")
        self._unconfirmed.take(len(record))
        log = self._partition(partition)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        durable.add_done_callback(mark_seen)
        log.entries.append(_Entry(record, durable))
        log.readable.set()
        if not await done_within(durable, self._timeout_s):
            raise Unavailable(f"partition {partition}: not durable within {self._timeout_s} s")
        durable.result()

    def start(self, partition: int, next_offset: int) -> None:
        """Set the reader's position to `next_offset`, its first uncommitted one; also after a restart of the reader.

        Records read before that lie below count as acknowledged (the answer to their commit was lost), the others are
        read again. Raises ValueError where acknowledged records would have to be read again: the store lost a commit.
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
        """The next records with their offsets, at least one; empty where none comes within `timeout_s`.

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
        """Acknowledge all records below `next_offset`, which are committed: their appends return. Idempotent."""
        log = self._partition(partition)
        if next_offset > log.first + log.unread:
            raise ValueError(
                f"partition {partition}: {next_offset} acknowledged, {log.first + log.unread} not read yet"
            )
        while log.first < next_offset:
            entry = log.entries.popleft()
            log.first += 1
            log.unread -= 1
            self._unconfirmed.release(len(entry.record))
            if not entry.durable.done():
                entry.durable.set_result(None)

    def rewind(self, partition: int) -> None:
        """Reset the reader's position to the oldest unacknowledged record."""
        log = self._partition(partition)
        log.unread = 0
        if log.entries:
            log.readable.set()

    def fail(self, partition: int, error: Exception) -> None:
        """Raise Unavailable in the waiting appends. Their records stay and are still read."""
        for entry in self._partition(partition).entries:
            if not entry.durable.done():
                entry.durable.set_exception(Unavailable(f"partition {partition}: {error}"))

    def lag(self, partition: int) -> int:
        """Number of unacknowledged records."""
        return len(self._partition(partition).entries)

    def abandon(self, error: Exception) -> None:
        """Take no more and fail every waiting append at once: its reader will commit nothing any more."""
        self._closed = self._abandoned = True
        for partition, log in self._partitions.items():
            self.fail(partition, error)
            log.readable.set()

    @property
    def uncommittable(self) -> bool:
        """Whether waiting for commits is useless: the log was abandoned, or closed with records left."""
        return self._abandoned or (self._closed and any(log.entries for log in self._partitions.values()))

    async def close(self) -> None:
        """Take no more records, give the readers the append time-out to acknowledge the rest, then fail them."""
        self._closed = True
        waiting = [entry.durable for log in self._partitions.values() for entry in log.entries]
        if waiting:
            await asyncio.wait(waiting, timeout=self._timeout_s)
        for partition, log in self._partitions.items():
            self.fail(partition, Unavailable("the log was closed before this was durable"))
            log.readable.set()

    def _partition(self, partition: int) -> _Partition:
        return self._partitions.setdefault(partition, _Partition())
