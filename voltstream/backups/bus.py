"""Events of a time that is no more: what waits in RabbitMQ's queues when the database goes back.

They tell of what the restored database does not know, and a session's event has the id of the one that will be made
again, so that a consumer would take the wrong one and drop the right one. Readings are in queues of gateways and
bridges and stay.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pika
from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from kit.errors import Unavailable
from kit.messaging.bus import DEAD_LETTER_QUEUE
from kit.messaging.rabbit_bus import delay_queue
from kit.messaging.rabbit_connection import rabbit_parameters
from kit.retry import load_retry_policy
from kit.secrets.text import current
from kit.secrets.urls import without_secrets
from voltstream.services import all_services, queue_of

# They go on: what they hold is readings, which the database does not know yet.
MAY_GO_ON: Final = ("gateway", "bridge")
_POLL_S: Final = 0.5
_LATE_S: Final = 2.0  # for a message to go from one queue to another


def in_the_way(connected: list[str]) -> list[str]:
    """Of those connected to the database, the services that have to be stopped before it goes back: what they have
    fetched or computed they would handle afterwards."""
    services = {f"voltstream {service.name}" for service in all_services() if service.name not in MAY_GO_ON}
    return [who for who in connected if who.rpartition(" (")[0] in services]


def event_queues() -> set[str]:
    """Every queue of events of a service, but for those of processes, which end with them."""
    queues = {
        queue_of(service, consumes)
        for service in all_services()
        if service.name not in MAY_GO_ON
        for consumes in service.consumes
    }
    return {*queues, DEAD_LETTER_QUEUE}


def check_bus(url: str) -> None:
    """Raises Unavailable, ConfigError, where RabbitMQ does not answer."""
    with _connected(url):
        pass


def drop_events(url: str) -> int:
    """Empty them, once what waits for another attempt has come back to them; how many events were in them. Blocks, for
    half a minute at most. Raises Unavailable, ConfigError."""
    pauses_s = _pauses_s()
    until_s = time.monotonic() + max(pauses_s) + _LATE_S
    with _connected(url) as connection:
        dropped = _purge(connection)
        # These queues are of all alike, and readings may wait in them too.
        while any(_waiting(connection, delay_queue(pause_s)) for pause_s in pauses_s):
            if time.monotonic() > until_s:
                break
            connection.sleep(_POLL_S)
            dropped += _purge(connection)
        return dropped + _purge(connection)


@contextmanager
def _connected(url: str) -> Iterator[BlockingConnection]:
    try:
        with pika.BlockingConnection(rabbit_parameters(current(url))) as connection:
            yield connection
    except (AMQPError, OSError) as error:
        said = without_secrets(f"{type(error).__name__}: {error}", url)
        raise Unavailable(f"RabbitMQ does not answer, whose events are to be dropped: {said}") from None


def _pauses_s() -> set[float]:
    policies = load_retry_policy()
    of_queues = map(policies.of, event_queues())
    return {pause_s for policy in of_queues for pause_s in (*policy.pauses_s(), policy.ceiling_s)}


def _purge(connection: BlockingConnection) -> int:
    dropped = 0
    for queue in sorted(event_queues()):
        channel = connection.channel()
        try:
            dropped += channel.queue_purge(queue).method.message_count
        except ChannelClosedByBroker:
            continue  # there is no such queue
        channel.close()
    return dropped


def _waiting(connection: BlockingConnection, queue: str) -> int:
    channel = connection.channel()
    try:
        waiting: int = channel.queue_declare(queue, passive=True).method.message_count
    except ChannelClosedByBroker:
        return 0
    channel.close()
    return waiting
