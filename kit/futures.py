"""Waiting for futures that others settle."""

import asyncio
from typing import Any


def mark_seen(future: "asyncio.Future[Any]") -> None:
    """A callback of a future whose waiter may have gone away: retrieves its exception, which asyncio would log."""
    if not future.cancelled():
        future.exception()


async def done_within(future: "asyncio.Future[Any]", timeout_s: float) -> bool:
    """Whether the future is done within that time. It is never cancelled, nor its exception raised.

    asyncio.wait does the same for any number of them, in 40 us instead of 7.
    """
    if future.done():
        return True
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_later(timeout_s, wake)
    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        timer.cancel()
        future.remove_done_callback(wake)
    return future.done()
