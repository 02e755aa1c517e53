"""Laws of the audit's writer on a real PostgreSQL: whatever happens to a batch, each entry is there once or counted."""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from kit.audit import writer as writing
from kit.audit.entry import Actor, Entry, entry_of
from kit.audit.writer import AuditWriter
from kit.auth.token_store import Principal
from kit.clock import ManualClock
from kit.database.postgres import Database
from kit.errors import Contended, Unavailable

NOW = datetime(2026, 3, 29, 9, tzinfo=UTC)
ADA = Actor("operator/ada", "operator", "stored", UUID(int=1), "192.0.2.1")
TRANSIENT: dict[str, Exception] = {
    "away": Unavailable("PostgreSQL does not answer"),
    "deadlock": Contended("deadlock"),
    "time-out of the server": asyncpg.QueryCanceledError("canceling statement due to statement timeout"),
    "read only": asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
    "no right": asyncpg.InsufficientPrivilegeError("permission denied"),
    "lock": asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
    "misuse": asyncpg.InterfaceError("another operation is in progress"),
}


class Unsteady:
    """A database of whose statements some fail, before or after they were executed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.faults: deque[tuple[str, Exception | None]] = deque()
        self.hangs = asyncio.Event()

    async def execute(self, query: str, *args: object) -> str:
        when, error = self.faults.popleft() if self.faults else ("", None)
        if when == "before":
            raise error or Unavailable("before")
        done = await self._database.execute(query, *args)
        if when == "hang":  # executed, and the answer is lost
            self.hangs.set()
            await asyncio.Event().wait()
        if when == "after":
            raise error or Unavailable("after")
        return done


class Written:
    """A writer, and what the database has of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.unsteady = Unsteady(database)
        self.clock = ManualClock(NOW)
        self.registry = CollectorRegistry()
        self.writer = AuditWriter(cast("Database", self.unsteady), self.clock, self.registry)

    def put(self, *names: str) -> None:
        for name in names:
            self.writer.put(_entry(name))

    async def names(self) -> list[str]:
        rows = await self.database.fetch("SELECT correlation_id, action, requests FROM audit.entry ORDER BY id")
        return [f"lost {row['requests']}" if row["action"] == "audit.lost" else row["correlation_id"] for row in rows]

    def lost(self) -> float:
        return self.registry.get_sample_value("audit_entries_lost_total") or 0.0


def _entry(name: str) -> Entry:
    return entry_of(ADA, at=None, action="request", correlation_id=name)


@pytest.fixture
def written(access: Database) -> Written:
    return Written(access)


@pytest.mark.parametrize("error", TRANSIENT.values(), ids=TRANSIENT)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_error_that_is_not_about_the_data_loses_and_repeats_nothing(
    written: Written, when: str, error: Exception
) -> None:
    written.put("a", "b")
    written.unsteady.faults.extend([(when, error)] * 2)
    for _ in range(2):
        with pytest.raises(type(error)):
            await written.writer.flush()
        written.put("c")
    await written.writer.flush()
    assert await written.names() == ["a", "b", "c", "c"]
    assert written.lost() == 0


async def test_a_batch_under_way_when_the_task_is_cancelled_is_written_once(written: Written) -> None:
    written.put("a", "b")
    written.unsteady.faults.append(("hang", None))
    running = asyncio.create_task(written.writer.run())
    await written.unsteady.hangs.wait()
    running.cancel()
    await asyncio.wait((running,))
    written.put("c")
    await written.writer.close()
    assert await written.names() == ["a", "b", "c"]


async def test_the_task_goes_on_whatever_a_statement_raises(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "reconnect_pauses_s", lambda: iter([0.0] * 99))
    written.unsteady.faults.extend(("before", error) for error in TRANSIENT.values())
    written.unsteady.faults.append(("hang", None))
    written.put("a")
    running = asyncio.create_task(written.writer.run())
    await written.unsteady.hangs.wait()
    running.cancel()
    await asyncio.wait((running,))
    assert await written.names() == ["a"]


async def test_what_is_left_at_the_end_is_counted(written: Written) -> None:
    written.put("a", "b")
    written.unsteady.faults.append(("before", Unavailable("away")))
    await written.writer.close()
    assert written.lost() == 2


_FAULTS = [f"{when} {name}" for when in ("before", "after") for name in TRANSIENT]


@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    st.lists(st.sampled_from(["put", "put", "bad", "flush", "flush", "cancel", *_FAULTS]), max_size=25),
    st.integers(1, 4),
    st.integers(2, 5),
)  # fmt: skip
async def test_whatever_happens_each_entry_is_there_once_in_order_or_counted(
    access: Database, steps: Sequence[str], batch_max: int, queued_max: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "BATCH_MAX", batch_max)
        patch.setattr(writing, "QUEUED_MAX", queued_max)
        await access.execute("ALTER TABLE audit.entry DISABLE TRIGGER entry_is_never_changed")
        await access.execute("TRUNCATE audit.entry, audit.batch")
        written = Written(access)
        put: list[str] = []
        bad = 0
        for number, step in enumerate(steps):
            match step.partition(" "):
                case ["put", *_]:
                    put.append(f"e{number}")
                    written.put(put[-1])
                case ["bad", *_]:
                    bad += 1
                    written.writer.put(entry_of(Actor("x\0"), at=None, action="request", correlation_id=""))
                case ["flush", *_]:
                    await _flush(written)
                case ["cancel", *_]:
                    written.unsteady.faults.append(("hang", None))
                    task = asyncio.create_task(_flush(written))
                    hanging = asyncio.create_task(written.unsteady.hangs.wait())
                    await asyncio.wait((task, hanging), return_when=asyncio.FIRST_COMPLETED)
                    written.unsteady.hangs.clear()
                    for one in (task, hanging):
                        one.cancel()
                    await asyncio.wait((task, hanging))
                    written.unsteady.faults.clear()
                case [when, _, name]:
                    written.unsteady.faults.append((when, TRANSIENT[name]))
        written.unsteady.faults.clear()
        await written.writer.flush()
        names = await written.names()
        kept = [name for name in names if not name.startswith("lost")]
        said = sum(int(name.partition(" ")[2]) for name in names if name.startswith("lost"))
        assert kept == [name for name in put if name in kept]
        assert len(kept) + written.lost() == len(put) + bad
        assert said <= written.lost() <= said + bad


async def _flush(written: Written) -> None:
    try:
        await written.writer.flush()
    except tuple({type(error) for error in TRANSIENT.values()}):
        pass


# -- A clock that steps back. -----------------------------------------------------------------------------------------


async def _counted(database: Database) -> dict[datetime, int]:
    rows = await database.fetch("SELECT minute, sum((SELECT sum(n) FROM unnest(requests) AS n)) AS n "
                                "FROM audit.telemetry_minute GROUP BY minute")  # fmt: skip
    return {row["minute"]: int(row["n"]) for row in rows}


@settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-120, -60, -1, 0, 1, 30, 60, 61])), max_size=12))
async def test_requests_are_counted_however_the_clock_steps(access: Database, steps: list[tuple[int, int]]) -> None:
    await access.execute("TRUNCATE audit.telemetry_minute")
    written = Written(access)
    principal = Principal("device", UUID(int=7), None)
    wanted: dict[datetime, int] = {}
    minute = NOW
    for requests, step_s in steps:
        for _ in range(requests):
            written.writer.requests.telemetry.count(principal)
        if requests:
            wanted[minute] = wanted.get(minute, 0) + requests
        written.clock.set_wall(written.clock.now() + timedelta(seconds=step_s))
        written.writer.close_minute()
        minute = written.clock.now().replace(second=0, microsecond=0)
        await written.writer.flush()
    assert await _counted(access) == wanted


async def test_entries_are_in_the_order_in_which_they_came_though_the_clock_steps_back(written: Written) -> None:
    for number in range(3):
        written.clock.set_wall(NOW - timedelta(hours=number))
        written.writer.put(entry_of(ADA, at=written.clock.now(), action="request", correlation_id=str(number)))
        await written.writer.flush()
    assert await written.names() == ["0", "1", "2"]
