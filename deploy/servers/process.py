"""Starts a process in its own group, records it in a pid file, and ends it by its identity, never by name."""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

_POLL_S: Final = 0.02


class Identity(NamedTuple):
    """A process id with its start time, which distinguishes it from a later process with the same pid."""

    pid: int
    started_ticks: int


class Process:
    """At most one running process; it may outlive this one and is found again by its pid file."""

    def __init__(self, pid_file: Path, log_file: Path) -> None:
        self._pid_file = pid_file
        self._log_file = log_file
        self._child: subprocess.Popen[bytes] | None = None

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], user: str | None = None) -> None:
        """Start it in the background, as `user` if given (root only). Output is appended to the log file."""
        with self._log_file.open("ab") as log:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=self._pid_file.parent,
                start_new_session=True,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )
        pid = self._child.pid
        self._pid_file.write_text(f"{pid} {_started_ticks(pid) or 0}\n")

    @property
    def alive(self) -> bool:
        """Whether it runs (a zombie does not)."""
        return self._identity() is not None

    def terminate(self, signum: signal.Signals, within_s: float) -> bool:
        """Send it `signum` and wait; False if it still runs after `within_s`."""
        identity = self._identity()
        if identity is None:
            return True
        os.kill(identity.pid, signum)
        return self._gone([identity], within_s)

    def kill(self, within_s: float = 10.0) -> bool:
        """SIGKILL it, its group and all its descendants; False if one of them still exists after `within_s`."""
        identity = self._identity()
        if identity is None:
            return True
        family = [identity, *_descendants(identity.pid)]
        # PostgreSQL's backends and Erlang's helpers lead groups of their own, so the group alone is not enough.
        _signal_group(identity.pid, signal.SIGKILL)
        for member in family:
            if _same(member):
                _signal(member.pid, signal.SIGKILL)
        return self._gone(family, within_s)

    def _identity(self) -> Identity | None:
        if self._child is not None:
            self._child.poll()
        try:
            pid, started_ticks = map(int, self._pid_file.read_text().split())
        except (OSError, ValueError):
            return None
        identity = Identity(pid, started_ticks)
        return identity if _same(identity) else None

    def _gone(self, family: list[Identity], within_s: float) -> bool:
        deadline_s = time.monotonic() + within_s
        while any(_same(member) for member in family):
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_POLL_S)
            if self._child is not None:
                self._child.poll()
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._pid_file.unlink(missing_ok=True)
        return True


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on, or None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _started_ticks(pid: int) -> int | None:
    """Its start time in ticks, or None if it has ended."""
    fields = _stat(pid)
    if fields is None:
        return None
    state, threads = fields[0], int(fields[17])
    # A zombie whose other threads are still ending holds its ports and files: it has not ended yet.
    return None if state in "ZX" and threads <= 1 else int(fields[19])


def _same(identity: Identity) -> bool:
    return _started_ticks(identity.pid) == identity.started_ticks


def _descendants(pid: int) -> list[Identity]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[Identity] = []
    queue = [pid]
    while queue:
        for child in children.get(queue.pop(), []):
            queue.append(child)
            if (started_ticks := _started_ticks(child)) is not None:
                found.append(Identity(child, started_ticks))
    return found


def _signal(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


def _signal_group(pid: int, signum: signal.Signals) -> None:
    try:
        os.killpg(pid, signum)
    except ProcessLookupError:
        return
