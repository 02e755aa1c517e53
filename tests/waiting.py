"""`eventually`: waits until a condition is true; the only place in the tests that may wait."""

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
    """Call `predicate` until its value is true, and return it. Raises AssertionError with the last value.

    `within_s` only prevents hanging and is no assertion about speed: be generous.
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
