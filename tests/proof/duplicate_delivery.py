"""Makes RabbitMQ deliver every event twice: republishes each published event with the same event id."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika

from kit.messaging.bus import DIRECT
from schemas import topics
from schemas.topics import routing_key

_QUEUE = "proof_again"
_REPUBLISHED = "x-proof-again"  # header of republished events, which are not republished again
_PAUSE_S = 0.2  # between checks whether to stop
_STOP_S = 60  # against hanging

EVENT_TYPES = tuple(
    value
    for name, value in vars(topics).items()
    if isinstance(value, str) and value.endswith(".v1") and name != "READINGS_TOPIC"
)


class EventDuplicator:
    """Republishes every event, and counts them."""

    def __init__(self, rabbitmq_url: str) -> None:
        self.events = 0
        self._connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self._channel.exchange_declare(DIRECT, "direct", durable=True)
        self._channel.queue_declare(_QUEUE, exclusive=True)
        for type_ in EVENT_TYPES:
            self._channel.queue_bind(_QUEUE, DIRECT, routing_key(type_))
        self._stopping = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="duplicator")

    def start(self) -> None:
        """Start republishing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop once all events so far are republished. Raises the thread's error."""
        self._stopping.set()
        self._thread.join(_STOP_S)
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        try:
            for method, properties, body in self._channel.consume(_QUEUE, inactivity_timeout=_PAUSE_S):
                if method is None:
                    if self._stopping.is_set():
                        break
                    continue
                if _REPUBLISHED not in (properties.headers or {}):
                    self._republish(method.routing_key, properties, body)
                self._channel.basic_ack(method.delivery_tag)
            self._connection.close()
        except Exception as error:
            self._failed.append(error)

    def _republish(self, key: str, properties: Any, body: bytes) -> None:
        properties.headers = {**(properties.headers or {}), _REPUBLISHED: 1}
        self._channel.basic_publish(DIRECT, key, body, properties)
        self.events += 1


@contextmanager
def every_event_twice(rabbitmq_url: str) -> Iterator[EventDuplicator]:
    """Within the block; at its end all second deliveries are published."""
    duplicator = EventDuplicator(rabbitmq_url)
    duplicator.start()
    try:
        yield duplicator
    finally:
        duplicator.stop()
