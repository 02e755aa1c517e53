"""Who has to be stopped before a database goes back, and which events do not outlive that."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from kit.errors import Unavailable
from kit.messaging.bus import DEAD_LETTER_QUEUE, DIRECT, EVENT_ID, ORIGIN_EXCHANGE, FailedMessage, Message
from kit.messaging.rabbit_bus import RabbitBus
from kit.retry import RetryPolicy
from tests.voltstream.event_queues import channel_to, empty_queues
from tests.waiting import eventually
from voltstream import runtime
from voltstream.backups import bus
from voltstream.backups.bus import MAY_GO_ON, consumed_queues, drop_events, event_queues, has_events, in_the_way
from voltstream.services import SERVICES

RUNTIME: Final = Path(runtime.__file__).parent
EVENTS, READINGS = "billing_session_completed", "ingest_telemetry_generated"
OF_BEFORE: Final = "service_of_before_session_completed"
# Tiny pauses: 10, 20, 20 ms.
POLICY = RetryPolicy.model_validate({"default": {"first_s": 0.01, "factor": 2, "ceiling_s": 0.02, "attempts_max": 4}})


def test_gateways_and_bridges_may_go_on_and_no_other_service() -> None:
    assert in_the_way([f"voltstream {name} (2)" for name in MAY_GO_ON]) == []
    others = [f"voltstream {name} (2)" for name in SERVICES if name not in MAY_GO_ON]
    assert in_the_way(others) == others


def test_what_every_process_keeps_open_has_no_services_name() -> None:
    """A gateway's own connections of the audit and the settings were taken for those services."""
    names = [
        name for path in RUNTIME.glob("*.py") for name in re.findall(r'name="(voltstream [\w ]+)"', path.read_text())
    ]
    assert len(names) >= 3
    assert in_the_way([f"{name} (1)" for name in names]) == []


# -- on RabbitMQ -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def rabbit(rabbitmq_url: str) -> AsyncIterator[RabbitBus]:
    """The queues of a platform, empty before and after."""
    made = RabbitBus(rabbitmq_url, POLICY, name="test")
    made.start()
    await made.wait_ready(60)
    for queue in (EVENTS, READINGS, OF_BEFORE):
        await made.declare(queue, DIRECT, queue.replace("_", "."))
    empty_queues(rabbitmq_url)
    yield made
    await made.close()
    empty_queues(rabbitmq_url)
    with channel_to(rabbitmq_url) as channel:
        channel.queue_delete(OF_BEFORE)


def _letter(queue: str, number: int) -> Message:
    message = Message(DIRECT, "some.event", b'{"number":%d}' % number, {EVENT_ID: f"{queue} {number}"})
    return FailedMessage(queue, message, "not one of ours").dead_letter()


async def _letters(rabbitmq_url: str, count: int) -> list[Message]:
    """What the relay is given: so many, and no more."""
    found: list[Message] = []

    async def take(message: Message) -> None:
        found.append(message)

    reader = RabbitBus(rabbitmq_url, POLICY, name="test reader")
    reader.start()
    await reader.subscribe_dead_letters(take)
    await eventually(lambda: len(found) >= count)
    await reader.close()
    with channel_to(rabbitmq_url) as channel:
        assert channel.queue_declare(DEAD_LETTER_QUEUE, passive=True).method.message_count == 0
    return sorted(found, key=lambda letter: letter.headers[EVENT_ID])


async def test_events_and_their_dead_letters_are_dropped_and_dead_letters_of_readings_stay(
    rabbit: RabbitBus, rabbitmq_url: str
) -> None:
    """A gateway's readings that failed were confirmed to their publisher, and are kept to be replayed."""
    await rabbit.publish(Message(DIRECT, "billing.session.completed", b"{}"))
    kept = [_letter(READINGS, number) for number in range(3)]
    for letter in (_letter(EVENTS, 1), kept[0], _letter(OF_BEFORE, 1), kept[1], _letter(EVENTS, 2), kept[2]):
        await rabbit.publish(letter)
    assert has_events(rabbitmq_url)
    assert drop_events(rabbitmq_url) == 4
    assert await _letters(rabbitmq_url, 3) == [_again(letter) for letter in kept], "each once, with all that it had"
    assert not has_events(rabbitmq_url)


def _again(letter: Message) -> Message:
    """As it is delivered after one delivery that nobody acknowledged."""
    return Message(letter.exchange, letter.routing_key, letter.body, letter.headers, letter.attempt + 1)


async def test_a_dead_letter_that_came_through_a_delay_queue_is_known_by_the_queue_that_it_failed_in(
    rabbit: RabbitBus, rabbitmq_url: str
) -> None:
    """The relay could not store it yet: it comes back by another route."""
    failing = RabbitBus(rabbitmq_url, POLICY, name="test relay")
    failing.start()
    seen: list[int] = []

    async def fail(letter: Message) -> None:
        seen.append(letter.attempt)
        raise RuntimeError("no database")

    await failing.subscribe_dead_letters(fail)
    for queue in (EVENTS, READINGS):
        await rabbit.publish(_letter(queue, 1))
    await eventually(lambda: len(seen) >= 6)
    await failing.close()
    with channel_to(rabbitmq_url) as channel:
        await eventually(lambda: channel.queue_declare(DEAD_LETTER_QUEUE, passive=True).method.message_count == 2)
    assert drop_events(rabbitmq_url) == 1
    (letter,) = await _letters(rabbitmq_url, 1)
    assert (letter.routing_key, letter.headers[ORIGIN_EXCHANGE]) == (READINGS, DIRECT)


async def test_a_drop_that_dies_under_way_has_lost_no_dead_letter_of_readings(
    rabbit: RabbitBus, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await rabbit.publish(_letter(READINGS, number))

    def die(*_: object) -> int:
        raise OSError("the machine is gone")

    purge = bus._drop_letters
    monkeypatch.setattr(bus, "_drop_letters", lambda *all_of_it: (purge(*all_of_it), die()))
    with pytest.raises(Unavailable, match="whose events are to be dropped: OSError"):
        drop_events(rabbitmq_url)
    assert len(await _letters(rabbitmq_url, 3)) == 3


async def test_who_takes_events_is_seen_without_a_database_and_gateways_are_not_in_the_way(
    rabbit: RabbitBus, rabbitmq_url: str
) -> None:
    async def take(_: Message) -> None: ...

    await rabbit.subscribe(READINGS, DIRECT, "ingest.telemetry.generated", take)
    assert consumed_queues(rabbitmq_url) == []
    assert not has_events(rabbitmq_url)
    await rabbit.subscribe(EVENTS, DIRECT, "billing.session.completed", take)
    await rabbit.subscribe_dead_letters(take)
    assert consumed_queues(rabbitmq_url) == [f"{EVENTS} (1)", f"{DEAD_LETTER_QUEUE} (1)"]
    assert has_events(rabbitmq_url)
    assert READINGS not in event_queues()
