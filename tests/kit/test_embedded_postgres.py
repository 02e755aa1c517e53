"""The embedded server: it keeps its data, has one owner, and recovers after any kill."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from kit.database.embedded import EmbeddedPostgres, running_url
from kit.database.postgres import connect_sync
from kit.errors import ConfigError, DatabaseLost
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

_KILLED_OWNER = """
import os, signal, sys
from pathlib import Path
from kit.database.embedded import EmbeddedPostgres
from kit.database.postgres import connect_sync

server = EmbeddedPostgres.start(Path(sys.argv[1]))
with connect_sync(server.url, name="test") as connection:
    connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
os.kill(os.getpid(), signal.SIGKILL)
"""


def _kept(url: str) -> int:
    with connect_sync(url, name="test") as connection:
        row = connection.execute("SELECT n FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def _killed_owner(data_dir: Path) -> None:
    command = [sys.executable, "-c", _KILLED_OWNER, str(data_dir)]
    done = subprocess.run(command, check=False)
    assert done.returncode == -signal.SIGKILL


async def _kill(server: EmbeddedPostgres) -> None:
    """As the kernel does when memory is short: the server's main process alone."""
    os.kill(server.pid, signal.SIGKILL)
    await eventually(lambda: not server.running)


@asynccontextmanager
async def _busy_backend(url: str) -> AsyncIterator[None]:
    """A backend computes within the block, and checks nothing else meanwhile."""

    def compute() -> None:
        with pytest.raises(psycopg.OperationalError), connect_sync(url, name="busy") as connection:
            connection.execute("SELECT count(*) FROM generate_series(1, 1000000000) AS a (n) WHERE n % 7 = 3")

    def active() -> bool:
        with connect_sync(url, name="test") as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'busy' AND state = 'active'"
            )
            return found.fetchone() == (1,)

    computing = asyncio.create_task(asyncio.to_thread(compute))
    await eventually(active)
    yield
    await computing


def test_data_survive_a_restart_and_stop_leaves_nothing_running(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir) as server, connect_sync(server.url, name="test") as connection:
        assert running_url(data_dir) == server.url
        connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    assert running_url(data_dir) is None
    with EmbeddedPostgres.start(data_dir) as server:
        assert _kept(server.url) == 7
        server.stop()
        server.stop()  # again: no effect


def test_a_folder_has_one_owner_at_a_time(embedded: EmbeddedPostgres, data_dir: Path) -> None:
    with pytest.raises(ConfigError, match=f"another voltstream .pid {os.getpid()}. runs on it"):
        EmbeddedPostgres.start(data_dir)
    with connect_sync(embedded.url, name="test") as connection:  # the owner has not noticed
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_durability_is_not_traded_for_speed(embedded: EmbeddedPostgres) -> None:
    with connect_sync(embedded.url, name="test") as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {name}".encode()).fetchone() == ("on",)
        assert connection.execute("SHOW max_wal_size").fetchone() == ("2GB",)  # our own settings are read


def test_the_next_owner_takes_over_from_a_killed_one_and_can_stop_its_server(data_dir: Path) -> None:
    _killed_owner(data_dir)
    assert running_url(data_dir) is not None
    with EmbeddedPostgres.start(data_dir) as server:
        assert _kept(server.url) == 7
    assert running_url(data_dir) is None


def test_a_killed_server_recovers_also_where_another_program_has_its_pid(data_dir: Path) -> None:
    _killed_owner(data_dir)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with EmbeddedPostgres.start(data_dir) as server:
        assert _kept(server.url) == 7


def test_an_unfinished_first_start_is_put_aside(data_dir: Path) -> None:
    half_made = data_dir / "postgres"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres.start(data_dir) as server, connect_sync(server.url, name="test") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert [path.name for path in data_dir.glob("postgres.unfinished-*")]


def test_a_data_folder_that_is_a_file_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match="VOLTSTREAM_DATA_DIR="):
        EmbeddedPostgres.start(tmp_path / "data")


def test_a_blank_in_the_path_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="blank"):
        EmbeddedPostgres.start(tmp_path / "my data")
    assert not (tmp_path / "my data").exists()


async def test_a_killed_server_is_started_again_with_its_data_and_url(
    embedded: EmbeddedPostgres,
) -> None:
    with connect_sync(embedded.url, name="test") as connection:
        connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    url, pid = embedded.url, embedded.pid
    for _ in range(2):
        await _kill(embedded)
        embedded.restart()
        assert embedded.running
        assert _kept(url) == 7
    assert (embedded.url, embedded.pid == pid) == (url, False)


async def test_a_busy_backend_of_a_killed_server_does_not_delay_its_restart(
    embedded: EmbeddedPostgres,
) -> None:
    async with _busy_backend(embedded.url):
        await _kill(embedded)
        embedded.restart()
    with connect_sync(embedded.url, name="test") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


async def test_a_server_that_was_killed_while_it_started_is_started_again(
    embedded: EmbeddedPostgres, data_dir: Path
) -> None:
    await _kill(embedded)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    pid_file.write_text("".join(pid_file.read_text().splitlines(keepends=True)[:5]))  # all that it writes at first
    embedded.restart()
    assert running_url(data_dir) == embedded.url


def test_a_crashed_backend_is_the_servers_own_business(embedded: EmbeddedPostgres) -> None:
    with connect_sync(embedded.url, name="test") as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert embedded.running


async def test_where_the_data_are_gone_the_server_is_lost_and_no_empty_one_takes_its_place(
    embedded: EmbeddedPostgres, data_dir: Path
) -> None:
    await _kill(embedded)
    folder = data_dir / "postgres"
    folder.rename(data_dir.parent / "elsewhere")
    with pytest.raises(DatabaseLost, match="PG_VERSION is gone"):
        embedded.restart()
    assert not folder.exists()


async def test_a_server_that_refuses_to_start_is_lost_with_its_own_last_words(
    embedded: EmbeddedPostgres, data_dir: Path
) -> None:
    await _kill(embedded)
    (data_dir / "postgres" / "postgresql.conf").write_text("nonsense\n")
    with pytest.raises(DatabaseLost, match=r"cannot be started again: .*postgresql\.conf.* contains errors"):
        embedded.restart()


def test_a_stopped_server_is_not_started_again(embedded: EmbeddedPostgres, data_dir: Path) -> None:
    embedded.stop()
    embedded.restart()
    assert running_url(data_dir) is None


def test_a_server_that_dies_while_it_is_being_stopped_is_stopped(
    embedded: EmbeddedPostgres, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = embedded.pid

    def dies() -> None:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(embedded._server, "cleanup", dies)
    embedded.stop()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    with EmbeddedPostgres.start(data_dir) as again:
        assert again.pid != pid
