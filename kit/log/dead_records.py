"""Records of the log's RabbitMQ queues that left them without reaching the log's reader, and their way back.

Blocking: for a command. A record is put back before it leaves where it was, so that one may be twice in the log after a
crash; its reader knows it by its number.
"""

from collections.abc import Sequence

from pika import BasicProperties
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import NackError, UnroutableError

from kit.errors import QueueFull, Unavailable
from kit.log.rabbit_writer import dead_queue_of
from kit.messaging.blocking import connected, length_of
from kit.messaging.rabbit_channels import PERSISTENT


def count_dead(url: str, queues: Sequence[str]) -> list[int]:
    """How many records of each partition's queue are dead. Raises Unavailable."""
    with connected(url) as connection:
        return [length_of(connection, dead_queue_of(queue)).ready for queue in queues]


def put_back(url: str, queue: str) -> int:
    """Put the dead records of a partition's queue, as many as there are now, at its end; their number.

    Raises QueueFull and Unavailable; what was put back by then stays so.
    """
    with connected(url) as connection:
        wanted = length_of(connection, dead_queue_of(queue)).ready
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
