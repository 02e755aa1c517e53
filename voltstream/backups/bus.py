"""Events of a time that is no more: what waits in RabbitMQ's queues when the database goes back.

They tell of what the restored database does not know, and a session's event has the id of the one that will be made
again, so that a consumer would take the wrong one and drop the right one. Readings stay: those in queues of gateways
and bridges, and those of gateways that failed and are dead letters.
"""

import time
from typing import Final

from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker

from kit.messaging.blocking import QueueLength, connected, length_of
from kit.messaging.bus import DEAD_LETTER_QUEUE
from kit.messaging.rabbit_bus import delay_queue, original_key
from kit.retry import load_retry_policy
from voltstream.services import all_services, queue_of

# They go on: what they hold is readings, which the database does not know yet.
MAY_GO_ON: Final = ("gateway", "bridge")
_POLL_S: Final = 0.5
_WHY: Final = "whose events are to be dropped"
_LATE_S: Final = 2.0  # for a message to go from one queue to another


def in_the_way(connected: list[str]) -> list[str]:
    """Of those connected to the database, the services that have to be stopped before it goes back: what they have
    fetched or computed they would handle afterwards."""
    services = {f"voltstream {service.name}" for service in all_services() if service.name not in MAY_GO_ON}
    return [who for who in connected if who.rpartition(" (")[0] in services]


def event_queues() -> set[str]:
    """Every queue of events of a service, but for those of processes, which end with them."""
    return {*_queues(going_on=False), DEAD_LETTER_QUEUE}


def _queues(*, going_on: bool) -> set[str]:
    """Queues of the services that may go on while a database goes back, or of the others."""
    return {
        queue_of(service, consumes)
        for service in all_services()
        if (service.name in MAY_GO_ON) is going_on
        for consumes in service.consumes
    }


def consumed_queues(url: str) -> list[str]:
    """Queues of events that services consume now, whether they reach the database or not: `dead_letters (1)`. Raises
    Unavailable, ConfigError, where RabbitMQ does not answer."""
    return [f"{queue} ({length.consumers})" for queue, length in _lengths(url).items() if length.consumers]


def has_events(url: str) -> bool:
    """Whether a service consumes events, or some wait for one. Raises as `consumed_queues`."""
    return any(length.ready or length.consumers for length in _lengths(url).values())


def _lengths(url: str) -> dict[str, QueueLength]:
    with connected(url, _WHY) as connection:
        return {queue: length_of(connection, queue) for queue in sorted(event_queues())}


def drop_events(url: str) -> int:
    """Empty the queues of events, once what waits for another attempt has come back to them; how many were in them.
    Blocks: for half a minute at most for those, and for a second for 1,000 dead letters. Raises Unavailable,
    ConfigError."""
    pauses_s = _pauses_s()
    until_s = time.monotonic() + max(pauses_s) + _LATE_S
    with connected(url, _WHY) as connection:
        # Dead letters that stay are unacknowledged until this channel ends, also where the process dies: then RabbitMQ
        # puts them back. It does so 20 times (ATTEMPTS_MAX in kit/retry.py), and the relay takes them in between.
        letters = connection.channel()
        dropped = _purge(connection, letters)
        # These queues are of all alike, and readings may wait in them too.
        while any(length_of(connection, delay_queue(pause_s)).ready for pause_s in pauses_s):
            if time.monotonic() > until_s:
                break
            connection.sleep(_POLL_S)
            dropped += _purge(connection, letters)
        return dropped + _purge(connection, letters)


def _pauses_s() -> set[float]:
    policies = load_retry_policy()
    of_queues = map(policies.of, event_queues())
    return {pause_s for policy in of_queues for pause_s in (*policy.pauses_s(), policy.ceiling_s)}


def _purge(connection: BlockingConnection, letters: BlockingChannel) -> int:
    dropped = _drop_letters(connection, letters)
    for queue in sorted(event_queues() - {DEAD_LETTER_QUEUE}):
        channel = connection.channel()
        try:
            dropped += channel.queue_purge(queue).method.message_count
        except ChannelClosedByBroker:
            continue  # there is no such queue
        channel.close()
    return dropped


def _drop_letters(connection: BlockingConnection, letters: BlockingChannel) -> int:
    """Drop the dead letters of events, and keep those of readings, unacknowledged by the channel `letters`; how many
    were dropped."""
    kept, dropped = _queues(going_on=True), 0
    if not length_of(connection, DEAD_LETTER_QUEUE).ready:  # or there is no such queue
        return 0
    while True:
        method, properties, _ = letters.basic_get(DEAD_LETTER_QUEUE)
        if method is None or properties is None:
            return dropped
        if original_key(properties.headers, method.routing_key or "") not in kept:
            letters.basic_ack(method.delivery_tag or 0)
            dropped += 1
