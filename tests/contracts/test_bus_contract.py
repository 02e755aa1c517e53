"""Contract of the event bus: laws that both implementations keep, in memory and over RabbitMQ."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Overloaded, QueueFull, Unavailable, Unprocessable
from kit.messaging.bus import (
    ATTEMPTS,
    DEAD_LETTERS,
    DEFAULT_EXCHANGE,
    DIRECT,
    ERROR,
    EVENT_ID,
    FANOUT,
    LETTER_ID,
    ORIGIN_EXCHANGE,
    ORIGIN_ROUTING_KEY,
    REPLAYS,
    Bus,
    FailedMessage,
    InProcessBus,
    Message,
    replay_of,
)
from kit.messaging.full_queues import PublisherPastFullQueues
from kit.messaging.gate import Gate
from kit.messaging.rabbit_bus import RabbitBus
from kit.retry import RetryPolicy
from tests.private_servers import PrivateServers
from tests.waiting import eventually

# Tiny pauses, the same law: 10, 20, 20 ms.
POLICY = RetryPolicy.model_validate(
    {"default": {"first_s": 0.01, "factor": 2, "ceiling_s": 0.02, "attempts_max": 4, "handler_timeout_s": 5}}
)
QUEUE_MESSAGES_MAX = 20
MakeBus = Callable[[], Awaitable[Bus]]


def announce(given_up: FailedMessage) -> Message:
    """The failure events of one test have one routing key: a queue's name begins with the test's."""
    test = "_".join(given_up.queue.split("_")[:2])
    return Message(DIRECT, f"{test}.failed", f"{given_up.queue}: {given_up.error}".encode())


@pytest.fixture
def name() -> str:
    """Queues and keys of one test."""
    return f"t_{uuid4().hex[:12]}"


@pytest.fixture(params=["in-process", pytest.param("rabbitmq", marks=pytest.mark.server)])
async def make_bus(request: pytest.FixtureRequest) -> AsyncIterator[MakeBus]:
    """Makes buses (in-process: the one), and closes them."""
    made: list[Bus] = []

    async def make() -> Bus:
        if request.param == "in-process":
            if not made:
                made.append(InProcessBus(POLICY, announce=announce, queue_messages_max=QUEUE_MESSAGES_MAX))
        else:
            bus = RabbitBus(url, POLICY, name="test", announce=announce, queue_messages_max=QUEUE_MESSAGES_MAX)
            made.append(bus)
            bus.start()
            await bus.wait_ready(30)
        return made[-1]

    url = request.getfixturevalue("rabbitmq_url") if request.param == "rabbitmq" else ""
    yield make
    for bus in made:
        await bus.close()


@pytest.fixture
async def bus(make_bus: MakeBus) -> Bus:
    """One bus."""
    return await make_bus()


class RecordingHandler:
    """A handler that records its messages, and fails as configured."""

    def __init__(self, fail_attempts: int = 0) -> None:
        self.messages: list[Message] = []
        self.failures: list[Exception] = []  # of the next calls
        self._fail_attempts = fail_attempts

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if self.failures:
            raise self.failures.pop(0)
        if message.attempt <= self._fail_attempts:
            raise RuntimeError(f"attempt {message.attempt} fails")

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]


async def test_a_direct_message_reaches_every_queue_bound_with_its_key_and_no_other(bus: Bus, name: str) -> None:
    one, two, other = RecordingHandler(), RecordingHandler(), RecordingHandler()
    await bus.subscribe(f"{name}_one", DIRECT, name, one)
    await bus.subscribe(f"{name}_two", DIRECT, name, two)
    await bus.subscribe(f"{name}_other", DIRECT, f"{name}.other", other)
    await bus.publish(Message(DIRECT, name, b"it", {EVENT_ID: "7", "correlation": "ü"}))
    await bus.publish(Message(DIRECT, f"{name}.other", b"the other"))
    await eventually(lambda: one.messages and two.messages and other.messages)
    expected = Message(DIRECT, name, b"it", {EVENT_ID: "7", "correlation": "ü"}, 1)
    assert one.messages == two.messages == [expected]
    assert other.bodies == [b"the other"]


async def test_a_broadcast_reaches_every_queue_with_its_key_and_no_other(bus: Bus, name: str) -> None:
    one, two, other = RecordingHandler(), RecordingHandler(), RecordingHandler()
    await bus.subscribe(f"{name}_one", FANOUT, name, one)
    await bus.subscribe(f"{name}_two", FANOUT, name, two)
    await bus.subscribe(f"{name}_other", FANOUT, f"{name}.other", other)
    await bus.publish(Message(FANOUT, name, b"it"))
    await bus.publish(Message(FANOUT, f"{name}.other", b"the other"))
    await eventually(lambda: one.messages and two.messages and other.messages)
    assert (one.bodies, two.bodies, other.bodies) == ([b"it"], [b"it"], [b"the other"])


async def test_a_broadcast_reaches_every_process_once_and_only_what_it_asked_for(make_bus: MakeBus, name: str) -> None:
    one, two = RecordingHandler(), RecordingHandler()
    first, second = await make_bus(), await make_bus()
    await first.subscribe_process(f"{name}_one", FANOUT, name, one)
    await second.subscribe_process(f"{name}_two", FANOUT, name, two)
    for number in range(3):
        await first.publish(Message(FANOUT, f"{name}.other", b"not for them"))
        await first.publish(Message(FANOUT, name, b"%d" % number))
    await eventually(lambda: len(one.messages) >= 3 and len(two.messages) >= 3)
    assert one.bodies == two.bodies == [b"0", b"1", b"2"]


async def test_a_broadcast_that_a_process_fails_on_is_neither_tried_again_nor_dead_lettered(
    bus: Bus, name: str
) -> None:
    seen, dead = RecordingHandler(), RecordingHandler()
    seen.failures += [RuntimeError("once"), Unavailable("away")]
    await bus.subscribe(f"{name}_ops", DEAD_LETTERS, name, dead)
    await bus.subscribe_process(name, FANOUT, name, seen)
    for body in (b"1", b"2", b"3"):
        await bus.publish(Message(FANOUT, name, body))
    await eventually(lambda: len(seen.messages) >= 3)
    assert (seen.bodies, dead.messages) == ([b"1", b"2", b"3"], [])


async def test_while_a_gate_is_closed_messages_wait_and_none_is_lost(bus: Bus, name: str) -> None:
    gate, seen, other = Gate(is_open=False), RecordingHandler(), RecordingHandler()
    await bus.subscribe(name, DIRECT, name, seen, prefetch=1, gate=gate)
    await bus.subscribe(f"{name}_other", DIRECT, name, other)

    async def publish(numbers: range) -> list[asyncio.Task[None]]:
        publishing = [asyncio.create_task(bus.publish(Message(DIRECT, name, b"%d" % n))) for n in numbers]
        await eventually(lambda: len(other.messages) == numbers.stop)  # what is open goes on
        return publishing

    publishing = await publish(range(8))
    assert seen.messages == []
    gate.set(is_open=True)
    await eventually(lambda: len(seen.messages) == 8)
    gate.set(is_open=False)
    gate.set(is_open=True)
    gate.set(is_open=False)
    await asyncio.gather(*publishing)
    taken = await closed(bus, gate, seen)
    publishing = await publish(range(8, 15))
    assert len(seen.messages) == taken
    gate.set(is_open=True)
    await asyncio.gather(*publishing)
    await eventually(lambda: {b"%d" % number for number in range(15)} <= set(seen.bodies))
    assert Counter(body for body in seen.bodies if body.isdigit()) == Counter(b"%d" % number for number in range(15))


@given(st.booleans(), st.booleans(), st.lists(st.tuples(st.booleans(), st.booleans())))
def test_a_gate_behind_another_is_open_while_both_are(one: bool, other: bool, moves: list[tuple[bool, bool]]) -> None:
    gates = {True: Gate(is_open=one), False: Gate(is_open=other)}
    both = gates[True].behind(gates[False])
    told: list[bool] = []
    both.watch(told.append)
    for which, is_open in moves:
        gates[which].set(is_open=is_open)
        assert both.is_open == all(gate.is_open for gate in gates.values())
    changes = [one and other, *told]
    assert all(before != after for before, after in itertools.pairwise(changes))
    assert gates[True].behind(None) is gates[True]


async def closed(bus: Bus, gate: Gate, seen: RecordingHandler) -> int:
    """Until the closed gate has reached the broker: how many messages were handled before."""
    if isinstance(bus, RabbitBus):
        consumers: list[Any] = [subscription.consumer for subscription in bus._subscriptions]
        (consumer,) = (consumer for consumer in consumers if consumer._gate is gate)
        await eventually(lambda: bool(not consumer._channel.raw.consumer_tags))
    return len(seen.messages)


async def test_a_gate_that_closes_lets_what_is_at_work_finish(bus: Bus, name: str) -> None:
    gate, begun, release, finished = Gate(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(_: Message) -> None:
        begun.set()
        await release.wait()
        finished.set()

    await bus.subscribe(name, DIRECT, name, handler, prefetch=1, gate=gate)
    publishing = asyncio.create_task(bus.publish(Message(DIRECT, name, b"it")))
    await begun.wait()
    gate.set(is_open=False)
    release.set()
    await asyncio.gather(publishing, finished.wait())


async def test_a_closed_gate_does_not_hold_up_closing(make_bus: MakeBus, name: str) -> None:
    bus, seen = await make_bus(), RecordingHandler()
    await bus.subscribe(name, DIRECT, name, seen, gate=Gate(is_open=False))
    publishing = asyncio.create_task(bus.publish(Message(DIRECT, name, b"it")))
    if isinstance(bus, RabbitBus):
        await publishing
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await bus.close()
    await asyncio.wait((publishing,))
    assert seen.messages == []
    if publishing.exception() is None:  # the broker has it, not we
        await (await make_bus()).subscribe(name, DIRECT, name, again := RecordingHandler())
        await eventually(lambda: again.bodies == [b"it"])
    else:
        assert isinstance(publishing.exception(), Unavailable)


async def test_a_message_without_a_bound_queue_is_accepted(bus: Bus, name: str) -> None:
    await bus.publish(Message(DIRECT, name, b"unrouted"))


async def test_consumers_of_one_queue_share_its_messages(make_bus: MakeBus, name: str) -> None:
    seen = [RecordingHandler(), RecordingHandler()]
    first = await make_bus()
    for handler in seen:
        await (await make_bus()).subscribe(name, DIRECT, name, handler)
    for number in range(15):
        await first.publish(Message(DIRECT, name, b"%d" % number))
    await eventually(lambda: len(seen[0].messages) + len(seen[1].messages) >= 15)
    assert Counter(seen[0].bodies + seen[1].bodies) == Counter(b"%d" % number for number in range(15))


async def test_with_a_prefetch_of_one_the_order_of_publishing_is_kept(bus: Bus, name: str) -> None:
    seen = RecordingHandler()
    await bus.subscribe(name, DIRECT, name, seen, prefetch=1)
    await asyncio.gather(*(bus.publish(Message(DIRECT, name, b"%d" % number)) for number in range(15)))
    await eventually(lambda: len(seen.messages) == 15)
    assert seen.bodies == [b"%d" % number for number in range(15)]


async def test_no_more_than_prefetch_are_handled_at_once(bus: Bus, name: str) -> None:
    running, most, finished = 0, 0, 0
    release = asyncio.Event()

    async def handler(_: Message) -> None:
        nonlocal running, most, finished
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        finished += 1

    await bus.subscribe(name, DIRECT, name, handler, prefetch=3)
    publishes = [asyncio.create_task(bus.publish(Message(DIRECT, name, b"x"))) for _ in range(15)]
    await eventually(lambda: running == 3)
    release.set()
    await asyncio.gather(*publishes)
    await eventually(lambda: finished == 15)
    assert most == 3


async def test_a_failed_message_is_redelivered_with_its_attempts_counted(bus: Bus, name: str) -> None:
    seen = RecordingHandler(fail_attempts=2)
    await bus.subscribe(name, DIRECT, name, seen)
    await bus.publish(Message(DIRECT, name, b"it", {EVENT_ID: "8"}))
    await eventually(lambda: len(seen.messages) == 3)
    assert seen.messages == [Message(DIRECT, name, b"it", {EVENT_ID: "8"}, attempt) for attempt in (1, 2, 3)]


async def test_a_failing_message_does_not_hold_up_the_next(bus: Bus, name: str) -> None:
    fine: list[bytes] = []

    async def handler(message: Message) -> None:
        if message.body == b"bad":
            raise RuntimeError("bad")
        fine.append(message.body)

    await bus.subscribe(name, DIRECT, name, handler, prefetch=1)
    await asyncio.gather(*(bus.publish(Message(DIRECT, name, body)) for body in (b"bad", b"good", b"better")))
    await eventually(lambda: fine == [b"good", b"better"])


async def test_a_message_out_of_attempts_is_dead_lettered_with_its_error(bus: Bus, name: str) -> None:
    seen, dead = RecordingHandler(fail_attempts=99), RecordingHandler()
    await bus.subscribe(f"{name}_ops", DEAD_LETTERS, name, dead)
    await bus.subscribe(name, DIRECT, f"{name}.key", seen)
    await bus.publish(Message(DIRECT, f"{name}.key", b"it", {EVENT_ID: "9"}))
    await eventually(lambda: dead.messages)
    assert [message.attempt for message in seen.messages] == [1, 2, 3, 4]
    (letter,) = dead.messages
    assert (letter.exchange, letter.routing_key, letter.body, letter.attempt) == (DEAD_LETTERS, name, b"it", 1)
    assert letter.headers == {
        EVENT_ID: "9",
        ERROR: "RuntimeError: attempt 4 fails",
        ATTEMPTS: "4",
        LETTER_ID: str(FailedMessage(name, seen.messages[0], "").letter_id),
        ORIGIN_EXCHANGE: DIRECT,
        ORIGIN_ROUTING_KEY: f"{name}.key",
    }


async def test_an_outage_of_a_dependency_costs_a_message_no_attempt(bus: Bus, name: str) -> None:
    seen = RecordingHandler(fail_attempts=1)
    seen.failures += [Unavailable("away"), Overloaded("full"), Unavailable("away")]
    await bus.subscribe(name, DIRECT, name, seen)
    await bus.publish(Message(DIRECT, name, b"it"))
    await eventually(lambda: len(seen.messages) == 5)
    assert [message.attempt for message in seen.messages] == [1, 1, 1, 1, 2]


async def test_an_outage_longer_than_the_policy_allows_is_a_failed_attempt(rabbitmq_url: str, name: str) -> None:
    policy = RetryPolicy.model_validate(
        {"default": {"first_s": 0.01, "ceiling_s": 0.02, "attempts_max": 2, "outage_s": 0.05}}
    )
    for bus in (InProcessBus(policy), RabbitBus(rabbitmq_url, policy, name="test")):
        if isinstance(bus, RabbitBus):
            bus.start()
            await bus.wait_ready(30)  # subscribing waits for one of its two connections only
        away, dead = RecordingHandler(), RecordingHandler()
        away.failures += [Unavailable("away")] * 1_000
        await bus.subscribe(f"{name}_ops", DEAD_LETTERS, name, dead)
        await bus.subscribe(name, DIRECT, name, away)
        await bus.publish(Message(DIRECT, name, b"it"))
        await eventually(lambda dead=dead: dead.messages)  # type: ignore[misc]  # mypy does not infer it
        assert dead.messages[0].headers[ERROR] == "Unavailable: away"
        assert {message.attempt for message in away.messages} == {1, 2}
        await bus.close()


async def test_a_message_that_waits_for_a_dependency_does_not_hold_up_closing(make_bus: MakeBus, name: str) -> None:
    bus, seen = await make_bus(), RecordingHandler()
    seen.failures += [Unavailable("away")] * 1_000
    await bus.subscribe(name, DIRECT, name, seen)
    publishing = asyncio.create_task(bus.publish(Message(DIRECT, name, b"it")))
    await eventually(lambda: len(seen.messages) >= 3)
    async with asyncio.timeout(5):  # a handler at work would be waited for twice as long
        await bus.close()
    await asyncio.wait((publishing,))
    if publishing.exception() is None:  # the broker has it, not we
        await (await make_bus()).subscribe(name, DIRECT, name, again := RecordingHandler())
        await eventually(lambda: again.bodies == [b"it"])


async def test_an_unprocessable_message_is_dead_lettered_at_once(bus: Bus, name: str) -> None:
    seen, dead = RecordingHandler(), RecordingHandler()
    seen.failures.append(Unprocessable("no event"))
    await bus.subscribe(f"{name}_ops", DEAD_LETTERS, name, dead)
    await bus.subscribe(name, DIRECT, name, seen)
    await bus.publish(Message(DIRECT, name, b"it"))
    await eventually(lambda: dead.messages)
    assert len(seen.messages) == 1
    assert (dead.messages[0].headers[ERROR], dead.messages[0].headers[ATTEMPTS]) == ("Unprocessable: no event", "1")


class Archive(RecordingHandler):
    """Records the dead letters of one test: all tests share the queue."""

    def __init__(self, test: str) -> None:
        super().__init__()
        self._test = test

    async def __call__(self, message: Message) -> None:
        if message.routing_key.startswith(self._test):
            await super().__call__(message)

    def of(self, queue: str) -> Message:
        """The letter of that queue, if there is one."""
        return next(message for message in self.messages if message.routing_key == queue)


async def test_a_dead_letter_subscriber_gets_those_of_every_queue_and_earlier_ones(bus: Bus, name: str) -> None:
    queues = [f"{name}_{number}" for number in range(3)]
    for queue in queues[:2]:
        await bus.subscribe(queue, DIRECT, queue, RecordingHandler(fail_attempts=99))
    await asyncio.wait({asyncio.create_task(bus.publish(Message(DIRECT, queues[0], b"before")))})
    archive = Archive(name)
    await bus.subscribe_dead_letters(archive)
    await bus.subscribe(queues[2], DIRECT, queues[2], RecordingHandler(fail_attempts=99))
    for queue in queues[1:]:
        await bus.publish(Message(DIRECT, queue, b"after"))
    await eventually(lambda: len(archive.messages) == 3)
    assert {message.routing_key: message.body for message in archive.messages} == {
        queues[0]: b"before",
        queues[1]: b"after",
        queues[2]: b"after",
    }


async def test_a_dead_letter_is_redelivered_until_it_is_acknowledged(bus: Bus, name: str) -> None:
    archive, dead = Archive(name), RecordingHandler()
    archive.failures += [RuntimeError(f"{number}") for number in range(9)]  # more than any message has attempts
    archive.failures += [Unprocessable("not this one")]
    await bus.subscribe_dead_letters(archive)
    await bus.subscribe(name, DIRECT, name, RecordingHandler(fail_attempts=99))
    await bus.subscribe(f"{name}_ops", DEAD_LETTERS, name, dead)
    await bus.publish(Message(DIRECT, name, b"it"))
    await eventually(lambda: len(archive.messages) == 11)
    await eventually(lambda: dead.messages)  # another queue, at its own pace
    assert len(dead.messages) == 1


async def test_a_dead_lettered_message_is_announced(bus: Bus, name: str) -> None:
    announcements = RecordingHandler()
    await bus.subscribe(f"{name}_mail", DIRECT, f"{name}.failed", announcements)
    await bus.subscribe(f"{name}_shop", DIRECT, name, RecordingHandler(fail_attempts=99))
    await bus.publish(Message(DIRECT, name, b"it"))
    await eventually(lambda: announcements.messages)
    assert announcements.bodies == [f"{name}_shop: RuntimeError: attempt 4 fails".encode()]


async def test_a_dead_lettered_announcement_is_not_announced(bus: Bus, name: str) -> None:
    announcements, dead = RecordingHandler(fail_attempts=99), RecordingHandler()
    await bus.subscribe(f"{name}_ops", DEAD_LETTERS, f"{name}_mail", dead)
    await bus.subscribe(f"{name}_mail", DIRECT, f"{name}.failed", announcements)
    await bus.subscribe(f"{name}_shop", DIRECT, name, RecordingHandler(fail_attempts=99))
    await bus.publish(Message(DIRECT, name, b"it"))
    await eventually(lambda: dead.messages)
    marker = RecordingHandler()
    await bus.subscribe(f"{name}_marker", DIRECT, f"{name}.failed", marker)
    await bus.publish(Message(DIRECT, f"{name}.failed", b"the next one"))
    await eventually(lambda: marker.messages)
    assert marker.bodies == [b"the next one"]
    await eventually(lambda: b"the next one" in announcements.bodies)  # another queue, at its own pace
    assert set(announcements.bodies) == {f"{name}_shop: RuntimeError: attempt 4 fails".encode(), b"the next one"}


async def test_a_replayed_letter_reaches_only_the_queue_that_failed(bus: Bus, name: str) -> None:
    seen, other, archive = RecordingHandler(fail_attempts=99), RecordingHandler(), Archive(name)
    await bus.subscribe_dead_letters(archive)
    await bus.subscribe(f"{name}_other", DIRECT, name, other)
    await bus.subscribe(name, DIRECT, name, seen)
    original = Message(DIRECT, name, b"it", {EVENT_ID: "9", "more": "ü"})
    await bus.publish(original)
    await eventually(lambda: archive.messages)
    for times in (1, 2):
        await bus.publish(replay_of(archive.messages[-1]))
        await eventually(lambda times=times: len(archive.messages) == times + 1)  # type: ignore[misc]  # mypy infers no lambda with a default
        first = seen.messages[4 * times]
        assert first == Message(DIRECT, name, b"it", {**original.headers, REPLAYS: str(times)}, 1)
    assert len({letter.headers[LETTER_ID] for letter in archive.messages}) == 3
    await eventually(lambda: other.messages)  # another queue, at its own pace
    assert other.messages == [original]


async def test_a_replay_to_a_queue_that_does_not_exist_is_an_error(bus: Bus, name: str) -> None:
    await bus.publish(Message(DIRECT, name, b"so that it is connected"))
    with pytest.raises(Unavailable, match=name):
        await bus.publish(Message(DEFAULT_EXCHANGE, name, b"it"))


async def test_a_full_queue_rejects_publishes(bus: Bus, name: str) -> None:
    release = asyncio.Event()

    async def handler(_: Message) -> None:
        await release.wait()

    await bus.subscribe(name, DIRECT, name, handler, prefetch=1)
    publishes: list[asyncio.Task[None]] = []

    async def one_more_is_refused() -> bool:
        """RabbitMQ rejects publishes a little late: a full queue may still accept some."""
        publishes.append(asyncio.create_task(bus.publish(Message(DIRECT, name, b"x"))))
        await asyncio.wait(publishes[-1:], timeout=0.01)
        return any(task.done() and task.exception() is not None for task in publishes)

    async with asyncio.timeout(30):
        while not await one_more_is_refused():
            pass
    taken = len(publishes)
    release.set()
    outcomes = await asyncio.gather(*publishes, return_exceptions=True)
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert all(isinstance(outcome, Overloaded) for outcome in refused)
    assert taken >= QUEUE_MESSAGES_MAX


@pytest.mark.parametrize("exchange", [DIRECT, FANOUT])
async def test_a_queue_that_nobody_reads_is_filled_by_its_own_key_only_and_stops_no_other(
    bus: Bus, name: str, exchange: str
) -> None:
    seen = RecordingHandler()
    await bus.declare(f"{name}_unread", exchange, name)
    await bus.subscribe(f"{name}_other", exchange, f"{name}.other", seen)
    for number in range(3 * QUEUE_MESSAGES_MAX):
        await bus.publish(Message(exchange, f"{name}.other", b"%d" % number))
    await eventually(lambda: len(seen.bodies) == 3 * QUEUE_MESSAGES_MAX)
    late = RecordingHandler()
    await bus.subscribe(f"{name}_unread", exchange, name, late)
    await bus.publish(Message(exchange, name, b"its own"))
    await eventually(lambda: late.messages)
    assert late.bodies == [b"its own"]


@pytest.mark.parametrize("exchange", [DIRECT, FANOUT])
async def test_what_a_full_queue_refuses_reaches_the_others_and_becomes_its_dead_letter(
    bus: Bus, name: str, exchange: str
) -> None:
    archive, here, back = Archive(name), RecordingHandler(), RecordingHandler()
    await bus.subscribe_dead_letters(archive)
    await bus.declare(f"{name}_gone", exchange, name)
    await bus.subscribe(f"{name}_here", exchange, name, here)
    queues = {(exchange, name): [f"{name}_gone", f"{name}_here"]}
    at_once, patient = (PublisherPastFullQueues(bus, queues, announce, refused_s=after_s) for after_s in (0.0, 3_600.0))
    publishing: list[asyncio.Task[None]] = []
    async with asyncio.timeout(30):
        while len(archive.messages) < 3:
            number = len(publishing)
            message = Message(exchange, name, b"%d" % number, {EVENT_ID: str(number)})
            publishing.append(asyncio.create_task(at_once.publish(message)))
            await asyncio.wait(publishing[-1:], timeout=0.01)
    with pytest.raises(QueueFull):
        await patient.publish(Message(exchange, name, b"refused", {EVENT_ID: "refused"}))
    bodies = {b"%d" % number for number in range(len(publishing))}
    await eventually(lambda: set(here.bodies) - {b"refused"} == bodies)

    assert {letter.routing_key for letter in archive.messages} == {f"{name}_gone"}
    assert "full" in archive.messages[0].headers[ERROR]
    await bus.subscribe(f"{name}_gone", exchange, name, back)
    await asyncio.gather(*publishing)
    for letter in archive.messages:
        await bus.publish(replay_of(letter))
    await eventually(lambda: set(back.bodies) == bodies)
    assert {(one.exchange, one.routing_key) for one in back.messages} == {(exchange, name)}


async def test_an_unknown_exchange_is_an_error_of_the_caller(bus: Bus, name: str) -> None:
    with pytest.raises(ValueError, match="no exchange"):
        await bus.publish(Message("nonesuch", name, b"x"))
    with pytest.raises(ValueError, match="no exchange"):
        await bus.subscribe(name, "nonesuch", name, RecordingHandler())


async def test_closing_waits_for_running_handlers(make_bus: MakeBus, name: str) -> None:
    begun, release, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(_: Message) -> None:
        begun.set()
        await release.wait()
        finished.set()

    bus = await make_bus()
    await bus.subscribe(name, DIRECT, name, handler)
    publishing = asyncio.create_task(bus.publish(Message(DIRECT, name, b"x")))
    await begun.wait()
    if isinstance(bus, RabbitBus):
        await publishing  # the confirm comes on a connection of its own, which closing would cut off
    closing = asyncio.create_task(bus.close())
    await asyncio.sleep(0)
    release.set()
    await closing
    await publishing
    assert finished.is_set()
    with pytest.raises(Unavailable):
        await bus.publish(Message(DIRECT, name, b"y"))


async def test_unacknowledged_messages_are_redelivered_after_their_consumer_ended(rabbitmq_url: str, name: str) -> None:
    """RabbitMQ only: in memory the publisher publishes again what was not confirmed."""
    first = RabbitBus(rabbitmq_url, POLICY, name="test")
    first.start()
    begun = asyncio.Event()

    async def never(_: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    await first.subscribe(name, DIRECT, name, never)
    await first.wait_ready(30)
    await first.publish(Message(DIRECT, name, b"it"))
    await begun.wait()
    await first._in.close()  # the connection ends without an acknowledgement, as when the process is killed
    second, seen = RabbitBus(rabbitmq_url, POLICY, name="test"), RecordingHandler()
    second.start()
    await second.subscribe(name, DIRECT, name, seen)
    await eventually(lambda: seen.bodies == [b"it"])
    assert seen.messages[0].attempt == 2, "a message that kills its consumer must run out of attempts"
    await second.close()
    for task in [task for subscription in first._subscriptions for task in subscription._handling]:
        task.cancel()
    await first.close()


async def restarted(servers: PrivateServers) -> None:
    """Restart in good order. RabbitMQ 3.10 that is killed within a second or two of a queue's first declaration may
    never answer for that queue again, whatever a client does: declare at set-up, as the relay does."""
    await asyncio.to_thread(servers.rabbitmq.stop)
    await asyncio.to_thread(servers.rabbitmq.start)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_no_confirmed_message_is_lost_when_the_broker_restarts(
    rabbitmq_url: str, servers: PrivateServers, name: str, how: str
) -> None:
    bus, seen = RabbitBus(rabbitmq_url, POLICY, name="test"), RecordingHandler(fail_attempts=1)
    bus.start()
    await bus.subscribe(name, DIRECT, name, seen)
    await bus.wait_ready(30)
    confirmed: list[bytes] = []
    stop = asyncio.Event()

    async def publish_continuously() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            body = b"%d" % number
            try:
                await bus.publish(Message(DIRECT, name, body))
                confirmed.append(body)
            except (Unavailable, Overloaded):
                await asyncio.sleep(0.01)

    async def more_confirmed() -> None:
        before = len(confirmed)
        await eventually(lambda: len(confirmed) > before + 20, 60)

    publishing = asyncio.create_task(publish_continuously())
    await more_confirmed()
    if how == "kill":
        await restarted(servers)
        await more_confirmed()
    await asyncio.to_thread(getattr(servers.rabbitmq, how))
    await asyncio.to_thread(servers.rabbitmq.start)
    await more_confirmed()
    stop.set()
    await publishing
    await eventually(lambda: {message.body for message in seen.messages if message.attempt > 1} >= set(confirmed), 60)
    await bus.close()


async def test_a_declared_queue_keeps_what_is_published_before_anybody_subscribes(bus: Bus, name: str) -> None:
    await bus.declare(f"{name}_later", DIRECT, name)
    publishing = asyncio.ensure_future(bus.publish(Message(DIRECT, name, b"early")))
    if isinstance(bus, RabbitBus):
        await publishing  # the broker has it
    seen = RecordingHandler()
    await bus.subscribe(f"{name}_later", DIRECT, name, seen)
    await eventually(lambda: seen.bodies == [b"early"])
    await publishing


async def test_over_tls_a_message_reaches_its_queue(tls_url: Callable[[str], str], name: str) -> None:
    bus, seen = RabbitBus(tls_url("rabbitmq"), POLICY, name="test"), RecordingHandler()
    bus.start()
    try:
        await bus.wait_ready(30)
        await bus.subscribe(name, DIRECT, name, seen)
        large = b"x" * (1 << 20)  # many TLS records
        await asyncio.gather(*(bus.publish(Message(DIRECT, name, body)) for body in (b"small", large)))
        await eventually(lambda: sorted(seen.bodies, key=len) == [b"small", large], 30)
    finally:
        await bus.close()
