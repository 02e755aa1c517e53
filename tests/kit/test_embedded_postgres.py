"""The embedded server: it keeps its data, has one owner, and is mended after any kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kit.database.embedded import EmbeddedPostgres, running_url
from kit.database.postgres import connect_sync
from kit.errors import ConfigError

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


def test_data_survive_a_restart_and_stop_leaves_nothing_running(tmp_path: Path) -> None:
    with EmbeddedPostgres.start(tmp_path) as server, connect_sync(server.url, name="test") as connection:
        assert running_url(tmp_path) == server.url
        connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    assert running_url(tmp_path) is None
    with EmbeddedPostgres.start(tmp_path) as server:
        assert _kept(server.url) == 7
        server.stop()
        server.stop()  # again: no effect


def test_a_folder_has_one_owner_at_a_time(embedded: EmbeddedPostgres, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"another voltstream .pid {os.getpid()}. runs on it"):
        EmbeddedPostgres.start(tmp_path / "data")
    with connect_sync(embedded.url, name="test") as connection:  # the owner has not noticed
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_durability_is_not_traded_for_speed(embedded: EmbeddedPostgres) -> None:
    with connect_sync(embedded.url, name="test") as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {name}".encode()).fetchone() == ("on",)
        assert connection.execute("SHOW max_wal_size").fetchone() == ("2GB",)  # our own settings are read


def test_the_next_owner_takes_over_from_a_killed_one_and_can_stop_its_server(tmp_path: Path) -> None:
    _killed_owner(tmp_path)
    assert running_url(tmp_path) is not None
    with EmbeddedPostgres.start(tmp_path) as server:
        assert _kept(server.url) == 7
    assert running_url(tmp_path) is None


def test_a_killed_server_recovers_also_where_another_program_has_its_pid(tmp_path: Path) -> None:
    _killed_owner(tmp_path)
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with EmbeddedPostgres.start(tmp_path) as server:
        assert _kept(server.url) == 7


def test_an_unfinished_first_start_is_put_aside(tmp_path: Path) -> None:
    half_made = tmp_path / "postgres"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres.start(tmp_path) as server, connect_sync(server.url, name="test") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert [path.name for path in tmp_path.glob("postgres.unfinished-*")]


def test_a_data_folder_that_is_a_file_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match="VOLTSTREAM_DATA_DIR="):
        EmbeddedPostgres.start(tmp_path / "data")


def test_a_blank_in_the_path_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="blank"):
        EmbeddedPostgres.start(tmp_path / "my data")
    assert not (tmp_path / "my data").exists()
