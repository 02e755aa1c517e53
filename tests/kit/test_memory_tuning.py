"""What a process gives back to the system."""

import asyncio
import contextlib
import gc
import platform
import weakref
from collections.abc import Iterator

import psutil
import pytest

from kit import memory_tuning

MB = 1_000_000


class Knot:
    """A cycle."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def usual_collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_was_there_when_it_came_up_is_not_looked_at_again_and_cycles_still_go(usual_collector: None) -> None:
    there = [Knot() for _ in range(1_000)]
    memory_tuning.reduce_gc_frequency()
    assert gc.get_freeze_count() > len(there)
    lost = weakref.ref(Knot())
    young: list[list[int]] = [[] for _ in range(memory_tuning.YOUNG_MAX * 2)]
    assert lost() is None
    assert len(young) > memory_tuning.YOUNG_MAX


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing")
async def test_what_a_burst_left_below_something_in_use_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_tuning, "TRIM_S", 0.0)
    burst = [bytes(1_000) for _ in range(100_000)]  # too large for Python's own arenas, too small to be mapped alone
    kept = burst[-1]
    del burst
    held = psutil.Process().memory_info().rss
    trimming = asyncio.create_task(memory_tuning.trim_periodically())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10.0):
            while psutil.Process().memory_info().rss > held - 80 * MB:  # noqa: ASYNC110  # the system tells nobody
                await asyncio.sleep(0)
    trimming.cancel()
    assert psutil.Process().memory_info().rss < held - 80 * MB
    assert len(kept) == 1_000


async def test_a_c_library_that_knows_nothing_of_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_tuning, "_of_glibc", lambda _: None)
    memory_tuning.tune_malloc()
    await memory_tuning.trim_periodically()
