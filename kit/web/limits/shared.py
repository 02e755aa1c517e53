"""Requests of a token to all processes together, on Redis: counted here, summed there once a second.

No request waits for Redis. Each process adds what it took since to the sum of the minute, in one round trip for all
tokens, and refuses those whose sum is beyond the bound until the minute ends. So a token gets its bound in a minute,
and what it sends within a second to all of them. While Redis is away each process counts for itself, as without.

The library `limits` was looked at for this: it asks Redis once with each request, takes its time from the machine's
clock alone, and does not support the version of Redis' client that the live view uses.
"""

import asyncio
import math
from collections.abc import Awaitable
from itertools import islice
from typing import Final, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from kit.clock import Clock
from kit.live.redis_client import redis_client
from kit.observability.logs import get_logger
from kit.web.limits.refusals import MINUTE_S

SYNC_S: Final = 1.0
_TIMEOUT_S: Final = 2.0
_TOKENS_MAX: Final = 5_000  # in one round trip, ~0.5 MB; a process of the API sees fewer in a second
_KEPT_S: Final = int(2 * MINUTE_S)
_LOGGED_EVERY_S: Final = 60.0

_log = get_logger(__name__)


class SharedRequestCounts:
    """Of one process. Used from one event loop."""

    def __init__(self, url: str, prefix: str, clock: Clock) -> None:
        """`prefix`: of its keys, the same in all processes that share. Connects when first used. Raises ConfigError."""
        self._redis: Redis = redis_client(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 1)
        )
        self._prefix = prefix
        self._clock = clock
        self._counted: dict[UUID, tuple[int, int]] = {}  # requests that were taken since the last sum, and their bound
        self._refused_until_s: dict[UUID, float] = {}
        self._logged_s = -math.inf
        self._closed = False

    def wait_s(self, token_id: UUID) -> float:
        """See kit.web.limits.requests.SharedRequests."""
        until_s = self._refused_until_s.get(token_id)
        if until_s is None:
            return 0.0
        left_s = until_s - self._clock.monotonic_s()
        if left_s <= 0:
            del self._refused_until_s[token_id]
        return max(0.0, left_s)

    def count(self, token_id: UUID, bound: int, requests: int = 1) -> None:
        """See kit.web.limits.requests.SharedRequests."""
        self._counted[token_id] = (self._counted.get(token_id, (0, 0))[0] + requests, bound)

    async def run(self) -> None:
        """Sum once a second, until `close`: Redis' client may swallow a cancellation."""
        while not self._closed:
            await asyncio.sleep(SYNC_S)
            await self.synchronise()

    async def synchronise(self) -> None:
        """Add what was counted, and learn whose sum is beyond its bound. What Redis does not take is forgotten."""
        counted = dict(islice(self._counted.items(), _TOKENS_MAX))
        self._counted.clear()
        if not counted:
            return
        minute, into_ms = divmod(self._clock.now_ms(), int(MINUTE_S * 1_000))
        until_s = self._clock.monotonic_s() + MINUTE_S - into_ms / 1_000
        try:
            sums = await self._add(minute, counted)
        except (RedisError, OSError, TimeoutError) as error:
            now_s = self._clock.monotonic_s()
            if now_s - self._logged_s >= _LOGGED_EVERY_S:
                self._logged_s = now_s
                _log.warning("limits_not_shared", error=str(error))
            return
        for (token_id, (_, bound)), total in zip(counted.items(), sums, strict=True):
            if total >= bound:
                self._refused_until_s[token_id] = until_s
        if len(self._refused_until_s) > _TOKENS_MAX:
            self._refused_until_s.clear()

    async def close(self) -> None:
        """Give its connections back."""
        self._closed = True
        await self._redis.aclose()

    async def _add(self, minute: int, counted: dict[UUID, tuple[int, int]]) -> list[int]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for token_id, (requests, _) in counted.items():
                key = f"{self._prefix}{token_id}:{minute}"
                pipeline.incrby(key, requests)
                pipeline.expire(key, _KEPT_S)
            answers = await cast("Awaitable[list[int]]", pipeline.execute())
        return answers[::2]
