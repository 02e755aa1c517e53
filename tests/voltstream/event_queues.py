"""The queues of a platform on the private RabbitMQ, which all tests of a session share."""

from collections.abc import Iterator
from contextlib import contextmanager

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from kit.messaging.rabbit_bus import QUEUE_MESSAGES_MAX, delay_queue
from kit.retry import load_retry_policy
from voltstream.backups.bus import MAY_GO_ON, event_queues
from voltstream.services import queue_of, service

READINGS = {queue_of(service(name), one) for name in MAY_GO_ON for one in service(name).consumes}
# As the bus declares the queues of events.
ARGUMENTS = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length": QUEUE_MESSAGES_MAX}


@contextmanager
def channel_to(url: str) -> Iterator[BlockingChannel]:
    """A channel of its own connection."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        yield connection.channel()


@contextmanager
def consumer(url: str, queue: str) -> Iterator[None]:
    """A service that takes events from a queue within the block, whatever has become of its database."""
    with channel_to(url) as channel:
        channel.queue_declare(queue, durable=True, arguments=ARGUMENTS)
        channel.basic_consume(queue, lambda *_: None)
        yield


def empty_queues(url: str) -> None:
    """What other tests left in them."""
    delays = map(delay_queue, load_retry_policy().default.pauses_s())
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        for queue in {*event_queues(), *READINGS, *delays}:
            channel = connection.channel()
            try:
                channel.queue_purge(queue)
            except ChannelClosedByBroker:
                continue  # there is no such queue
            channel.close()
