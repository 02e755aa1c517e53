"""Child processes: none outlives its supervisor, whenever that stops."""

import asyncio
from typing import Any

import pytest

from kit.clock import SystemClock
from voltstream.runtime.children import Child
from voltstream.runtime.process import Lifespan

pytestmark = pytest.mark.usefixtures("processes")

_FOR_EVER = "import sys; sys.stdin.read()"  # until its supervisor is gone
_STOPPED_S = 60  # against hanging


@pytest.mark.parametrize("turns", range(8))
async def test_one_that_is_stopped_while_it_is_being_made_ends(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def creating(*command: str, **options: Any) -> asyncio.subprocess.Process:
        made.append(await create(*command[:1], "-c", _FOR_EVER, **options))
        for _ in range(3):
            await asyncio.sleep(0)  # it is there, and nobody has been told
        return made[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", creating)
    child = Child("it", (), {}, SystemClock())
    async with asyncio.timeout(_STOPPED_S), child.running(Lifespan()):
        for _ in range(turns):
            await asyncio.sleep(0)
    assert len(made) == (turns > 0)
    assert all(process.returncode is not None for process in made)
