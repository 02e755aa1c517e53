"""Bounds of questions on a real PostgreSQL: a heavy one ends with its mend and holds up nobody."""

import asyncio
import contextvars
from collections.abc import AsyncIterator

import psycopg
import pytest

from kit.database.postgres import Database, open_database
from kit.database.questions import asked_by
from kit.database.write_probe import GOOD_S, WriteProbe
from kit.errors import TooSlow, Unavailable
from tests.waiting import eventually

_LONG = "SELECT pg_sleep(60)"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """With 4 connections: one token has 1 of them, questions have 3."""
    opened = await open_database(database_url, name="questions", connections_max=4, query_s_max=0.3)
    yield opened
    await opened.close()


@pytest.mark.parametrize("method", ["fetch", "fetchrow", "fetchval"])
async def test_a_question_that_takes_too_long_ends_and_says_to_ask_for_less(database: Database, method: str) -> None:
    with asked_by(lambda: "a"), pytest.raises(TooSlow, match=r"VOLTSTREAM_QUERY_S_MAX.*ask for less"):
        await getattr(database, method)(_LONG)
    assert await database.fetchval("SELECT 1") == 1


async def test_so_does_one_that_waits_for_a_lock(database: Database, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE held (n int)")
        connection.commit()
        connection.execute("LOCK TABLE held")
        with asked_by(lambda: "a"):
            with pytest.raises(TooSlow):
                await database.fetch("SELECT * FROM held")
            with pytest.raises(TooSlow):
                async with database.snapshot() as snapshot:
                    await snapshot.fetch("SELECT * FROM held")
        connection.rollback()
    with asked_by(lambda: "a"):
        assert await database.fetch("SELECT * FROM held") == []


async def test_a_query_that_is_no_question_has_no_such_bound(database: Database) -> None:
    assert await database.fetchval("SELECT 1 FROM pg_sleep(0.5)") == 1
    async with database.snapshot() as snapshot:
        assert await snapshot.fetchval("SELECT 1 FROM pg_sleep(0.5)") == 1
    with asked_by(lambda: "a"):
        async with database.snapshot(download=True) as snapshot:
            assert await snapshot.fetchval("SELECT 1 FROM pg_sleep(0.5)") == 1


async def test_heavy_questions_of_one_token_leave_connections_to_others_and_all_to_writers(
    database_url: str,
) -> None:
    database = await open_database(database_url, name="questions", connections_max=4, query_s_max=20)

    async def asking(token: str) -> None:
        with asked_by(lambda: token):
            await database.fetch(_LONG)

    async def active() -> int:
        found = await database.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query = $1", _LONG)
        return int(found)

    heavy = [asyncio.create_task(asking("a")) for _ in range(8)]
    try:
        await eventually(active, within_s=10)
        with asked_by(lambda: "b"):
            assert await database.fetchval("SELECT 1") == 1
        assert await active() == 1
        heavy += [asyncio.create_task(asking(token)) for token in "bcdef"]

        async def three() -> bool:
            return await active() == 3

        await eventually(three, within_s=10)
        assert await database.fetchval("SELECT 1") == 1, "whatever writes has a connection"
        assert await active() == 3
    finally:
        for task in heavy:
            task.cancel()
        await asyncio.gather(*heavy, return_exceptions=True)
        await database.close()


async def test_without_a_turn_in_time_a_question_is_answered_that_it_is_busy(database: Database) -> None:
    others: list[asyncio.Task[None]] = []

    async def hold() -> None:
        with asked_by(lambda: "a"):
            async with database.snapshot():
                assert await database.fetchval("SELECT 1") == 1, "a query within has the snapshot's turn"
                others.append(asyncio.create_task(_elsewhere(database)))
                await asyncio.wait(others)

    with pytest.raises(TooSlow, match="ask for less"):
        await hold()
    with pytest.raises(TooSlow, match="other questions"):
        await others[0]


async def test_a_question_waits_and_runs_within_one_bound(database_url: str) -> None:
    """Either part of 1.2 s of waiting and 1.6 s of running is within the bound of 2 s, and both are not."""
    database = await open_database(database_url, name="questions", connections_max=4, query_s_max=2)

    async def ask(seconds: float, *, snapshot: bool = False) -> None:
        with asked_by(lambda: "a"):
            if not snapshot:
                await database.fetchval("SELECT 1 FROM pg_sleep($1)", seconds)
                return
            async with database.snapshot() as connection:  # several statements have one bound, too
                for _ in range(2):
                    await connection.fetchval("SELECT 1 FROM pg_sleep($1)", seconds / 2)

    try:
        for snapshot in (False, True):
            first = asyncio.create_task(ask(1.2))
            await asyncio.sleep(0)
            with pytest.raises(TooSlow):
                await ask(1.6, snapshot=snapshot)
            await first
        async with database.snapshot(), database.snapshot(), database.snapshot(), database.snapshot():
            with pytest.raises(TooSlow, match="kept the database busy"):
                await ask(0)
        await ask(0)
    finally:
        await database.close()


async def _elsewhere(database: Database) -> None:
    """As another request of the same token."""

    async def ask() -> None:
        with asked_by(lambda: "a"):
            await database.fetch(_LONG)

    await asyncio.create_task(ask(), context=contextvars.Context())


class _Time:
    def __init__(self) -> None:
        self.now_s = 0.0


async def test_the_probe_fails_where_nothing_can_be_written_and_not_before_its_success_is_old(
    database: Database, database_url: str
) -> None:
    time = _Time()
    probe = WriteProbe(database, lambda: time.now_s)
    await probe.check()
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s"
        connection.execute(others, (name,))
    await probe.check()
    time.now_s = GOOD_S

    async def said() -> str:
        try:
            await probe.check()
        except Unavailable as error:
            return str(error)
        return ""

    async def read_only() -> bool:
        """First the pool finds that its connections are gone."""
        return "read-only" in await said()

    await eventually(read_only)


async def test_a_probe_leaves_room_in_a_log_and_needs_no_right(database: Database, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        before = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        await WriteProbe(database, lambda: 0.0).check()
        after = connection.execute("SELECT pg_current_wal_flush_lsn() > %s", before).fetchone()
    assert after == (True,), "the record is durable"
