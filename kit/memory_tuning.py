"""Tuning of glibc's malloc and of Python's garbage collector for a process with bursts of small objects.

glibc keeps freed memory in one arena per thread, for as long as memory above it is in use: after bursts of small
objects that is more than a worker's state. Other C libraries are not tuned.
"""

import asyncio
import ctypes
import gc
from typing import Final

# More arenas let threads allocate in parallel. A worker's threads hold the GIL while they allocate, except within
# calls of Arrow and numpy, so two are enough.
_ARENAS_MAX: Final = 2
# By default glibc maps every array of a MB anew, or returns the end of the heap at each free: a flush of 100,000
# readings spent a tenth of its time on mapping the same pages again. The next trim returns what is kept here.
_KEPT_BYTES_MAX: Final = 128 << 20
_MAPPED_BYTES_MIN: Final = 1 << 20  # larger blocks are few, and would leave holes in the heap that no trim closes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of mallopt, in glibc's malloc.h
# A trim takes a few ms, and memory used again has to be mapped again, ~0.3 ms a MB: 1 % of the time for 150 MB.
TRIM_S: Final = 5.0
# By default Python searches every 700 new objects for cycles, and sometimes all objects. With ten thousand events in
# memory that took a fifth of a busy process's time, in pauses of up to 250 ms. Hardly any object is in a cycle; those
# few are freed a little later, 10 MB at most.
YOUNG_MAX: Final = 50_000
_GENERATION_AGES: Final = (20, 20)


def reduce_gc_frequency() -> None:
    """Run the garbage collector less often and exclude all present objects for good. Call it once the process is up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *_GENERATION_AGES)


def tune_malloc() -> None:
    """Let all threads share two arenas, which keep freed memory until the next trim. Call it before threads start."""
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS_MAX)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES_MAX)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)


async def trim_periodically() -> None:
    """Return free memory to the system every `TRIM_S`. Never ends."""
    trim = _of_glibc("malloc_trim")
    while trim is not None:
        await asyncio.sleep(TRIM_S)
        await asyncio.to_thread(trim, 0)  # ctypes releases the GIL


def _of_glibc(name: str) -> "ctypes._NamedFuncPointer | None":
    try:
        function: ctypes._NamedFuncPointer = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return function
