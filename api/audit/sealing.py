"""Sealing entries into blocks, checking the chain, and deleting what is past retention. No SQL here."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from api.audit.settings import AuditSettings
from api.audit.store import AuditStore
from kit.audit.chain import BLOCK_ENTRIES_MAX, Head, Mark, seal
from kit.audit.chain_check import ChainCheck, ChainFault
from kit.clock import Clock
from kit.database.postgres import Database
from kit.observability.logs import get_logger

FAULTS_MAX: Final = 1_000  # that a check names
YEAR_DAYS: Final = 365.25
_BLOCKS_AT_ONCE: Final = 5  # of a transaction that deletes: 50,000 entries
_log = get_logger(__name__)


class Sealer:
    """Seals what is complete. Any number of processes may have one: what one has sealed the others find."""

    def __init__(self, store: AuditStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._mark: Mark | None = None  # entries up to which wait for transactions to end
        self._done_id = -1  # all entries up to this id are sealed

    async def run(self) -> int:
        """Seal what can be, and return the number of blocks. An entry waits as long as a transaction of any database of
        the server that had begun when it was noted. Raises Unavailable."""
        if self._mark is None and await self._store.last_id() == self._done_id:  # nothing happened
            return 0
        mark = self._mark = self._mark or await self._store.mark()
        before, from_on = await self._store.ended_transactions()
        if before < mark.transaction:
            if from_on <= mark.transaction:  # which has ended: so this is another server, restored from a dump
                self._mark = None
            return 0
        self._mark = None
        head, blocks = await self._store.head(), 0
        while rows := await self._store.rows(head.last_id, mark.last_id, BLOCK_ENTRIES_MAX):
            # In a thread: of a large block the hashes take 0.3 s, for which no request would be answered.
            block = await asyncio.to_thread(seal, rows, head, self._clock.now())
            if not await self._store.add(block):
                return blocks
            # In the log, which is kept elsewhere, the hash shows that the end of the chain was not cut off.
            _log.info("audit_block_sealed", number=block.number, entries=block.entries, hash=block.hash.hex())
            head, blocks = block.head, blocks + 1
        self._done_id = mark.last_id
        return blocks


@dataclass(slots=True)
class Verification:
    """The result of a check of the whole chain."""

    head: Head
    blocks: int
    entries: int
    forgotten_blocks: int
    forgotten_entries: int
    forgotten_days_min: int | None  # how old they were when retention deleted them
    unsealed: int
    faults: list[ChainFault] = field(default_factory=list)
    faults_omitted: int = 0

    def add(self, faults: Iterable[ChainFault]) -> None:
        """Keep the first FAULTS_MAX of all, and count the others."""
        for fault in faults:
            if len(self.faults) < FAULTS_MAX:
                self.faults.append(fault)
            else:
                self.faults_omitted += 1


async def verify(database: Database, logged: Mapping[int, bytes] | None = None) -> Verification:
    """Compute everything again, as of one moment. `logged`: hashes of blocks that are known from elsewhere. Raises
    Unavailable."""
    async with database.snapshot() as connection:
        return await _verified(AuditStore(connection), logged or {})


async def _verified(store: AuditStore, logged: Mapping[int, bytes]) -> Verification:
    chain = ChainCheck(await store.retention_records(), await store.now(), logged)
    found = Verification(chain.head, 0, 0, 0, 0, None, 0)
    async for block in store.blocks():
        # One more than there should be: enough to find that there are too many.
        rows = await store.rows(block.after_id, block.last_id, block.entries + FAULTS_MAX)
        found.add(chain.check(block, rows))
    found.add(chain.finish())
    for entry_id in await store.outside(FAULTS_MAX):
        found.add([ChainFault(0, entry_id, "was added with an id that was never given")])
    youngest: timedelta | None = chain.youngest_forgotten
    found.head, found.blocks, found.entries = chain.head, chain.blocks, chain.entries
    found.forgotten_blocks, found.forgotten_entries = chain.forgotten, chain.forgotten_entries
    found.forgotten_days_min = None if youngest is None else youngest.days
    found.unsealed = await store.unsealed(chain.head.last_id)
    return found


class Retention:
    """Deletes entries whose time is over, by whole blocks from the oldest."""

    def __init__(self, store: AuditStore, settings: Callable[[], AuditSettings]) -> None:
        """`settings`: as they are now. The database's clock says what is old: a wrong one of ours deletes nothing."""
        self._store = store
        self._settings = settings

    async def run(self) -> int:
        """Delete what is due, say what it was, and return the number of entries. Raises Unavailable."""
        settings, entries = self._settings(), 0
        days = math.ceil(settings.audit_retention_years * YEAR_DAYS)
        while True:
            gone = await self._store.forget(days, _BLOCKS_AT_ONCE, settings.audit_telemetry_days)
            if gone.last_block is not None or gone.minutes:
                _log.info(
                    "audit_forgotten",
                    older_than_days=days,
                    first_block=gone.first_block,
                    last_block=gone.last_block,
                    entries=gone.entries,
                    telemetry_minutes=gone.minutes,
                )
            if gone.last_block is None and not gone.minutes:
                return entries
            entries += gone.entries
