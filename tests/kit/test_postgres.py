"""Connections: what is an outage, what is a mistake, and what a role may see."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from kit.database import postgres
from kit.database.postgres import Database, connect_sync, open_database, outages
from kit.database.query_metrics import QueryMetrics
from kit.database.roles import Grant, ensure_roles
from kit.errors import ConfigError, Contended, Unavailable
from tests.waiting import eventually

_ROLES = ("kit_test_reader", "kit_test_writer")


@pytest.fixture
def shop_url(database_url: str) -> Iterator[str]:
    """A database with two schemas, a role that reads one and a role that writes it."""
    with connect_sync(database_url, name="test") as connection:
        connection.execute("CREATE SCHEMA shop; CREATE TABLE shop.item (id int GENERATED ALWAYS AS IDENTITY, n int)")
        connection.execute("CREATE SCHEMA other; CREATE TABLE other.secret (n int)")
    grants = [Grant(_ROLES[0], "shop", write=False), Grant(_ROLES[1], "shop")]
    ensure_roles(database_url, grants)
    ensure_roles(database_url, grants)  # again: no effect, no error
    yield database_url
    with connect_sync(database_url, name="test") as connection:
        for role in _ROLES:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


async def test_a_role_sees_its_schema_and_nothing_else(shop_url: str) -> None:
    reader = await open_database(shop_url, name="test", role=_ROLES[0])
    writer = await open_database(shop_url, name="test", role=_ROLES[1])
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(reader.close)
        stack.push_async_callback(writer.close)
        assert await writer.fetchval("INSERT INTO shop.item (n) VALUES (7) RETURNING id") == 1
        assert await reader.fetchval("SELECT n FROM shop.item") == 7
        for database, forbidden in (
            (reader, "INSERT INTO shop.item (n) VALUES (8)"),
            (reader, "SELECT * FROM other.secret"),
            (writer, "SELECT * FROM other.secret"),
            (writer, "DROP TABLE shop.item"),
            (writer, "CREATE TABLE shop.mine (n int)"),
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await database.execute(forbidden)


async def test_a_role_has_its_rights_on_tables_made_later(shop_url: str) -> None:
    with connect_sync(shop_url, name="test") as connection:
        connection.execute("CREATE TABLE shop.later (n int)")
    with connect_sync(shop_url, name="test", role=_ROLES[1]) as connection:
        assert connection.execute("INSERT INTO shop.later VALUES (1) RETURNING n").fetchone() == (1,)


async def test_a_transaction_is_whole_or_not_at_all(shop_url: str) -> None:
    database = await open_database(shop_url, name="test")

    async def insert_and_fail() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO shop.item (n) VALUES (1)")
            await connection.execute("SELECT 1 / 0")

    with pytest.raises(asyncpg.DivisionByZeroError):
        await insert_and_fail()
    assert await database.fetchval("SELECT count(*) FROM shop.item") == 0
    await database.close()


async def test_a_server_that_is_not_there_is_an_outage(unused_port: int) -> None:
    url = f"postgresql://u:hush@127.0.0.1:{unused_port}/d"
    with pytest.raises(Unavailable) as raised:
        await open_database(url, name="test")
    assert "hush" not in str(raised.value)
    with pytest.raises(Unavailable):
        connect_sync(url, name="test")


async def test_a_connection_cut_by_the_server_is_an_outage(database_url: str) -> None:
    database = await open_database(database_url, name="test", connections_max=1)
    cut = connect_sync(database_url, name="test")
    with pytest.raises(Unavailable):
        await database.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(Unavailable), outages():
        cut.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    cut.close()
    assert await database.fetchval("SELECT 1") == 1  # the pool has made a new one
    await database.close()


def test_a_connection_that_the_server_is_just_ending_is_an_outage() -> None:
    with pytest.raises(Unavailable), outages():
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")


async def test_of_two_transactions_in_a_deadlock_one_is_told_to_try_again(database_url: str) -> None:
    database, both = await open_database(database_url, name="test"), asyncio.Barrier(2)
    await database.execute("CREATE TABLE contended (id int PRIMARY KEY, n int NOT NULL)")
    await database.execute("INSERT INTO contended VALUES (1, 0), (2, 0)")

    async def change(first: int, second: int) -> None:
        async with database.transaction() as transaction:
            await transaction.execute("UPDATE contended SET n = n + 1 WHERE id = $1", first)
            await both.wait()
            await transaction.execute("UPDATE contended SET n = n + 1 WHERE id = $1", second)

    outcomes = await asyncio.gather(change(1, 2), change(2, 1), return_exceptions=True)
    (failed,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(failed, Contended)
    assert "deadlock" in str(failed)
    assert await database.fetchval("SELECT sum(n) FROM contended") == 2
    await database.close()


async def test_a_closed_database_is_an_outage_and_not_a_crash(database_url: str) -> None:
    database = await open_database(database_url, name="test")
    await database.close()
    with pytest.raises(Unavailable):
        await database.ping()


async def test_a_thread_asks_on_a_connection_of_its_own_made_anew_after_an_outage(database_url: str) -> None:
    database = await open_database(database_url, name="test")

    def asked(query: str, *args: object) -> Coroutine[Any, Any, list[tuple[Any, ...]]]:
        return asyncio.to_thread(database.fetch_blocking, query, *args)

    assert await asked("SELECT n FROM unnest($1::int[]) AS n WHERE n > $2", [1, 2, 3], 1) == [(2,), (3,)]
    with pytest.raises(Unavailable):
        await asked("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await asked("SELECT 1") == [(1,)]
    with pytest.raises(psycopg.errors.UndefinedTable):
        await asked("SELECT * FROM nowhere")
    assert await asked("SELECT 1") == [(1,)]
    await database.close()
    with pytest.raises(Unavailable):
        await asked("SELECT 1")


async def test_a_server_that_stops_answering_holds_no_thread(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_QUERY_S", 0.2)
    monkeypatch.setattr(postgres, "_CANCEL_S", 0.2)
    database = await open_database(database_url, name="test")
    with pytest.raises(psycopg.errors.QueryCanceled):  # the server ends what takes too long
        await asyncio.to_thread(database.fetch_blocking, "SELECT pg_sleep(600)")
    ((backend,),) = await asyncio.to_thread(database.fetch_blocking, "SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)  # its kernel still acknowledges what is sent
    try:
        with pytest.raises(Unavailable):
            await asyncio.to_thread(database.fetch_blocking, "SELECT 1")
        assert await asyncio.to_thread(database.fetch_blocking, "SELECT 1") == [(1,)], "on another connection"
    finally:
        os.kill(backend, signal.SIGCONT)
    await database.close()


async def test_closing_ends_what_a_thread_asks(database_url: str) -> None:
    database = await open_database(database_url, name="test")
    watch = await open_database(database_url, name="watch")
    asking = asyncio.create_task(asyncio.to_thread(database.fetch_blocking, "SELECT pg_sleep(600)"))
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND application_name = 'test'"
    await eventually(lambda: watch.fetchval(running))
    await database.close()
    with pytest.raises(Unavailable):
        await asking
    await watch.close()


async def test_wrong_login_or_database_is_a_wrong_setting(database_url: str) -> None:
    parts = urlsplit(database_url)
    for url in (
        parts._replace(path="/no_such_database").geturl(),
        parts._replace(netloc=f"no_such_user:hush@{parts.netloc.rpartition('@')[2]}").geturl(),
    ):
        with pytest.raises(ConfigError, match="VOLTSTREAM_DATABASE_URL") as raised:
            await open_database(url, name="test")
        assert "hush" not in str(raised.value)
        with pytest.raises(ConfigError, match="VOLTSTREAM_DATABASE_URL"):
            connect_sync(url, name="test")


async def test_a_mistake_in_a_query_is_no_outage(access: Database, database_url: str) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await access.fetch("SELECT * FROM nowhere")
    with pytest.raises(psycopg.errors.UndefinedTable), outages(), connect_sync(database_url, name="test") as connection:
        connection.execute("SELECT * FROM nowhere")


async def test_every_query_of_a_pool_is_measured_by_kind_of_statement(database_url: str) -> None:
    registry = CollectorRegistry()
    metrics = QueryMetrics(registry)
    database = await open_database(database_url, name="test", on_query=metrics.of("shop"))

    def count(statement: str) -> float | None:
        return registry.get_sample_value("db_query_duration_seconds_count", {"pool": "shop", "statement": statement})

    try:
        await eventually(lambda: count("select") == 1)  # what opening it asks
        await database.execute("  create table item (n int)")
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO item VALUES ($1)", 1)
            await connection.executemany("INSERT INTO item VALUES ($1)", [(2,), (3,)])
        with pytest.raises(asyncpg.UndefinedTableError):
            await database.fetch("SELECT * FROM nothing")
        expected = {"select": 2, "other": 1, "begin": 1, "insert": 2, "commit": 1, "delete": 0}
        await eventually(lambda: {name: count(name) for name in expected} == expected)
    finally:
        await database.close()
