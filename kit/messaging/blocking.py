"""RabbitMQ for commands, which block: a connection, and the lengths of queues."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from kit.errors import Unavailable
from kit.messaging.rabbit_connection import rabbit_parameters
from kit.secrets.text import current
from kit.secrets.urls import without_secrets

_NOT_FOUND: Final = 404


class QueueLength(NamedTuple):
    """Messages that are ready in a queue, and its consumers, which may have fetched others."""

    ready: int
    consumers: int


@contextmanager
def connected(url: str, why: str = "") -> Iterator[BlockingConnection]:
    """A connection within the block. `why`: what is not done without it, for the error. Raises ConfigError, and
    Unavailable, also for what the broker refuses within the block."""
    try:
        with BlockingConnection(rabbit_parameters(current(url))) as connection:
            yield connection
    except (AMQPError, OSError) as error:
        said = without_secrets(f"{type(error).__name__}: {error}", url)
        raise Unavailable(f"RabbitMQ does not answer{why and ', '}{why}: {said}") from None


def length_of(connection: BlockingConnection, queue: str) -> QueueLength:
    """Of a queue that does not exist both are 0. Raises AMQPError where the broker refuses the question."""
    channel = connection.channel()
    try:
        found = channel.queue_declare(queue, passive=True).method
    except ChannelClosedByBroker as error:
        if error.reply_code != _NOT_FOUND:
            raise
        return QueueLength(0, 0)
    channel.close()
    return QueueLength(found.message_count, found.consumer_count)
