"""The live view over Redis: a hash per topic holds the documents, a pub/sub channel of its name carries the changes.

A second channel carries the looks of readers, to writers who want to know whether anyone looks (`Audience`). How many
watch, the server answers to each put.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final, TypeVar, cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from kit.clock import Clock, SystemClock
from kit.errors import Unavailable
from kit.live.audience import LOOK_S, Audience
from kit.live.redis_client import redis_client
from kit.live.view import WATCH_PUTS_MAX, Watcher
from kit.observability.logs import get_logger
from kit.retry import reconnect_pauses_s
from kit.tls import refusal

COMMAND_TIMEOUT_S: Final = 5.0  # one command; ten thousand documents of 400 bytes take 20 ms
PUT_KEYS_MAX: Final = 10_000  # of one round trip: ~4 MB, half of the backlog at which Redis disconnects a subscriber
PING_S: Final = 15  # a watcher notices within this and the command time-out that its server vanished
CONNECTIONS_MAX: Final = 32  # of one process: a few writers and readers, and one per watched topic
LOOK_AGAIN_S: Final = LOOK_S / 4  # a process publishes its looks at a topic so often at most
_LOOKS: Final = ":looks"  # the channel of a topic's looks has its name and this

T = TypeVar("T")
_log = get_logger(__name__)
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class _EncodedPairs:
    """Keys and documents encoded for the Redis protocol: redis-py takes several times as long for each of them."""

    def __init__(self, documents: Mapping[str, bytes]) -> None:
        pairs = [(key.encode(), document) for key, document in documents.items()]
        self.octets = b"".join(
            [b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value) for key, value in pairs]
        )
        self.count = 2 * len(pairs)


class _PreEncodedConnection(AbstractConnection):
    """A connection that sends `_EncodedPairs` unchanged."""

    def pack_command(self, *args: Any) -> list[Any]:
        *words, last = args
        if not isinstance(last, _EncodedPairs):
            packed: list[bytes] = super().pack_command(*args)
            return packed
        head = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in map(self.encoder.encode, words))
        return [b"*%d\r\n" % (len(words) + last.count) + head, last.octets]


class RedisLive:
    """See LiveView. The watchers of a topic share one subscription."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "live:",
        watch_puts_max: int = WATCH_PUTS_MAX,
        clock: Clock | None = None,
    ) -> None:
        """Connects when first used. Raises ConfigError for a malformed URL."""
        self._redis: Redis = redis_client(
            url,
            socket_timeout=COMMAND_TIMEOUT_S,
            socket_connect_timeout=COMMAND_TIMEOUT_S,
            health_check_interval=PING_S,
            max_connections=CONNECTIONS_MAX,
            retry=Retry(NoBackoff(), 1),  # once, for a pooled connection that a restart of the server has closed
        )
        pool = self._redis.connection_pool  # its class depends on the URL: TCP, TLS or a socket's path
        pool.connection_class = type("PreEncodedConnection", (_PreEncodedConnection, pool.connection_class), {})
        self._prefix = prefix
        self._watch_puts_max = watch_puts_max
        self._clock = clock or SystemClock()
        self._topics: dict[str, _Watched] = {}
        self._audiences: dict[str, _Looks] = {}
        self._looked_at_s: dict[str, float] = {}  # by topic: when a look was last published

    async def put(self, topic: str, documents: Mapping[str, bytes]) -> None:
        """See LiveView. More than PUT_KEYS_MAX keys go in several steps."""
        name = self._prefix + topic
        items = iter(documents.items())
        for _ in range(0, len(documents), PUT_KEYS_MAX):
            part = dict(islice(items, PUT_KEYS_MAX))
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.execute_command("HSET", name, _EncodedPairs(part))
                pipeline.publish(name, _pack(part))
                _, watchers = await _answer_of(cast("Awaitable[tuple[int, int]]", pipeline.execute()))
            if watchers and topic in self._audiences:
                self._audiences[topic].audience.looked()

    async def get(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """See LiveView."""
        if not keys:
            return {}
        await self._look(topic)
        found = await _answer_of(
            cast("Awaitable[list[bytes | None]]", self._redis.hmget(self._prefix + topic, list(keys)))
        )
        return {key: document for key, document in zip(keys, found, strict=True) if document is not None}

    async def all(self, topic: str) -> dict[str, bytes]:
        """See LiveView."""
        await self._look(topic)
        found = self._redis.hgetall(self._prefix + topic)
        return _documents(await _answer_of(cast("Awaitable[dict[bytes, bytes]]", found)))

    @asynccontextmanager
    async def watch(self, topic: str) -> AsyncIterator[AsyncIterator[Mapping[str, bytes]]]:
        """See LiveView. Enters once subscribed: what is put from now on is seen."""
        shared = self._topics.get(topic)
        if shared is None:
            shared = self._topics[topic] = _Watched(self._redis, self._prefix + topic)
        watcher = Watcher(self._watch_puts_max)
        shared.watchers.add(watcher)
        try:
            await shared.subscribed()
            await self._look(topic)
            yield watcher
        finally:
            shared.watchers.discard(watcher)
            if not shared.watchers and self._topics.get(topic) is shared:
                del self._topics[topic]
                await shared.close()

    def audience(self, topic: str) -> Audience:
        """See LiveView."""
        if topic not in self._audiences:
            name = self._prefix + topic + _LOOKS
            self._audiences[topic] = _Looks(self._redis, name, Audience(self._clock))
        return self._audiences[topic].audience

    async def _look(self, topic: str) -> None:
        """Tell the topic's writers that it is looked at."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_at_s.get(topic, -LOOK_S) >= LOOK_AGAIN_S:
            await _answer_of(self._redis.publish(self._prefix + topic + _LOOKS, b""))
            self._looked_at_s[topic] = now_s

    async def check_ready(self) -> None:
        """Raises Unavailable where Redis does not answer."""
        await _answer_of(self._redis.ping())

    async def close(self) -> None:
        """See LiveView."""
        subscriptions = [*self._topics.values(), *self._audiences.values()]
        self._topics, self._audiences = {}, {}
        for subscription in subscriptions:
            await subscription.close()
        await self._redis.aclose()


class _Subscription:
    """A subscription to one channel, made again whenever it is lost."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._name = name
        self._error = "no answer"
        self._task = asyncio.create_task(self._run(), name=f"subscription {name}")

    async def close(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _begins(self) -> None:
        """Subscribed, for the first time or again (the client also reconnects by itself): then messages were missed."""
        raise NotImplementedError

    def _receives(self, message: bytes) -> None:
        raise NotImplementedError

    async def _run(self) -> None:
        pauses = reconnect_pauses_s()
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await _cancellable(pubsub.subscribe(self._name))
                    while True:
                        message = await _cancellable(pubsub.get_message(timeout=PING_S))
                        if message is not None and message["type"] == "subscribe":
                            pauses = reconnect_pauses_s()
                            await self._begins()
                        elif message is not None:
                            self._receives(message["data"])
            except (RedisError, OSError, TimeoutError, ValueError, RecursionError) as error:
                self._error = repr(error)
                _log.warning("live_watch_lost", topic=self._name, error=repr(error))
            await asyncio.sleep(next(pauses))


class _Looks(_Subscription):
    """The looks at one topic."""

    def __init__(self, redis: Redis, name: str, audience: Audience) -> None:
        super().__init__(redis, name)
        self.audience = audience

    async def _begins(self) -> None:
        self.audience.looked()

    def _receives(self, message: bytes) -> None:
        self.audience.looked()


class _Watched(_Subscription):
    """The changes of one topic, for all its watchers: after every gap they get the whole topic."""

    def __init__(self, redis: Redis, name: str) -> None:
        super().__init__(redis, name)
        self.watchers: set[Watcher] = set()
        self._ready = asyncio.Event()

    async def subscribed(self) -> None:
        """Raises Unavailable where Redis does not answer in time."""
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                await self._ready.wait()
        except TimeoutError:
            raise Unavailable(f"Redis: {self._error}") from None

    async def close(self) -> None:
        """End it, and the watchers."""
        await super().close()
        for watcher in self.watchers:
            watcher.close()

    async def _begins(self) -> None:
        if self._ready.is_set():
            found = cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(self._name))
            everything = _documents(await _cancellable(found))
            for watcher in self.watchers:
                watcher.restart(everything)
        self._ready.set()

    def _receives(self, message: bytes) -> None:
        documents = _unpack(message)
        for watcher in self.watchers:
            watcher.offer(documents)


def _documents(found: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {key.decode(): document for key, document in found.items()}


async def _answer_of(answer: Awaitable[T]) -> T:
    try:
        return await _cancellable(answer)
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis does not answer: {refusal(error) or str(error) or type(error).__name__}") from error


async def _cancellable(answer: Awaitable[T]) -> T:
    """The answer. Raises CancelledError also where the client has swallowed it.

    redis-py sends by asyncio.wait_for, which on Python 3.11 returns a result that arrives at the moment of a
    cancellation; a cancelled task with a loop would then never end.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        return await answer
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
