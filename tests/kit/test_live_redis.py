"""Laws of RedisLive beyond the contract."""

import asyncio
from contextlib import suppress

import pytest

from kit.live.redis_view import PUT_KEYS_MAX, RedisLive, _answer_of


@pytest.mark.parametrize("error", [None, OSError("gone")])
async def test_a_cancellation_that_the_client_swallows_still_cancels(error: OSError | None) -> None:
    begun = asyncio.Event()

    async def swallows_it() -> str:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if error is not None:
            raise error
        return "answer"

    asking = asyncio.create_task(_answer_of(swallows_it()))
    await begun.wait()
    asking.cancel()
    await asyncio.wait((asking,))
    assert asking.cancelled()


async def test_a_cancelled_task_may_still_call_redis_as_it_cleans_up() -> None:
    begun = asyncio.Event()

    async def answered() -> str:
        return "answer"

    async def cleans_up() -> str:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await _answer_of(answered())
        return ""

    cleaning = asyncio.create_task(cleans_up())
    await begun.wait()
    cleaning.cancel()
    assert await cleaning == "answer"


async def test_a_put_can_be_cancelled_at_any_step(redis_url: str) -> None:
    live = RedisLive(redis_url, prefix="cancelled:")
    try:
        for steps in range(60):
            putting = asyncio.create_task(_put_for_ever(live))
            for _ in range(steps):
                await asyncio.sleep(0)
            putting.cancel()
            done, _ = await asyncio.wait((putting,), timeout=30.0)
            assert done, f"after {steps} steps"
    finally:
        await live.close()


async def _put_for_ever(live: RedisLive) -> None:
    while True:
        await live.put("t", {"k": b"v"})


@pytest.mark.parametrize("count", [1, 3, PUT_KEYS_MAX + 1])
async def test_keys_and_documents_may_have_any_content(redis_url: str, count: int) -> None:
    awkward = {"": b"", "with space": b"\r\n$5\r\n", "\u00e9\r\n": b"\x00\xff"}
    documents = {f"{key}{n}": document + b"%d" % n for n in range(count) for key, document in awkward.items()}
    live = RedisLive(redis_url, prefix=f"awkward {count}:")
    try:
        async with live.watch("t") as changes:
            await live.put("t", documents)
            seen: dict[str, bytes] = {}
            while len(seen) < len(documents):
                seen |= await anext(changes)
        assert seen == documents == await live.all("t")
        assert await live.get("t", list(documents)[:3]) == dict(list(documents.items())[:3])
    finally:
        await live.close()
