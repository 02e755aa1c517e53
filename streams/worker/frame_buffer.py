"""The frames of a partition that are read and not committed, and which of them the next flush takes.

A record of the log has one frame, or several small ones. A flush may end inside a record, where a frame that it fails
on is searched for: what it commits then is where the record begins, and the frames of it that are committed are known
by their numbers if the record is read again.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Final

from kit.clock import Clock
from schemas.frame import FrameError, FrameHeader, decode_header, split_frames
from streams.errors import Gap

# Flushes that are collected in addition to the one under way. Kafka's events come one after the other for all
# partitions, so that a full buffer of one blocks the others: with one flush ahead a sixth of the time was lost to that.
AHEAD: Final = 3
WAITING_BYTES_MAX: Final = 64 << 20  # of these; 300,000 readings are ~24 MB, and a process has 4 partitions


@dataclass(slots=True, eq=False)
class BufferedFrame:
    """A frame as it arrived."""

    offset: int  # of its record
    next: int  # the first offset that is not committed when it is: behind its record, if it is the last of that
    frame: bytes
    header: FrameHeader | None  # None: unreadable
    since_s: float

    @property
    def readings(self) -> int:
        """As the header says, which may be wrong."""
        return self.header.items if self.header else 1


class FrameBuffer:
    """Frames in the order of their offsets, without a hole. Also finds the frame that a flush fails on, by halves."""

    def __init__(self, partition: int, clock: Clock, readings_max: int) -> None:
        self._partition = partition
        self._clock = clock
        self._readings_max = readings_max
        self._frames: deque[BufferedFrame] = deque()
        self._readings = self._bytes = 0
        self._readings_taken = self._bytes_taken = 0  # of them, by the flush under way
        self._resume = 0  # the next offset while nothing waits
        self._frames_max: int | None = None  # while a bad frame is searched for
        self._searched = 0  # the oldest frames: one of them is bad
        self._suspect: BufferedFrame | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[BufferedFrame]:
        return iter(self._frames)

    @property
    def readings(self) -> int:
        """Of the frames that wait."""
        return self._readings

    @property
    def expected(self) -> int:
        """The offset that is to be offered next."""
        return self._frames[-1].offset + 1 if self._frames else self._resume

    @property
    def plenty(self) -> bool:
        """A whole flush is collected, in addition to the one under way."""
        return self._collected(self._readings_max)

    @property
    def full(self) -> bool:
        """No more may be collected; offer more when a flush has ended."""
        return self._collected(AHEAD * self._readings_max)

    def _collected(self, readings: int) -> bool:
        return self._readings - self._readings_taken >= readings or self._bytes - self._bytes_taken >= WAITING_BYTES_MAX

    def age_s(self) -> float:
        """How long the oldest frame has been waiting; 0: none waits. From any thread."""
        try:
            return self._clock.monotonic_s() - self._frames[0].since_s
        except IndexError:
            return 0.0

    def offer(self, offset: int, record: bytes) -> bool:
        """Append its frames. False: they are buffered or committed already. Raises Gap."""
        if offset < self.expected:
            return False
        if offset > self.expected:
            raise Gap(self._partition, self.expected, offset)
        try:
            frames = split_frames(record)
        except FrameError:
            frames = [record]
        since_s = self._clock.monotonic_s()
        for frame in frames:
            try:
                header = decode_header(frame)
            except FrameError:
                header = None
            self._frames.append(BufferedFrame(offset, offset, frame, header, since_s))
            self._readings += header.items if header else 1
            self._bytes += len(frame)
        self._frames[-1].next = offset + 1
        return True

    def skip_to(self, offset: int) -> int:
        """The log has lost what lies before: continue there. Returns how many offsets were lost."""
        if self._frames or offset < self._resume:
            raise ValueError(f"partition {self._partition}: nothing lies between {self.expected} and {offset}")
        lost, self._resume = offset - self._resume, offset
        return lost

    def forget(self, count: int) -> None:
        """Drop the oldest frames, which are committed."""
        for _ in range(count):
            waiting = self._frames.popleft()
            self._readings -= waiting.readings
            self._bytes -= len(waiting.frame)
            self._resume = waiting.next
        self._readings_taken = self._bytes_taken = 0
        self._searched = max(0, self._searched - count)
        if not self._searched:
            self._frames_max = None

    def forget_until(self, end: int) -> None:
        """Drop the frames below `end`, which are committed."""
        self.forget(sum(1 for _ in takewhile(lambda waiting: waiting.offset < end, self._frames)))
        self._resume = max(self._resume, end)

    def clear(self) -> None:
        """Drop all frames."""
        self._frames.clear()
        self._readings = self._bytes = self._readings_taken = self._bytes_taken = self._searched = 0
        self._frames_max = None

    def next_batch(self) -> list[BufferedFrame]:
        """From the oldest on, as many as one flush may take: they are under way until `forget`."""
        batch = self._oldest()
        self._readings_taken = sum(waiting.readings for waiting in batch)
        self._bytes_taken = sum(len(waiting.frame) for waiting in batch)
        return batch

    def _oldest(self) -> list[BufferedFrame]:
        if self._frames_max is not None:
            return list(islice(self._frames, self._frames_max))
        batch: list[BufferedFrame] = []
        readings = 0
        for waiting in self._frames:
            batch.append(waiting)
            readings += waiting.readings
            if readings >= self._readings_max:
                break
        return batch

    def failed(self, batch: list[BufferedFrame]) -> bool:
        """A flush of these failed on its data: take half as many, until the one that causes it is alone.

        False: no frame can be the cause, for there was none, or only the suspect, which is quarantined by now.
        """
        if not batch or (len(batch) == 1 and self.is_suspect(batch[0])):
            return False
        self._searched = max(self._searched, len(batch))
        if len(batch) == 1:
            self._suspect = batch[0]
        self._frames_max = max(1, len(batch) // 2)
        return True

    def is_suspect(self, waiting: BufferedFrame) -> bool:
        """Whether processing this frame alone has failed: it is to be quarantined whole."""
        return waiting is self._suspect
