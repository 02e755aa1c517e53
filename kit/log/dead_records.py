"""Records of the log's RabbitMQ queues that left them without reaching the log's reader, and their way back.

Blocking: for a command. A record is put back before it leaves where it was, so that one may be twice in the log after a
crash; its reader knows it by its number.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pika import BasicProperties, BlockingConnection
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError, UnroutableError

from kit.errors import QueueFull, Unavailable
from kit.log.rabbit_writer import dead_queue_of
from kit.messaging.rabbit_channels import PERSISTENT
from kit.messaging.rabbit_connection import rabbit_parameters
from kit.secrets.urls import without_secrets

_NOT_FOUND: Final = 404


def count_dead(url: str, queues: Sequence[str]) -> list[int]:
    """How many records of each partition's queue are dead. Raises Unavailable."""
    with _connected(url) as connection:
        return [_count(connection, dead_queue_of(queue)) for queue in queues]


def put_back(url: str, queue: str) -> int:
    """Put the dead records of a partition's queue, as many as there are now, at its end; their number.

    Raises QueueFull and Unavailable; what was put back by then stays so.
    """
    with _connected(url) as connection:
        wanted = _count(connection, dead_queue_of(queue))
        channel = connection.channel()
        channel.confirm_delivery()
        for moved in range(wanted):
            if not _move(channel, dead_queue_of(queue), queue):
                return moved  # others have taken them
        return wanted


def _move(channel: BlockingChannel, dead_queue: str, queue: str) -> bool:
    """Move the oldest record. False: there is none."""
    method, _, body = channel.basic_get(dead_queue)
    if method is None or body is None:
        return False
    try:
        channel.basic_publish("", queue, body, BasicProperties(delivery_mode=PERSISTENT), mandatory=True)
    except NackError:
        raise QueueFull(f"RabbitMQ's queue {queue} is full: wait until the bridge has emptied it") from None
    except UnroutableError:
        raise Unavailable(f"RabbitMQ has no queue {queue}: start the bridge, which declares it") from None
    channel.basic_ack(method.delivery_tag)
    return True


def _count(connection: BlockingConnection, queue: str) -> int:
    channel = connection.channel()
    try:
        count = int(channel.queue_declare(queue, passive=True).method.message_count)
    except ChannelClosedByBroker as error:
        if error.reply_code != _NOT_FOUND:
            raise
        return 0  # no bridge has run yet
    channel.close()
    return count


@contextmanager
def _connected(url: str) -> Iterator[BlockingConnection]:
    """A connection. Raises Unavailable, also for what goes wrong within the block."""
    try:
        connection = BlockingConnection(rabbit_parameters(url))
        try:
            yield connection
        finally:
            if connection.is_open:
                connection.close()
    except (AMQPError, OSError) as error:
        raise Unavailable(f"RabbitMQ: {without_secrets(repr(error), url)}") from None
