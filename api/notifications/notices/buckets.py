"""A token bucket per subject: of Redis where processes share it, else of this process.

The bucket is kept as one number, the moment at which it is full again (GCRA): a take moves it by one interval, and is
refused where that would be further ahead than the bucket is deep.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kit.live.redis_client import redis_client
from kit.observability.logs import get_logger

HOUR_MS: Final = 3_600_000
SUBJECTS_MAX: Final = 100_000  # in one process: ~150 B each; the one that waited longest is forgotten
_TIMEOUT_S: Final = 2.0
_TAKE: Final = """
local answers = {}
local now, interval, depth = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for place, key in ipairs(KEYS) do
  local full_at = math.max(tonumber(redis.call('GET', key) or now), now) + interval
  if full_at - now <= depth then
    redis.call('SET', key, full_at, 'PX', depth)
    answers[place] = 1
  else
    answers[place] = 0
  end
end
return answers
"""
_log = get_logger(__name__)


class Buckets(Protocol):
    """The buckets of all subjects. A repeated name takes repeatedly."""

    async def take(self, subjects: Sequence[str], now_ms: int, rate_per_h: int) -> list[bool]:
        """Whether each of them may get one more. Never raises."""

    async def close(self) -> None:
        """Release connections."""


class InProcessBuckets:
    """See Buckets."""

    def __init__(self, subjects_max: int = SUBJECTS_MAX) -> None:
        self._full_at_ms: OrderedDict[str, int] = OrderedDict()
        self._subjects_max = subjects_max

    async def take(self, subjects: Sequence[str], now_ms: int, rate_per_h: int) -> list[bool]:
        """See Buckets."""
        return [self._take(subject, now_ms, HOUR_MS // rate_per_h) for subject in subjects]

    def _take(self, subject: str, now_ms: int, interval_ms: int) -> bool:
        full_at_ms = max(self._full_at_ms.get(subject, now_ms), now_ms) + interval_ms
        if full_at_ms - now_ms > HOUR_MS:
            return False
        self._full_at_ms[subject] = full_at_ms
        self._full_at_ms.move_to_end(subject)
        if len(self._full_at_ms) > self._subjects_max:
            self._full_at_ms.popitem(last=False)
        return True

    async def close(self) -> None:
        """See Buckets."""


class RedisBuckets:
    """See Buckets. While Redis does not answer, those of this process: a lost limit is better than a lost message."""

    def __init__(self, url: str, prefix: str) -> None:
        """Connects when first used. Raises ConfigError for a malformed URL."""
        self._redis: Redis = redis_client(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, max_connections=8
        )
        self._prefix = prefix
        self._script = self._redis.register_script(_TAKE)
        self._own = InProcessBuckets()

    async def take(self, subjects: Sequence[str], now_ms: int, rate_per_h: int) -> list[bool]:
        """See Buckets."""
        if not subjects:
            return []
        keys = [self._prefix + subject for subject in subjects]
        try:
            answers = await self._script(keys=keys, args=[now_ms, HOUR_MS // rate_per_h, HOUR_MS])
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("buckets_unavailable", error=repr(error))
            return await self._own.take(subjects, now_ms, rate_per_h)
        return [bool(answer) for answer in answers]

    async def close(self) -> None:
        """See Buckets."""
        await self._redis.aclose()
