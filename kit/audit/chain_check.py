"""What a check of the chain finds: what was changed after it was sealed, and deletions that are not retention's. Pure.

Retention deletes the entries of whole blocks from the oldest and adds an entry that says which (audit.forget). So a
block without entries is lawful where such a record is there, by which the block was old enough; its age is by its
header, which is in the chain. Records are deleted with their time too: of blocks before the first record that is left
it is enough that retention has got so far since that theirs must be gone.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple, Self

from kit.audit.chain import DIGEST_BYTES, Block, Head, Row, digest_of, entries_hash, hash_of

KEPT_MIN: Final = timedelta(days=360)  # audit.forget deletes what is older alone
FORGOTTEN: Final = "audit.forgotten"
_UNRECORDED: Final = "its entries were deleted, and retention has no record of it"


@dataclass(frozen=True, slots=True)
class ChainFault:
    """Something that was changed after it was sealed. `entry_id`: None where it is about the block."""

    block: int
    entry_id: int | None
    what: str


class RetentionRecord(NamedTuple):
    """What retention says that it deleted."""

    at: datetime
    first_block: int
    last_block: int
    entries: int

    @classmethod
    def of(cls, row: Row) -> Self | None:
        """An entry of the action FORGOTTEN; None where it is not as retention writes it."""
        try:
            before = json.loads(row["before"])
            numbers = [before[name] for name in ("first_block", "last_block", "entries")]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        if not all(type(number) is int for number in numbers) or not 1 <= numbers[0] <= numbers[1]:
            return None
        return cls(row["recorded_at"], *numbers)


class ChainCheck:
    """Checks a chain, block by block from the first, and at its end by `finish`."""

    def __init__(self, records: Iterable[RetentionRecord], now: datetime, logged: Mapping[int, bytes]) -> None:
        """`records`: of retention; `now`: by the database's clock; `logged`: hashes of blocks that are known from
        elsewhere."""
        self.head = Head()
        self.blocks = 0
        self.entries = 0  # that were there and as they were sealed
        self.forgotten = 0  # blocks whose entries are past retention
        self.forgotten_entries = 0
        self.youngest_forgotten: timedelta | None = None  # how old its entries were at least
        self._logged = dict(logged)
        self._records = sorted(records, key=lambda record: record.last_block)
        self._place = 0  # of the record that the next block is in
        self._recorded_entries = 0  # of that record, in the headers of its blocks
        self._now = now
        self._before_records: Block | None = None  # the youngest of those before the first record
        self._youngest_at: datetime | None = None  # of all blocks without entries

    def check(self, block: Block, rows: Iterable[Row]) -> Iterator[ChainFault]:
        """What is wrong with the next block. `rows`: the entries with ids of its range, in their order."""
        number = block.number
        if number != self.head.number + 1:
            yield ChainFault(self.head.number + 1, None, f"is missing: block {number} follows {self.head.number}")
        if block.after_id != self.head.last_id or block.previous != self.head.hash:
            yield ChainFault(number, None, "does not follow the block before it")
        if block.hash != hash_of(block):
            yield ChainFault(number, None, "its header was changed")
        if self._logged.pop(number, block.hash) != block.hash:
            yield ChainFault(number, None, "is another one than was logged")
        self.head = block.head
        self.blocks += 1
        if block.entry_ids is None and block.digests is None:
            yield from self._check_forgotten(block, rows)
            return
        if self._records and number <= self._records[-1].last_block:
            yield ChainFault(number, None, "is still there, and retention has recorded that it deleted its entries")
        entry_ids, digests = block.entry_ids or (), block.digests or b""
        listed = len(entry_ids) == block.entries and len(digests) == len(entry_ids) * DIGEST_BYTES
        if not listed or entries_hash(entry_ids, digests) != block.entries_hash:
            yield ChainFault(number, None, "its list of entries was changed")
        yield from self._check_entries(number, entry_ids, digests, rows)

    def finish(self) -> Iterator[ChainFault]:
        """What is wrong with the chain as a whole."""
        before = self._before_records
        if before is not None and (self._youngest_at is None or self._youngest_at - before.newest_at <= KEPT_MIN):
            yield ChainFault(before.number, None, _UNRECORDED)
        for record, following in pairwise(self._records):
            if following.first_block != record.last_block + 1:
                yield ChainFault(following.first_block, None, "records of retention do not follow each other there")
        last_block = self._records[-1].last_block if self._records else 0
        if last_block > self.head.number:
            yield ChainFault(last_block, None, "is not there, and retention has recorded that it deleted its entries")
        for number in sorted(self._logged):
            yield ChainFault(number, None, "was logged, and is not there")

    def _check_forgotten(self, block: Block, rows: Iterable[Row]) -> Iterator[ChainFault]:
        if self.forgotten != self.blocks - 1:
            yield ChainFault(block.number, None, "its entries were deleted, and those of a block before it are there")
        for row in rows:
            yield ChainFault(block.number, row["id"], "was added to a block whose entries are past retention")
        self.forgotten += 1
        self.forgotten_entries += block.entries
        self._youngest_at = max(block.newest_at, self._youngest_at or block.newest_at)
        while self._place < len(self._records) and self._records[self._place].last_block < block.number:
            self._place += 1
            self._recorded_entries = 0
        if self._place == len(self._records):
            yield ChainFault(block.number, None, _UNRECORDED)
            return
        record = self._records[self._place]
        age = min(record.at, self._now) - block.newest_at
        self.youngest_forgotten = age if self.youngest_forgotten is None else min(age, self.youngest_forgotten)
        if age <= KEPT_MIN:
            yield ChainFault(block.number, None, f"its entries were deleted when they were {age.days} days old")
        if block.number < record.first_block:
            if self._place:
                yield ChainFault(block.number, None, _UNRECORDED)
            elif self._before_records is None or self._before_records.newest_at <= block.newest_at:
                self._before_records = block
            return
        self._recorded_entries += block.entries
        if block.number == record.last_block and self._recorded_entries != record.entries:
            said, sealed = record.entries, self._recorded_entries
            yield ChainFault(block.number, None, f"retention deleted {said} entries up to it, and {sealed} were sealed")

    def _check_entries(
        self, number: int, entry_ids: Sequence[int], digests: bytes, rows: Iterable[Row]
    ) -> Iterator[ChainFault]:
        each = [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]
        missing = dict(zip(entry_ids, each, strict=False))
        for row in rows:
            sealed = missing.pop(row["id"], None)
            if sealed is None:
                yield ChainFault(number, row["id"], "was added after the block was sealed")
            elif sealed != digest_of(row):
                yield ChainFault(number, row["id"], "was changed")
            else:
                self.entries += 1
        for entry_id in missing:
            yield ChainFault(number, entry_id, "was deleted")
