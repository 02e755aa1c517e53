"""Restores through TLS, by a Unix socket, by a login that is no superuser, and killed while a database is replaced."""

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from deploy.servers import Postgres
from kit.database.login import connection_url
from kit.database.postgres import connect_sync
from kit.lake.folder import LakeFolder
from tests.private_servers import fresh_database
from tests.streams.lake_fleet import fill, move
from tests.voltstream.platform import ENOUGH_S, ROOT, environment
from tests.voltstream.test_backups import ask, checked
from tests.waiting import eventually
from voltstream.backups import store
from voltstream.backups.ending import ending_sessions
from voltstream.backups.restoring import Restored, RestorePlan, restore_backup
from voltstream.backups.store import named_url, restoring_alone, take_place
from voltstream.backups.taking import BackupPlan, take_backup
from voltstream.backups.tools import Tools, run_tool
from voltstream.errors import BackupFailed

pytestmark = pytest.mark.usefixtures("processes")


def _nothing(_what: str, _done: int, _total: int) -> None:
    """No progress is shown."""


@pytest.fixture(scope="module")
def backup(postgres_url: str, tmp_path_factory: pytest.TempPathFactory, seed: int) -> Path:
    """Of a fleet, with a lake; the lake itself lies beside it."""
    folder = tmp_path_factory.mktemp("backups")
    with fresh_database(postgres_url) as url:
        fill(url, seed)
        move(url, folder / "lake")
        take_backup(BackupPlan(url, folder / "backup", LakeFolder.at(str(folder / "lake")), True, 2), _nothing)
    return folder / "backup"


def restore(backup: Path, url: str, lake: Path, **options: Any) -> Restored:
    plan: dict[str, Any] = {"replace": False, "lake": LakeFolder.at(str(lake)), "jobs": 2} | options
    return restore_backup(RestorePlan(backup, url, **plan), _nothing)


def test_a_platform_with_a_ca_of_its_own_is_restored(
    backup: Path, tls_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = named_url(tls_url("postgres"), f"restored_{uuid4().hex}")
    restore(backup, url, tmp_path / "lake")
    with connect_sync(url, name="test") as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
        assert connection.execute("SELECT count(*) > 0 FROM telemetry.reading").fetchone() == (True,)
    with psycopg.connect(connection_url(tls_url("postgres")), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {store.database_name(url)}")


# -- a login that is no superuser, by a socket -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def socket_url() -> Iterator[str]:
    """Of a server of its own, on which autovacuum is always at work; as its superuser, by a socket.

    Its version is the embedded one's, later than 15, with which rights of who makes roles became narrower.
    """
    with tempfile.TemporaryDirectory(prefix="voltstream-") as folder:
        home = Path(folder)
        home.chmod(0o777)  # it runs as another account
        settings = {"unix_socket_directories": folder, "autovacuum_naptime": "1s", "shared_buffers": "32MB"}
        server = Postgres(home / "server", settings)
        try:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("deploy.servers.postgres.installed_binaries", lambda: None)
                server.start()
            yield f"postgresql:///postgres?host={folder}&port={server.port()}&user=voltstream"
        finally:
            server.destroy()


@pytest.fixture(scope="module")
def keeper_url(socket_url: str) -> str:
    """The same server for a login that owns its database and has what the runbook asks for."""
    with psycopg.connect(socket_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE keeper LOGIN CREATEDB CREATEROLE")
        connection.execute("CREATE DATABASE platform OWNER keeper")
    return named_url(socket_url, "platform").replace("user=voltstream", "user=keeper")


def _vacuumed(url: str) -> Callable[[], bool]:
    """Whether autovacuum is at work in the database, where it has a table that takes it long."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE slow (at int) WITH (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, "
            "autovacuum_vacuum_threshold = 0, autovacuum_vacuum_insert_threshold = 0)"
        )
        connection.execute("INSERT INTO slow SELECT * FROM generate_series(1, 100000)")
        connection.execute("DELETE FROM slow WHERE at % 2 = 0")
    return lambda: bool(ask(url, _VACUUMS))


_VACUUMS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND usesysid IS NULL"


async def test_a_login_that_is_no_superuser_restores_by_a_socket_whoever_is_at_work(
    backup: Path, keeper_url: str, tmp_path: Path
) -> None:
    first = await asyncio.to_thread(restore, backup, keeper_url, tmp_path / "lake")
    assert first.kept_as is None, "it was empty"
    await eventually(_vacuumed(keeper_url), within_s=ENOUGH_S)
    with psycopg.connect(keeper_url) as client:
        options = {"replace": True, "last_document": "2033-0000017"}
        second = await asyncio.to_thread(restore, backup, keeper_url, tmp_path / "lake", **options)
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
    assert second.kept_as is not None
    assert ask(named_url(keeper_url, second.kept_as), "SELECT count(*) FROM slow") == [(50_000,)]
    found = await asyncio.to_thread(checked, keeper_url, tmp_path / "lake")
    assert [check.faults for check in found.values() if not check.ok] == []
    await eventually(_vacuumed(keeper_url), within_s=ENOUGH_S)
    with restoring_alone(keeper_url) as connection:
        store.drop_database(connection, second.kept_as)
        assert not store.exists(connection, second.kept_as)
        store.drop_database(connection, "platform")
        assert not store.exists(connection, "platform")


# -- who may restore ---------------------------------------------------------------------------------------------------


@contextmanager
def _logins(url: str, **rights: str) -> Iterator[dict[str, str]]:
    """The URL of a database of their own, for new logins with these rights."""
    word = uuid4().hex[:8]
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            for name, right in rights.items():
                connection.execute(f"CREATE ROLE {name}_{word} LOGIN {right}".encode())
            connection.execute(f"CREATE DATABASE owned_{word} OWNER {next(iter(rights))}_{word}".encode())
            yield {
                name: f"{named_url(url, f'owned_{word}')}".replace("voltstream@", f"{name}_{word}@") for name in rights
            }
        finally:
            connection.execute(f"DROP DATABASE owned_{word} WITH (FORCE)".encode())
            for name in rights:
                connection.execute(f"DROP ROLE {name}_{word}".encode())


def test_what_a_login_lacks_for_a_restore_is_said_before_it_begins(postgres_url: str) -> None:
    rights = {"owner": "CREATEDB", "weak": "", "stranger": "CREATEDB", "guest": ""}
    with _logins(postgres_url, **rights) as urls:
        for name, words in {
            "weak": "give it CREATEDB",
            "stranger": r"is owner_\w+'s, so that the login stranger",
        }.items():
            with pytest.raises(BackupFailed, match=words), restoring_alone(urls[name]):
                pass
        for guest in (urls["guest"], named_url(postgres_url, store.database_name(urls["owner"]))):
            with psycopg.connect(guest, application_name="voltstream worker") as session:
                row = session.execute("SELECT current_user").fetchone()
                assert row is not None
                with (
                    pytest.raises(BackupFailed, match=rf"sessions of {row[0]} are connected .*pg_signal_backend"),
                    restoring_alone(urls["owner"]),
                ):
                    pass
                with psycopg.connect(urls["owner"]) as owner:
                    assert store.connected(owner, owner.info.dbname) == ["voltstream worker (1)"]
        with restoring_alone(urls["owner"]):
            pass


# -- the place of another database -------------------------------------------------------------------------------------


@pytest.fixture
def pair(postgres_url: str) -> Iterator[tuple[str, str]]:
    """The URL of a database, and the name of the one that is to take its place, which has a table `new`."""
    word = uuid4().hex[:8]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        try:
            connection.execute(f"CREATE DATABASE live_{word}".encode())
            connection.execute(f"CREATE DATABASE new_{word}".encode())
            with psycopg.connect(named_url(postgres_url, f"new_{word}")) as made:
                made.execute("CREATE TABLE new ()")
            yield named_url(postgres_url, f"live_{word}"), f"new_{word}"
        finally:
            for name in (f"live_{word}", f"new_{word}", f"old_{word}"):
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


def _is_new(url: str) -> bool:
    """Whether the database is the new one. It lets everybody in."""
    return ask(url, "SELECT to_regclass('new') IS NOT NULL") == [(True,)]


def _take_place(url: str, new: str) -> None:
    with restoring_alone(url) as connection:
        take_place(connection, url, new, store.database_name(url), new.replace("new_", "old_"))


def test_a_database_is_replaced_though_its_clients_come_back_at_once(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, new = pair
    rename, late = store._rename, list[psycopg.Connection[Any]]()

    def renamed_late(*arguments: Any) -> None:
        late.append(psycopg.connect(url))
        rename(*arguments)

    monkeypatch.setattr(store, "_rename", renamed_late)
    done, came = threading.Event(), threading.Semaphore(0)

    def come_back() -> None:
        while not done.is_set():
            with suppress(psycopg.OperationalError), psycopg.connect(url) as client:
                came.release()
                client.execute("SELECT pg_sleep(60)")

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(come_back) for _ in range(4)]
        for _ in clients:
            came.acquire()
        try:
            _take_place(url, new)
            with pytest.raises(psycopg.OperationalError):
                late[0].execute("SELECT 1")
        finally:
            done.set()
            with restoring_alone(url) as connection, ending_sessions(connection, [store.database_name(url)]):
                for client in clients:
                    client.result()
    assert _is_new(url)
    assert not _is_new(named_url(url, new.replace("new_", "old_")))


class _Interrupted(psycopg.Connection[tuple[Any, ...]]):
    """Of which the statement with this number is interrupted, before or after it is done."""

    left = 0
    after = False

    def execute(self, *arguments: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise KeyboardInterrupt
        done = super().execute(*arguments, **options)
        if self.left == 0:
            raise KeyboardInterrupt
        return done


@pytest.mark.parametrize("after", [False, True])
def test_who_interrupts_the_replacement_of_a_database_finds_it_as_it_was(pair: tuple[str, str], after: bool) -> None:
    url, new = pair
    old, interrupted = new.replace("new_", "old_"), 0
    with _Interrupted.connect(named_url(url, "postgres"), autocommit=True) as connection:
        while not _is_new(url):
            connection.left, connection.after = (interrupted := interrupted + 1), after
            with suppress(KeyboardInterrupt):
                take_place(connection, url, new, store.database_name(url), old)
                break
            assert not _is_new(url)
    assert interrupted > 2
    assert _is_new(url)
    assert not _is_new(named_url(url, old))


def test_a_restore_that_is_killed_while_it_replaces_a_database_leaves_it_as_it_was(pair: tuple[str, str]) -> None:
    url, new = pair
    program = f"""
import sys
from tests.voltstream import test_backup_servers as tests
from voltstream.backups import store
class StandsStill:
    def __init__(self, *names):
        self.names = names
    def __iter__(self):
        yield self.names[0]
        print("there", flush=True)
        sys.stdin.read()
real = store._rename
store._rename = lambda connection, names: real(connection, StandsStill(*names))
tests._take_place({str(url)!r}, {new!r})
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n", "it is renamed, and nobody knows it yet"
        process.send_signal(signal.SIGKILL)
        process.wait(ENOUGH_S)
    assert not _is_new(url)

    def again() -> bool:
        with suppress(BackupFailed):  # until the server has noticed
            _take_place(url, new)
        return _is_new(url)

    asyncio.run(eventually(again, within_s=ENOUGH_S))


def test_a_database_that_was_left_closed_is_opened_by_the_next_restore(pair: tuple[str, str]) -> None:
    """As restores of earlier versions left it when they were killed."""
    url, _ = pair
    with psycopg.connect(named_url(url, "postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {store.database_name(url)} ALLOW_CONNECTIONS false".encode())
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        ask(url, "SELECT 1")
    with restoring_alone(url):
        assert ask(url, "SELECT 1") == [(1,)]


# -- what a tool is given ----------------------------------------------------------------------------------------------


def test_a_tools_secrets_are_in_no_argument_and_no_file_that_stays(tmp_path: Path) -> None:
    tool = tmp_path / "pg_dump"
    tool.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/said\n(cat "$PGSERVICEFILE"; echo "$PGPASSWORD") > {tmp_path}/had\n'
    )
    tool.chmod(0o755)
    url = "postgresql://u:quiet@h/d?sslcert=/c&sslkey=/k&sslpassword=hush"
    run_tool(Tools(tmp_path, 15), "pg_dump", url, ("--jobs=2",))
    assert (tmp_path / "said").read_text().split()[:2] == ["--verbose", "--no-password"]
    assert not {"hush", "quiet"} & {*re.split(r"[^a-z]", (tmp_path / "said").read_text())}
    assert (tmp_path / "had").read_text() == "[voltstream]\nsslkey=/k\nsslpassword=hush\nquiet\n"
