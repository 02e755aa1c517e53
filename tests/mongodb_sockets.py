"""PyMongo 4.20 leaves a socket to the garbage collector where a client is closed while it connects: here, and not in a
later test."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

leaves_a_socket = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
async def sockets_left() -> AsyncIterator[None]:
    """They are collected in the test that leaves them, once the driver's tasks that hold them have ended."""
    yield
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    gc.collect()
