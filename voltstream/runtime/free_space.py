"""Whether there is room on the disk of the embedded database: a readiness check, and metrics."""

import asyncio
import math
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from kit.errors import Unavailable
from kit.web.health import Degraded

_MB = 1_000_000


def free_space_check(folder: Path, free_mb_min: int) -> Callable[[], Awaitable[object]]:
    """The check: degraded below that. Raises Unavailable without the folder. A full disk fails the write probe."""

    async def check() -> object:
        try:
            free_mb = (await asyncio.to_thread(shutil.disk_usage, folder)).free // _MB
        except OSError as error:
            raise Unavailable(f"the data folder cannot be looked at: {error.strerror}") from None
        if free_mb >= free_mb_min:
            return None
        return Degraded(
            f"{free_mb} MB are free where the data are, below VOLTSTREAM_FREE_SPACE_MB_MIN={free_mb_min}: free some, "
            "or shorten a retention"
        )

    return check


def watch_space(folder: Path, registry: CollectorRegistry) -> None:
    """Show how large the disk is and what is free; not a number without the folder."""
    free = Gauge("data_folder_free_bytes", "Free on the disk of the data folder", registry=registry)
    size = Gauge("data_folder_size_bytes", "Size of the disk of the data folder", registry=registry)
    free.set_function(lambda: _usage(folder)[0])
    size.set_function(lambda: _usage(folder)[1])


def _usage(folder: Path) -> tuple[float, float]:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.nan, math.nan
    return usage.free, usage.total
