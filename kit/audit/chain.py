"""The chain of blocks that seals entries: what is hashed, and when. Pure.

A block has the entries with ids above its `after_id` and up to its `last_id`, in the order of ids. Its hash is of its
header, in which are the hash of the block before and that of its entries. So a block whose entries were deleted when
their time was over is still checked by its header; that it was over is checked, too (kit/audit/chain_check.py).

Ids are given before a transaction commits, so a smaller one may appear later. A `Mark` says when no more can: it has
the last id given and the number of a transaction that began after that was read. Once all transactions before that one
have ended, all that took an id of before have (audit.record takes its transaction's number before an id).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
        entries_hash=entries_hash(ids, digests),
        previous=head.hash,
        hash=b"",
    )
    return replace(draft, hash=hash_of(draft))


def hash_of(block: Block) -> bytes:
    """The hash of a block's header."""
    header = (
        block.number, block.after_id, block.last_id, block.entries, block.oldest_at, block.newest_at, block.sealed_at,
        block.entries_hash, block.previous,
    )  # fmt: skip
    return hashlib.sha256(canonical(header)).digest()


def entries_hash(entry_ids: Sequence[int], digests: bytes) -> bytes:
    """The hash of a block's list of entries."""
    return hashlib.sha256(canonical([list(entry_ids), digests])).digest()
