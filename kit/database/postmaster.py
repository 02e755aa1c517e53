"""The processes of a PostgreSQL data folder: its pid file, its live or dead postmaster, orphaned backends, the log."""

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

LOG_FILE: Final = "log"
_PID_FILE: Final = "postmaster.pid"
_PID_FILE_LINES: Final = 8  # pid, data folder, start time, port, socket folder, host, shared memory, status
_SOCKET_DIR, _STATUS = 4, 7  # of those
_UNUSED_PID: Final = 4_194_304  # one above the highest that Linux gives; far above macOS's
_SHUTDOWN_S_MAX: Final = 10.0  # for a server that was still recovering; its next start continues that
_LOG_TAIL_BYTES: Final = 8_192  # the messages of one failed start
_LOG_ERROR_LEVELS: Final = ("FATAL:", "PANIC:")


def ready_socket_dir(folder: Path) -> Path | None:
    """The socket folder of the server of this data folder, if it accepts connections."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = _pid_file_lines(folder)
        if lines[_STATUS].strip() == "ready" and _is_postgres(int(lines[0])):
            return Path(lines[_SOCKET_DIR])
    return None


def postmaster_of(folder: Path) -> psutil.Process | None:
    """The main process of this data folder's server, whether it accepts connections yet or not."""
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        pid = int(_pid_file_lines(folder)[0])
        if _is_postgres(pid) and _works_in(process := psutil.Process(pid), folder):
            return process
    return None


def clear_stale_pids(folder: Path) -> None:
    """Mark pid files as stale whose server is dead, and end that server's backends."""
    # With a dead owner's pid in this file the wheel's code would never stop the server.
    (folder / ".handle_pids.json").unlink(missing_ok=True)
    for pid_file in (folder / _PID_FILE, *folder.glob(".s.PGSQL.*.lock")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = pid_file.read_text().splitlines()
            if not _is_postgres(int(lines[0])):
                # Not removed: with the rest of it the server checks whether shared memory is still in use. The wheel's
                # code wants all eight lines; a server that was killed while it started has written fewer.
                padding = [""] * (_PID_FILE_LINES - len(lines)) if pid_file.name == _PID_FILE else []
                pid_file.write_text(_text([str(_UNUSED_PID), *lines[1:], *padding]))
                _quit_orphaned_backends(folder)


def shut_down(folder: Path) -> None:
    """Stop this data folder's server, if it runs. Blocks, `_SHUTDOWN_S_MAX` at most."""
    if (postmaster := postmaster_of(folder)) is not None:
        with contextlib.suppress(psutil.Error):
            postmaster.send_signal(signal.SIGINT)  # a fast shutdown: running transactions are rolled back
            postmaster.wait(_SHUTDOWN_S_MAX)


def signal_server(folder: Path, number: signal.Signals) -> None:
    """Send a signal to all processes of this data folder's server, its main process first."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "postgres" and _works_in(process, folder):
                processes.append(process)
    postmaster = postmaster_of(folder)
    for process in sorted(processes, key=lambda one: one != postmaster):
        with contextlib.suppress(psutil.Error, OSError):
            process.send_signal(number)


def last_error_logged(folder: Path) -> str | None:
    """The last line in the server's log that says why it ended."""
    try:
        with (folder / LOG_FILE).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    errors = [line.strip() for line in lines if any(level in line for level in _LOG_ERROR_LEVELS)]
    return errors[-1] if errors else None


def _pid_file_lines(folder: Path) -> list[str]:
    return (folder / _PID_FILE).read_text().splitlines()


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _is_postgres(pid: int) -> bool:
    """After a reboot, or in a new container, a pid in a file may be any program's; the wheel's code would trust it."""
    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # another user's: it may be one


def _works_in(process: psutil.Process, folder: Path) -> bool:
    """Every process of a server has its data folder as working directory."""
    return Path(process.cwd()) == folder.resolve()


def _quit_orphaned_backends(folder: Path) -> None:
    """End the backends of a killed server: while one runs a statement, no new server starts.

    They get what a living postmaster sends them when one of them crashes: SIGQUIT, exit at once.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "postgres" and _works_in(process, folder):
                process.send_signal(signal.SIGQUIT)
