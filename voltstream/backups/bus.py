"""Events of a time that is no more: what waits in RabbitMQ's queues when the database goes back.

They tell of what the restored database does not know, and a session's event has the id of the one that will be made
again, so that a consumer would take the wrong one and drop the right one. Frames of readings are in queues of their own
and stay.
"""

from typing import Final

import pika
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


def in_the_way(connected: list[str]) -> list[str]:
    """Of those connected to the database, the services that have to be stopped before it goes back: what they have
    fetched or computed they would handle afterwards."""
    services = {f"voltstream {service.name}" for service in all_services() if service.name not in MAY_GO_ON}
    return [who for who in connected if who.rpartition(" (")[0] in services]


def event_queues() -> set[str]:
    """Every queue of a service that is there for long, and those in which events wait for another attempt."""
    policies = load_retry_policy()
    queues = {queue_of(service, consumes) for service in all_services() for consumes in service.consumes}
    waiting = set()
    for queue in {*queues, DEAD_LETTER_QUEUE}:
        policy = policies.of(queue)
        waiting |= {delay_queue(pause_s) for pause_s in (*policy.pauses_s(), policy.ceiling_s)}
    return {*queues, *waiting, DEAD_LETTER_QUEUE}


def drop_events(url: str) -> int:
    """Empty them; how many events were in them. Blocks. Raises Unavailable, ConfigError."""
    dropped = 0
    try:
        with pika.BlockingConnection(rabbit_parameters(current(url))) as connection:
            for queue in sorted(event_queues()):
                channel = connection.channel()
                try:
                    dropped += channel.queue_purge(queue).method.message_count
                except ChannelClosedByBroker:
                    continue  # there is no such queue
                channel.close()
    except (AMQPError, OSError) as error:
        said = without_secrets(f"{type(error).__name__}: {error}", url)
        raise Unavailable(f"RabbitMQ does not answer, whose events are to be dropped: {said}") from None
    return dropped
