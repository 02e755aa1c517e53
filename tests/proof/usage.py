"""What a process and its children use: memory, descriptors, and its folder's size on disk."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_WAL: Final = "pg_wal"  # of a bounded size, in segments of 16 MiB: it goes up and down by itself


class Usage(NamedTuple):
    """Of all processes of one platform, without PostgreSQL's, but for the disk."""

    rss_mb: float
    descriptors: int
    disk_mb: float  # without the write-ahead log


def usage_of(pid: int, folder: Path) -> Usage:
    """Now."""
    rss = descriptors = 0
    for member in family(pid):
        with suppress(OSError):  # it has ended meanwhile
            if b"postgres" not in Path(f"/proc/{member}/cmdline").read_bytes().split(b"\0")[0]:
                rss += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * _PAGE_BYTES
                descriptors += sum(1 for _ in Path(f"/proc/{member}/fd").iterdir())
    return Usage(rss / 1e6, descriptors, sum(_sizes(folder)) / 1e6)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def _sizes(folder: Path) -> Iterator[int]:
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != _WAL]
        for name in files:
            with suppress(OSError):
                yield (Path(path) / name).lstat().st_blocks * 512
