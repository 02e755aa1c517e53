"""What a process gives back to the system."""

import asyncio
import contextlib
import platform

import psutil
import pytest

from voltstream import memory

MB = 1_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing")
async def test_what_a_burst_left_below_something_in_use_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "TRIM_S", 0.0)
    burst = [bytes(1_000) for _ in range(100_000)]  # too large for Python's own arenas, too small to be mapped alone
    kept = burst[-1]
    del burst
    held = psutil.Process().memory_info().rss
    trimming = asyncio.create_task(memory.trim_regularly())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10.0):
            while psutil.Process().memory_info().rss > held - 80 * MB:  # noqa: ASYNC110  # the system tells nobody
                await asyncio.sleep(0)
    trimming.cancel()
    assert psutil.Process().memory_info().rss < held - 80 * MB
    assert len(kept) == 1_000


async def test_a_c_library_that_knows_nothing_of_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_of_glibc", lambda _: None)
    memory.limit_arenas()
    await memory.trim_regularly()
