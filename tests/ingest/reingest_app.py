"""The service `reingest` on a real PostgreSQL, before a log whose reader stands in for the worker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import psycopg

from api.pricing.declaration import SERVICE as PRICING
from api.stations.declaration import SERVICE as STATIONS
from api.telemetry.declaration import SERVICE as TELEMETRY
from ingest.reingest.components import Reingest
from ingest.reingest.declaration import SERVICE as REINGEST
from ingest.reingest.judgement import Quarantined
from ingest.reingest.models import ReplayAnswer, ReplayRequest
from kit.auth.token_store import Principal
from kit.clock import ManualClock, from_ms
from kit.errors import Unavailable
from kit.live.view import InProcessLive
from schemas.frame import FrameKind, decode_header, split_frames
from schemas.frame_rows import read_rows
from streams.declaration import SERVICE as WORKER
from tests.api.rows import COARSER_WINDOWS_SQL
from tests.ingest.wire_strategies import NOW_MS
from tests.serving import make_schemas, open_service

OPERATOR: Final = Principal("operator", UUID(int=3), None)
ALL: Final[dict[str, Any]] = {"from": "1970-01-01T00:00:00Z"}


@dataclass
class Stream:
    """A log and its reader: finds duplicates exactly, as a worker does. `faults`: of the next appends."""

    faults: list[str] = field(default_factory=list)  # "before": nothing is written; "after": it is, and no answer comes
    stored: set[tuple[Any, ...]] = field(default_factory=set)
    accepted: int = 0
    duplicate: int = 0
    quarantined: list[bytes] = field(default_factory=list)

    async def append(self, partition: int, record: bytes) -> None:
        """See LogWriter."""
        del partition
        fault = self.faults.pop(0) if self.faults else ""
        await asyncio.sleep(0)
        if fault == "before":
            raise Unavailable("no broker")
        for frame in split_frames(record):
            header = decode_header(frame)
            for row in read_rows(header, frame).to_pylist():
                self.accepted += 1
                if header.kind == FrameKind.REFUSED:
                    self.quarantined.append(row["raw"])
                    continue
                identity = tuple(row.values())
                self.duplicate += identity in self.stored
                self.stored.add(identity)
        if fault == "after":
            raise Unavailable("no confirm in time")

    async def close(self) -> None:
        """Nothing to release."""


def make_tables(url: str) -> None:
    """The schemas that it needs, with an empty ledger."""
    make_schemas(url, [STATIONS, PRICING, WORKER, TELEMETRY, REINGEST], prepared=COARSER_WINDOWS_SQL)
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO telemetry.ledger (partition) VALUES (0), (1)")


def fill(url: str, rows: Sequence[Quarantined]) -> None:
    """These and no other rows, their ledger with nothing replayed."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE telemetry.quarantine, reingest.idempotency")
        cursor.execute("UPDATE telemetry.ledger SET replayed = 0")
        cursor.executemany(
            "INSERT INTO telemetry.quarantine (id, partition, received_at, station_id, reason, detail, raw) "
            "OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, %s, '', %s)",
            [(row.id, row.id % 2, from_ms(NOW_MS), f"S{row.id}", row.reason, row.raw) for row in rows],
        )


def marked(url: str) -> set[int]:
    """The rows that were replayed."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT id FROM telemetry.quarantine WHERE replayed_at IS NOT NULL").fetchall()
    return {item for (item,) in found}


def replayed(url: str) -> int:
    """As the ledger has it."""
    with psycopg.connect(url) as connection:
        (count,) = connection.execute("SELECT sum(replayed)::bigint FROM telemetry.ledger").fetchone() or (0,)
    return int(count)


@asynccontextmanager
async def reingesting(url: str, stream: Stream) -> AsyncIterator[Reingest]:
    """The service at work, at the moment NOW_MS."""
    live = InProcessLive()
    clock = ManualClock(from_ms(NOW_MS))
    try:
        async with open_service(REINGEST, url, clock, live=live, writer=stream) as opened:
            yield opened.components
    finally:
        await live.close()


async def ask(reingest: Reingest, who: Principal = OPERATOR, **wanted: Any) -> ReplayAnswer:
    """One request, in a transaction of its own."""
    async with reingest.database.transaction() as transaction:
        return await reingest.service.replay(transaction, ReplayRequest.model_validate(wanted), who)


async def drain(reingest: Reingest, **wanted: Any) -> list[ReplayAnswer]:
    """One request after the other, as `next` says."""
    answers = [await ask(reingest, **(wanted or ALL))]
    while answers[-1].next is not None:
        answers.append(await ask(reingest, **(wanted or ALL), cursor=answers[-1].next))
    return answers
