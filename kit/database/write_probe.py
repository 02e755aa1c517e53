"""Whether the database takes writes, at a bounded rate: a readiness check."""

import asyncio
from collections.abc import Callable
from typing import Final

from kit.database.postgres import Database
from kit.errors import Unavailable
from kit.futures import mark_seen

# How long a success counts. However often /ready is asked for, there is one probe in that time: ~5 ms and one fsync.
GOOD_S: Final = 5.0
# More than work_mem, so that PostgreSQL puts it into a temporary file: on a full disk there is no room for it. A row of
# a table would fit into a page that is there already.
_ROOM: Final = "SELECT count(*) FROM generate_series(1, 50000)"  # ~1.5 MB
# A record of the log of writes that no table has, durable with the commit. Any role may write it.
_RECORD: Final = "SELECT pg_logical_emit_message(true, 'voltstream', 'ready')"


class WriteProbe:
    """One a process, for one event loop."""

    def __init__(self, database: Database, monotonic_s: Callable[[], float]) -> None:
        self._database = database
        self._monotonic_s = monotonic_s
        self._good_until_s = -float("inf")
        self._running: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Raises Unavailable where the database does not answer, is read-only, or has no room. Whoever gives up waiting
        leaves the probe to the others."""
        if self._monotonic_s() < self._good_until_s:
            return
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._probe(), name="write probe")
            self._running.add_done_callback(mark_seen)
        await asyncio.shield(self._running)

    async def _probe(self) -> None:
        async with self._database.transaction() as connection:
            if await connection.fetchval("SHOW transaction_read_only") == "on":
                raise Unavailable("PostgreSQL takes no writes: it is read-only, or a standby")
            await connection.execute("SET LOCAL work_mem = '64kB'")
            await connection.fetchval(_ROOM)
            await connection.fetchval(_RECORD)
        self._good_until_s = self._monotonic_s() + GOOD_S
