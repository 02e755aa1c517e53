"""Waiting for something to become true: the only place in the tests that may let time pass."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")
_POLL_S = 0.02


@overload
async def eventually(predicate: Callable[[], Awaitable[T]], within_s: float = 10.0) -> T: ...
@overload
async def eventually(predicate: Callable[[], T], within_s: float = 10.0) -> T: ...
async def eventually(predicate: Callable[[], T | Awaitable[T]], within_s: float = 10.0) -> T:
    """The first true answer of `predicate`, asked again and again. Raises AssertionError with the last one in vain.

    `within_s` is a bound against hanging, never an expectation of speed: be generous.
    """
    deadline_s = time.monotonic() + within_s
    while True:
        answer = predicate()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline_s:
            raise AssertionError(f"still {value!r} after {within_s:.0f} s")
        await asyncio.sleep(_POLL_S)
