"""Publishing past full queues: who is told, and how often. What is published is in tests/contracts."""

from collections import Counter

import pytest

from kit.errors import QueueFull, Unavailable
from kit.messaging.bus import DEAD_LETTERS, DEFAULT_EXCHANGE, DIRECT, FailedMessage, Message
from kit.messaging.full_queues import PublisherPastFullQueues

_FAILED = "failed"
_QUEUES = {(DIRECT, "sold"): ["billing", "mail"], (DIRECT, "made"): ["store"]}


class _Broker:
    """Queues that are full or not, and counts of what they and the dead letters got."""

    def __init__(self) -> None:
        self.full: set[str] = set()
        self.away = False
        self.dead: Counter[str] = Counter()
        self.announced: Counter[str] = Counter()

    async def publish(self, message: Message) -> None:
        if message.exchange == DEAD_LETTERS:
            if self.away:
                raise Unavailable("down")
            self.dead[message.routing_key] += 1
        elif message.routing_key == _FAILED:
            self.announced[message.body.decode()] += 1
        elif message.exchange == DEFAULT_EXCHANGE:
            if message.routing_key in self.full:
                raise QueueFull("full")
        elif self.full.intersection(_QUEUES[message.exchange, message.routing_key]):
            raise QueueFull("full")


def _announce(failed: FailedMessage) -> Message:
    return Message(DIRECT, _FAILED, failed.queue.encode())


@pytest.fixture
def broker() -> _Broker:
    return _Broker()


@pytest.fixture
def publisher(broker: _Broker) -> PublisherPastFullQueues:
    return PublisherPastFullQueues(broker, _QUEUES, _announce, refused_s=0.0)


async def _publish(publisher: PublisherPastFullQueues, key: str, times: int) -> None:
    for number in range(times):
        await publisher.publish(Message(DIRECT, key, b"%d" % number))


async def test_of_a_full_queue_one_dead_letter_is_announced(
    broker: _Broker, publisher: PublisherPastFullQueues
) -> None:
    broker.full = {"billing", "store"}
    await _publish(publisher, "sold", 5)
    await _publish(publisher, "made", 3)
    assert broker.dead == {"billing": 5, "store": 3}
    assert broker.announced == {"billing": 1, "store": 1}


@pytest.mark.parametrize("still_full", [set(), {"mail"}], ids=["none is full", "another one is"])
async def test_a_queue_that_is_full_again_is_announced_again(
    broker: _Broker, publisher: PublisherPastFullQueues, still_full: set[str]
) -> None:
    broker.full = {"billing", *still_full}
    await _publish(publisher, "sold", 2)
    broker.full = still_full
    await _publish(publisher, "sold", 2)
    broker.full = {"billing", *still_full}
    await _publish(publisher, "sold", 2)
    assert broker.announced == {"billing": 2, **dict.fromkeys(still_full, 1)}
    assert broker.dead["billing"] == 4


async def test_a_dead_letter_that_was_not_taken_is_not_the_announced_one(
    broker: _Broker, publisher: PublisherPastFullQueues
) -> None:
    broker.full, broker.away = {"store"}, True
    with pytest.raises(Unavailable):
        await _publish(publisher, "made", 1)
    broker.away = False
    await _publish(publisher, "made", 2)
    assert (broker.dead, broker.announced) == ({"store": 2}, {"store": 1})
