"""The chain of blocks that seals entries: what is hashed, and what a check of it finds. Pure.

A block has the entries with ids above its `after_id` and up to its `last_id`, in the order of ids. Its hash is of its
header, in which are the hash of the block before and that of its entries. So a block whose entries were deleted when
their time was over is still checked by its header.

Ids are given before a transaction commits, so a smaller one may appear later. A `Mark` says when no more can: it has
the last id given and then, read later, the first transaction that had not begun. Once that is the oldest alive, all
that took an id of before are over (audit.record takes its transaction's number before an id).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

from kit.clock import EPOCH

BLOCK_ENTRIES_MAX: Final = 10_000  # ~10 MB of rows and ~0.3 s of hashing
GENESIS: Final = bytes(32)  # the hash before the first block
DIGEST_BYTES: Final = 32
COLUMNS: Final = (
    "id", "at", "recorded_at", "action", "actor", "role", "token", "token_id", "method", "endpoint", "status",
    "correlation_id", "address", "duration_us", "requests", "entity", "before", "after", "reason",
)  # fmt: skip
"""All of audit.entry: each is hashed."""

Row = Mapping[str, Any]
"""An entry by COLUMNS; `before` and `after` as the text of their JSON."""


class Mark(NamedTuple):
    """Entries up to `last_id` are complete once no transaction before number `transaction` is alive."""

    last_id: int
    transaction: int


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain."""

    number: int = 0
    last_id: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class Block:
    """A block, as it is stored. `entry_ids` and `digests` are None once its entries are past retention."""

    number: int
    after_id: int
    last_id: int
    entries: int
    oldest_at: datetime
    newest_at: datetime
    sealed_at: datetime
    entry_ids: tuple[int, ...] | None
    digests: bytes | None
    entries_hash: bytes
    previous: bytes
    hash: bytes

    @property
    def head(self) -> Head:
        """The end of the chain that it is the last block of."""
        return Head(self.number, self.last_id, self.hash)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was changed after it was sealed. `entry_id`: None where it is about the block."""

    block: int
    entry_id: int | None
    what: str


def canonical(value: object) -> bytes:
    """The value's one encoding, whatever the order of members; of different values it is different. Raises TypeError
    for what has no such encoding, a float above all."""
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, int):
        return b"i%d;" % value
    if isinstance(value, Decimal):
        return b"d%b;" % str(value).encode()
    if isinstance(value, str):
        text = value.encode()
        return b"s%d:%b" % (len(text), text)
    if isinstance(value, bytes):
        return b"b%d:%b" % (len(value), value)
    if isinstance(value, UUID):
        return b"u%b" % value.bytes
    if isinstance(value, datetime):
        since = value - EPOCH
        return b"m%d;" % ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)
    if isinstance(value, Mapping):
        members = [canonical(name) + canonical(value[name]) for name in sorted(value)]
        return b"o%d:%b" % (len(members), b"".join(members))
    if isinstance(value, list | tuple):
        return b"l%d:%b" % (len(value), b"".join(map(canonical, value)))
    raise TypeError(f"{type(value).__name__} has no canonical encoding")


def digest_of(row: Row) -> bytes:
    """The SHA-256 of an entry, 32 bytes."""
    values = [row[name] for name in COLUMNS]
    for place, name in enumerate(COLUMNS):
        if name in ("before", "after") and values[place] is not None:
            # As decimals, which keep every digit that is written.
            values[place] = json.loads(values[place], parse_float=Decimal, parse_int=Decimal)
    return hashlib.sha256(canonical(values)).digest()


def seal(rows: Sequence[Row], head: Head, sealed_at: datetime) -> Block:
    """The block of these entries, at least one, in the order of their ids."""
    digests = b"".join(map(digest_of, rows))
    recorded = [row["recorded_at"] for row in rows]
    ids = tuple(row["id"] for row in rows)
    draft = Block(
        number=head.number + 1,
        after_id=head.last_id,
        last_id=ids[-1],
        entries=len(rows),
        oldest_at=min(recorded),
        newest_at=max(recorded),
        sealed_at=sealed_at,
        entry_ids=ids,
        digests=digests,
        entries_hash=_entries_hash(ids, digests),
        previous=head.hash,
        hash=b"",
    )
    return Block(**{**_members(draft), "hash": hash_of(draft)})


def hash_of(block: Block) -> bytes:
    """The hash of a block's header."""
    header = (
        block.number, block.after_id, block.last_id, block.entries, block.oldest_at, block.newest_at, block.sealed_at,
        block.entries_hash, block.previous,
    )  # fmt: skip
    return hashlib.sha256(canonical(header)).digest()


class ChainCheck:
    """Checks a chain, block by block from the first."""

    def __init__(self) -> None:
        self.head = Head()
        self.blocks = 0
        self.entries = 0  # that were there and as they were sealed
        self.forgotten = 0  # blocks whose entries are past retention
        self.forgotten_entries = 0

    def check(self, block: Block, rows: Iterable[Row]) -> Iterator[Fault]:
        """What is wrong with the next block. `rows`: the entries with ids of its range, in their order."""
        number = block.number
        if number != self.head.number + 1:
            yield Fault(self.head.number + 1, None, f"is missing: block {number} follows {self.head.number}")
        if block.after_id != self.head.last_id or block.previous != self.head.hash:
            yield Fault(number, None, "does not follow the block before it")
        if block.hash != hash_of(block):
            yield Fault(number, None, "its header was changed")
        self.head = block.head
        self.blocks += 1
        if block.entry_ids is None or block.digests is None:
            yield from self._check_forgotten(block, rows)
            return
        listed = block.entry_ids, block.digests
        if len(block.digests) != len(block.entry_ids) * DIGEST_BYTES or _entries_hash(*listed) != block.entries_hash:
            yield Fault(number, None, "its list of entries was changed")
        yield from self._check_entries(block, rows)

    def _check_forgotten(self, block: Block, rows: Iterable[Row]) -> Iterator[Fault]:
        if self.forgotten != self.blocks - 1:
            yield Fault(block.number, None, "its entries were deleted, and those of a block before it are still there")
        for row in rows:
            yield Fault(block.number, row["id"], "was added to a block whose entries are past retention")
        self.forgotten += 1
        self.forgotten_entries += block.entries

    def _check_entries(self, block: Block, rows: Iterable[Row]) -> Iterator[Fault]:
        assert block.entry_ids is not None  # noqa: S101  # see check
        assert block.digests is not None  # noqa: S101  # see check
        digests = [block.digests[at : at + DIGEST_BYTES] for at in range(0, len(block.digests), DIGEST_BYTES)]
        missing = dict(zip(block.entry_ids, digests, strict=False))
        for row in rows:
            sealed = missing.pop(row["id"], None)
            if sealed is None:
                yield Fault(block.number, row["id"], "was added after the block was sealed")
            elif sealed != digest_of(row):
                yield Fault(block.number, row["id"], "was changed")
            else:
                self.entries += 1
        for entry_id in missing:
            yield Fault(block.number, entry_id, "was deleted")


def _entries_hash(entry_ids: Sequence[int], digests: bytes) -> bytes:
    return hashlib.sha256(canonical([list(entry_ids), digests])).digest()


def _members(block: Block) -> dict[str, Any]:
    return {name: getattr(block, name) for name in Block.__slots__}
