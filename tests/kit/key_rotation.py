"""The end of a key at an identity provider, as the authenticator sees it."""

from collections.abc import Awaitable, Callable
from typing import Any

from kit.web.problem import Problem
from tests.waiting import eventually


async def key_ends(
    token: str, principal: Callable[[str], Awaitable[Any]], refusal: Callable[[str], Awaitable[str]]
) -> None:
    """Until a token that it signed is refused, with the reason. `principal` raises Problem, whose text `refusal` is."""

    async def refused() -> bool:
        try:
            await principal(token)
        except Problem:
            return True
        return False

    await eventually(refused)
    assert "does not publish" in await refusal(token)
