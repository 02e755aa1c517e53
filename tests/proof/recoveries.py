"""What comes back by itself, and in what time: `python -m tests.proof.recoveries [--times N] [NAME …]` prints the table
of ARCHITECTURE.md.

Back means all of it: /ready says so, a reading posted then is acknowledged and stored, and the ledger of readings is
closed. Seconds count from the fault where nobody has to do anything, else from the moment its cause is gone.
"""

import argparse
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx

from kit.database.postmaster import signal_server
from kit.database.supervision import DEATHS_MAX, DEATHS_WINDOW_S
from tests.private_servers import PrivateServers, fresh_database
from tests.voltstream.platform import Up, readings, up

DISK_BYTES: Final = 512 << 20  # of the disk that is filled
_ENOUGH_S: Final = 300.0  # a bound against hanging
_POLL_S: Final = 0.05
_AWAY_S: Final = 5.0  # how long what is stopped stays away
_BETWEEN_S: Final = DEATHS_WINDOW_S / (DEATHS_MAX - 1) + 1.0  # a database that dies more often ends the platform
EMBEDDED: Final = ("embedded PostgreSQL killed", "embedded PostgreSQL hung (SIGSTOP)", "disk full")
AWAY: Final = ("postgres", "rabbitmq", "kafka", "redis")


class Station:
    """Posts one reading after the other, and knows how many were acknowledged."""

    def __init__(self, platform: Up) -> None:
        self._platform = platform
        self._start_ms = int((time.time() - 3_000) * 1_000)
        self._id = f"R-{os.urandom(4).hex()}".upper()
        self._number = 0

    def posts(self) -> int:
        """The status of a post; 0: no answer."""
        self._number += 1
        sent = readings(self._id, 1, self._start_ms + self._number * 1_000, first_seq=self._number)
        try:
            return self._platform.post(sent).status_code
        except httpx.HTTPError:
            return 0


def is_back(platform: Up, station: Station) -> bool:
    """Whether everything works, now."""
    try:
        ready = httpx.get(f"{platform.api}/ready", timeout=10, trust_env=False).status_code
        return ready == 200 and station.posts() == 202 and bool(platform.ledger()["closed"])
    except (httpx.HTTPError, AssertionError):  # no answer, or an answer that is no 200
        return False


def seconds_until(condition: Callable[[], bool]) -> float:
    """How long it takes. Raises TimeoutError."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > _ENOUGH_S:
            raise TimeoutError(f"not within {_ENOUGH_S:.0f} s")
        time.sleep(_POLL_S)
    return time.monotonic() - began_s


@contextmanager
def small_disk(size_bytes: int = DISK_BYTES) -> Iterator[Path]:
    """A folder on a disk of its own of that size. Raises OSError where this account may not mount one."""
    with tempfile.TemporaryDirectory(prefix="voltstream-disk-") as folder, disk_at(Path(folder), size_bytes):
        yield Path(folder)


@contextmanager
def disk_at(folder: Path, size_bytes: int) -> Iterator[None]:
    """That folder is a disk of its own within the block; in memory, so what is synchronised is not safer there. Raises
    OSError where this account may not mount one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0755", "voltstream", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise OSError(f"no disk can be mounted: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607  # as `mount`


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Nothing is free on that disk within the block."""
    filler = folder / "filler"
    block = bytes(1 << 20)
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(block):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


def embedded(name: str, times: int) -> list[float]:
    """Seconds, of so many faults of that name."""
    with ExitStack() as stack:
        if name == "disk full":
            folder = stack.enter_context(small_disk())
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voltstream-")))
        platform = stack.enter_context(up(folder / "data", "--no-simulator"))
        station = Station(platform)
        seconds_until(lambda: is_back(platform, station))
        return [_embedded_once(name, folder, platform, station) for _ in range(times)]


def _embedded_once(name: str, folder: Path, platform: Up, station: Station) -> float:
    data = folder / "data" / "postgres"
    if name == "disk full":
        with filled(folder):
            seconds_until(lambda: station.posts() in (0, 503) or not is_ready(platform))
            time.sleep(_AWAY_S)
    elif "hung" in name:
        signal_server(data, signal.SIGSTOP)
    else:
        time.sleep(_BETWEEN_S)
        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    return seconds_until(lambda: is_back(platform, station))


def is_ready(platform: Up) -> bool:
    """As /ready says."""
    try:
        return httpx.get(f"{platform.api}/ready", timeout=10, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def away(name: str, times: int, servers: PrivateServers) -> list[float]:
    """Seconds from when that server, killed 5 s before, accepts connections again."""
    server = getattr(servers, name)
    with tempfile.TemporaryDirectory(prefix="voltstream-") as folder, fresh_database(servers.postgres.url) as url:
        urls = {f"{one}_url": getattr(servers, one).url for one in ("rabbitmq", "kafka", "redis")}
        with up(Path(folder) / "data", "--no-simulator", database_url=url, **urls) as platform:
            station = Station(platform)
            seconds_until(lambda: is_back(platform, station))
            measured = []
            for _ in range(times):
                server.kill()
                time.sleep(_AWAY_S)
                server.start()
                measured.append(seconds_until(lambda: is_back(platform, station)))
            return measured


def main() -> None:
    """Print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", default=[*EMBEDDED, *AWAY])
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    servers = PrivateServers()
    try:
        if set(arguments.name) & set(AWAY):
            servers.start_all()
        for name in arguments.name:
            measure = embedded(name, arguments.times) if name in EMBEDDED else away(name, arguments.times, servers)
            row = f"| {name} | {statistics.median(measure):.1f} | {min(measure):.1f} to {max(measure):.1f} |"
            print(row, flush=True)  # a script
    finally:
        servers.destroy()


if __name__ == "__main__":
    main()
