"""What a process gives back to the system once a burst is over, and how often it looks for garbage.

glibc keeps what was freed, in an arena a thread and for as long as something above it is in use: after bursts of small
objects that is more than a worker's state. Other C libraries have none of this, and are left alone.
"""

import asyncio
import ctypes
import gc
from typing import Final

# Arenas are there so that threads need not wait for each other's malloc. A worker's threads hold the interpreter's lock
# while they allocate, all but what Arrow and numpy do within one call.
_ARENAS_MAX: Final = 2
# By itself glibc maps an array of a MB anew each time, or gives the heap's end back with each that is freed: a flush of
# 100,000 readings spent a tenth of its time on having the same pages again. What is kept so goes with the next trim.
_KEPT_BYTES_MAX: Final = 128 << 20
_MAPPED_BYTES_MIN: Final = 1 << 20  # larger ones are few, and in the heap they leave holes that no trim closes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of mallopt, in glibc's malloc.h
# It takes a few ms, and what is wanted again has to be mapped again, ~0.3 ms a MB: a hundredth of the time for 150 MB.
TRIM_S: Final = 5.0
# Python looks for cycles among 700 new objects, and now and then among all. With ten thousand events in hand that was a
# fifth of a busy process's time, in pauses of up to a quarter of a second. Hardly anything here is in a cycle: what is
# waits a little longer, some 10 MB at most.
YOUNG_MAX: Final = 50_000
_GENERATION_AGES: Final = (20, 20)


def collect_seldom() -> None:
    """Leave what there is by now out of every collection. Once the process is up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *_GENERATION_AGES)


def keep_memory() -> None:
    """Have all threads share two arenas, which keep what is freed until the next trim. Before any is started."""
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS_MAX)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES_MAX)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)


async def trim_regularly() -> None:
    """Give back what is free, every `TRIM_S`. Never ends."""
    trim = _of_glibc("malloc_trim")
    while trim is not None:
        await asyncio.sleep(TRIM_S)
        await asyncio.to_thread(trim, 0)  # ctypes lets go of the interpreter's lock


def _of_glibc(name: str) -> "ctypes._NamedFuncPointer | None":
    try:
        function: ctypes._NamedFuncPointer = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return function
