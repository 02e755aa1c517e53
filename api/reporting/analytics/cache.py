"""Answers that are kept: in Redis where processes share it, else in this process.

Nothing is taken out when figures change. The key of an answer has the mark of the last change of its days, which is
read from the database with each question: an answer from before a change is never asked for again, in no process.
"""

from collections import OrderedDict
from typing import Final, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kit.live.redis_client import redis_client
from kit.observability.logs import get_logger

BYTES_MAX: Final = 64 * 2**20  # in one process: some hundred pages; the one that was not asked for longest goes
_KEPT_S: Final = 86_400
_TIMEOUT_S: Final = 0.5  # computing the answer takes less
_log = get_logger(__name__)


class Cache(Protocol):
    """Answers by key. Never raises."""

    async def get(self, key: str) -> bytes | None:
        """The answer, if it is kept."""

    async def put(self, key: str, answer: bytes) -> None:
        """Keep an answer."""

    async def close(self) -> None:
        """Release connections."""


class InProcessCache:
    """See Cache."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._bytes_max = bytes_max

    async def get(self, key: str) -> bytes | None:
        """See Cache."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    async def put(self, key: str, answer: bytes) -> None:
        """See Cache."""
        self._bytes += len(answer) - len(self._answers.pop(key, b""))
        self._answers[key] = answer
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._answers.popitem(last=False)[1])

    async def close(self) -> None:
        """See Cache."""


class RedisCache:
    """See Cache. While Redis does not answer, nothing is kept."""

    def __init__(self, url: str, prefix: str) -> None:
        """Connects when first used. Raises ConfigError for a malformed URL."""
        self._redis: Redis = redis_client(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, max_connections=8
        )
        self._prefix = prefix

    async def get(self, key: str) -> bytes | None:
        """See Cache."""
        try:
            answer = await self._redis.get(self._prefix + key)
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("cache_unavailable", error=repr(error))
            return None
        return answer if isinstance(answer, bytes) else None

    async def put(self, key: str, answer: bytes) -> None:
        """See Cache."""
        try:
            await self._redis.set(self._prefix + key, answer, ex=_KEPT_S)
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("cache_unavailable", error=repr(error))

    async def close(self) -> None:
        """See Cache."""
        await self._redis.aclose()
