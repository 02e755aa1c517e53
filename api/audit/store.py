"""The SQL of the audit: entries as they are listed, and the blocks of the chain."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from kit.audit.chain import BLOCK_ENTRIES_MAX, COLUMNS, Block, Head, Mark, Row
from kit.audit.chain_check import FORGOTTEN, RetentionRecord
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.paging import Cursor, Int64, Micros, from_micros

_COLUMNS: Final = ", ".join(COLUMNS)
_BLOCK_COLUMNS: Final = ", ".join(Block.__slots__)
_HEAD: Final = "SELECT number, last_id, hash FROM audit.block ORDER BY number DESC LIMIT 1"
_ENTRIES: Final = f"SELECT {_COLUMNS} FROM audit.entry WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3"  # noqa: S608  # our own names
_BLOCKS: Final = f"SELECT {_BLOCK_COLUMNS} FROM audit.block WHERE number > $1 ORDER BY number LIMIT $2"  # noqa: S608  # our own names
_SEAL: Final = "SELECT audit.seal($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_FORGET: Final = "SELECT first_block, last_block, entries, minutes FROM audit.forget($1, $2, $3)"
_UNSEALED: Final = "SELECT count(*) FROM audit.entry WHERE id > $1"
_GIVEN: Final = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM audit.entry_id_seq"
_ENDED: Final = """
SELECT pg_snapshot_xmin(s)::text::bigint AS before, pg_snapshot_xmax(s)::text::bigint AS from_on
FROM pg_current_snapshot() AS s
"""
_OUTSIDE: Final = f"""
SELECT id FROM (SELECT id FROM audit.entry WHERE id <= 0 UNION ALL SELECT id FROM audit.entry WHERE id > ({_GIVEN}))
    AS outside
ORDER BY id LIMIT $1
"""  # noqa: S608  # our own text
_RECORDS: Final = "SELECT recorded_at, before FROM audit.entry WHERE action = $1 ORDER BY at, id"
_CONDITIONS: Final = {
    "actor": "actor = {}",
    "action": "action = {}",
    "endpoint": "endpoint = {}",
    "status": "status = {}",
    "entity": "entity = {}",
    "correlation_id": "correlation_id = {}",
    "start": "at >= {}",
    "end": "at < {}",
}
_BLOCKS_AT_ONCE: Final = 8  # of 10,000 ids and hashes each: 3 MB


class EntryCursor(Cursor, frozen=True, tag="au"):
    """The last entry seen."""

    at_us: Micros
    id: Int64


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries; None: any."""

    actor: str | None = None
    action: str | None = None
    endpoint: str | None = None
    status: int | None = None
    entity: str | None = None
    correlation_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class Forgotten(NamedTuple):
    """What was deleted past retention. The blocks are None where no entry was."""

    first_block: int | None
    last_block: int | None
    entries: int
    minutes: int  # rows of counted telemetry


class AuditStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database | Transaction) -> None:
        """`database`: a pool, or a connection within a transaction."""
        self._database = database

    async def entries(self, wanted: EntryFilter, after: EntryCursor | None, rows_max: int) -> list[asyncpg.Record]:
        """Up to rows_max entries, newest first."""
        query, arguments = entries_query(wanted, after, rows_max)
        return await self._database.fetch(query, *arguments)

    async def head(self) -> Head:
        """The end of the chain."""
        row = await self._database.fetchrow(_HEAD)
        return Head() if row is None else Head(*row)

    async def last_id(self) -> int:
        """The last id that was given; 0: none was."""
        last_id: int = await self._database.fetchval(_GIVEN)
        return last_id

    async def mark(self) -> Mark:
        """The last id that was given, and a transaction that began after that was read."""
        last_id = await self.last_id()
        # A new one, and a statement of its own. The xmax of a snapshot will not do: it is one past the last transaction
        # that has *ended*, and one that is alive may have a greater number.
        transaction = await self._database.fetchval("SELECT pg_current_xact_id()::text::bigint")
        return Mark(last_id, transaction)

    async def ended_transactions(self) -> tuple[int, int]:
        """All transactions before the first of these have ended, and none from the second on."""
        row = await self._database.fetchrow(_ENDED)
        assert row is not None  # noqa: S101  # without a FROM there is one
        return row["before"], row["from_on"]

    async def rows(self, after_id: int, last_id: int, rows_max: int = BLOCK_ENTRIES_MAX) -> Sequence[Row]:
        """Entries of these ids, in their order."""
        return await self._database.fetch(_ENTRIES, after_id, last_id, rows_max)

    async def add(self, block: Block) -> bool:
        """Append a block to the chain. False: another process was faster."""
        assert block.entry_ids is not None  # noqa: S101  # a new one has them
        added: bool = await self._database.fetchval(
            _SEAL,
            block.number,
            block.after_id,
            block.last_id,
            block.oldest_at,
            block.newest_at,
            block.sealed_at,
            list(block.entry_ids),
            block.digests,
            block.entries_hash,
            block.previous,
            block.hash,
        )
        return added

    async def blocks(self) -> AsyncIterator[Block]:
        """All blocks, from the first."""
        number = 0
        while rows := await self._database.fetch(_BLOCKS, number, _BLOCKS_AT_ONCE):
            for row in rows:
                yield _block(row)
            number = rows[-1]["number"]

    async def now(self) -> datetime:
        """The time by the database's clock."""
        now: datetime = await self._database.fetchval("SELECT clock_timestamp()")
        return now

    async def retention_records(self) -> list[RetentionRecord]:
        """What retention says that it deleted."""
        found = [RetentionRecord.of(row) for row in await self._database.fetch(_RECORDS, FORGOTTEN)]
        return [record for record in found if record is not None]

    async def outside(self, rows_max: int) -> list[int]:
        """Ids of entries that no sequence gave, which no block can have."""
        return [row["id"] for row in await self._database.fetch(_OUTSIDE, rows_max)]

    async def unsealed(self, last_id: int) -> int:
        """Entries after that id."""
        count: int = await self._database.fetchval(_UNSEALED, last_id)
        return count

    async def forget(self, days: int, blocks_max: int, telemetry_days: int) -> Forgotten:
        """Delete entries of up to that many blocks that were recorded so long ago, by the database's clock, and counts
        of telemetry."""
        row = await self._database.fetchrow(_FORGET, days, blocks_max, telemetry_days)
        assert row is not None  # noqa: S101  # the function returns one
        return Forgotten(*row)


def entries_query(wanted: EntryFilter, after: EntryCursor | None, rows_max: int) -> tuple[str, list[object]]:
    """The query of up to rows_max entries, newest first, and its arguments."""
    asked = {name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None}
    conditions = [_CONDITIONS[name].format(f"${place}") for place, name in enumerate(asked, 1)]
    arguments: list[object] = list(asked.values())
    if after is not None:
        arguments += [from_micros(after.at_us), after.id]
        conditions.append(f"(at, id) < (${len(arguments) - 1}, ${len(arguments)})")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    arguments.append(rows_max)
    query = f"SELECT {_COLUMNS} FROM audit.entry {where} ORDER BY at DESC, id DESC LIMIT ${len(arguments)}"  # noqa: S608  # our own names
    return query, arguments


def _block(row: asyncpg.Record) -> Block:
    members: dict[str, Any] = dict(row)
    ids = members["entry_ids"]
    return Block(**{**members, "entry_ids": None if ids is None else tuple(ids)})
