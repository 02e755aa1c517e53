"""Sealing entries into blocks, checking the chain, and deleting what is past retention. No SQL here."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from api.audit.settings import AuditSettings
from api.audit.store import AuditStore
from kit.audit.chain import BLOCK_ENTRIES_MAX, ChainCheck, Fault, Head, Mark, seal
from kit.clock import Clock
from kit.database.postgres import Database
from kit.observability.logs import get_logger

FAULTS_MAX: Final = 1_000  # that a check names
YEAR_DAYS: Final = 365.25
_BLOCKS_AT_ONCE: Final = 20  # of a transaction that deletes: 200,000 entries
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
        mark = self._mark = self._mark or await self._store.mark()
        if mark.last_id == self._done_id:  # nothing happened
            self._mark = None
            return 0
        if await self._store.oldest_transaction() < mark.transaction:
            return 0
        self._mark = None
        head, blocks = await self._store.head(), 0
        while rows := await self._store.rows(head.last_id, mark.last_id, BLOCK_ENTRIES_MAX):
            block = seal(rows, head, self._clock.now())
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
    unsealed: int
    faults: list[Fault] = field(default_factory=list)
    faults_omitted: int = 0


async def verify(database: Database, logged: Mapping[int, bytes] | None = None) -> Verification:
    """Compute everything again, as of one moment. `logged`: hashes of blocks that are known from elsewhere. Raises
    Unavailable."""
    async with database.snapshot() as connection:
        return await _verified(AuditStore(connection), logged or {})


async def _verified(store: AuditStore, logged: Mapping[int, bytes]) -> Verification:
    chain, faults, omitted = ChainCheck(), list[Fault](), 0
    missing = dict(logged)
    async for block in store.blocks():
        # One more than there should be: enough to find that there are too many.
        rows = await store.rows(block.after_id, block.last_id, block.entries + FAULTS_MAX)
        if missing.pop(block.number, block.hash) != block.hash:
            faults.append(Fault(block.number, None, "is another one than was logged"))
        for fault in chain.check(block, rows):
            if len(faults) < FAULTS_MAX:
                faults.append(fault)
            else:
                omitted += 1
    faults += [Fault(number, None, "was logged, and is not there") for number in sorted(missing)]
    return Verification(
        head=chain.head,
        blocks=chain.blocks,
        entries=chain.entries,
        forgotten_blocks=chain.forgotten,
        forgotten_entries=chain.forgotten_entries,
        unsealed=await store.unsealed(chain.head.last_id),
        faults=faults,
        faults_omitted=omitted,
    )


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
            if gone.last_block is None:
                return entries
            entries += gone.entries
