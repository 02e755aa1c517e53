"""Which session came of which request: the same in whatever order, and however often, events come."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID, uuid4, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.sessions.request_store import EXPIRY, SKEW
from kit.messaging.bus import Message
from kit.web.errors import Conflict
from schemas.topics import SESSION_ASSIGNED, SESSION_REQUESTED, SESSION_STOP_REQUESTED
from tests.api.conftest import NOW
from tests.api.sessions_harness import NAMESPACE, DeviceSession, SessionsHarness, message, session, sessions_harness


@pytest.fixture
async def harness(telemetry_url: str) -> AsyncIterator[SessionsHarness]:
    """The service at work."""
    async with sessions_harness(telemetry_url, NOW) as opened:
        yield opened


def later(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


async def test_a_started_session_is_given_to_the_request_and_its_completion_closes_it(harness: SessionsHarness) -> None:
    accepted = await harness.start("D1", reservation_id="R-1")
    began = session(NOW + later(20))
    await harness.deliver(began.started())
    request = await harness.request(accepted.request_id)
    assert (request.session_id, request.completed_at) == (began.id, None)
    await harness.deliver(began.completed())
    assert (await harness.request(accepted.request_id)).completed_at == began.ended_at(1)
    published = await harness.published()
    assert [type_ for type_, _ in published] == [SESSION_REQUESTED, SESSION_ASSIGNED]
    assert published[1][1] == {
        "session_id": str(began.id),
        "request_id": str(accepted.request_id),
        "driver_id": "D1",
        "reservation_id": "R-1",
        "revision": 1,
        "withdrawn": False,
    }


async def test_a_session_that_was_none_makes_way_for_the_next(harness: SessionsHarness) -> None:
    accepted = await harness.start("D1")
    none, real = session(NOW + later(20)), session(NOW + later(40))
    await harness.deliver(none.started(), none.completed(1), real.started())
    assert await harness.owners() == {none.id: accepted.request_id}
    await harness.deliver(none.completed(2, withdrawn=True))
    assert await harness.owners() == await harness.bound() == {real.id: accepted.request_id}
    await harness.deliver(none.completed(3))  # and back, whatever comes later
    assert await harness.owners() == await harness.bound() == {none.id: accepted.request_id}


async def test_a_request_whose_only_session_was_none_has_none(harness: SessionsHarness) -> None:
    accepted = await harness.start("D1")
    none = session(NOW + later(20))
    await harness.deliver(none.started(), none.completed(1, withdrawn=True))
    assert await harness.owners() == await harness.bound() == {}
    request = await harness.request(accepted.request_id)
    assert (request.session_id, request.completed_at) == (None, None)


async def test_every_order_of_two_sessions_events_twice_ends_the_same(harness: SessionsHarness) -> None:
    """All of them: 6 events of which one names the request, so that it has to be taken from the one that came first."""
    first = DeviceSession(uuid4(), NOW + later(5))
    accepted = await harness.start()
    named = DeviceSession(uuid4(), NOW + later(700), name=str(accepted.request_id).upper(), named_late=True)
    events = [first.started(), first.completed(1), named.started(), named.completed(1), named.completed(2)]
    for order in itertools.permutations(events):
        for table in ("session", "events_processed"):
            await harness.database.execute(f"DELETE FROM sessions.{table}")
        await harness.database.execute("DELETE FROM sessions.outbox WHERE routing_key = 'session.assigned'")
        await harness.database.execute("UPDATE sessions.request SET session_id = NULL, completed_at = NULL")
        await harness.deliver(*order, *order)
        request = await harness.request(accepted.request_id)
        assert (request.session_id, request.completed_at) == (named.id, named.ended_at(2))
        assert await harness.owners() == await harness.bound() == {named.id: accepted.request_id}


@dataclass(frozen=True)
class Beginning:
    """A session of one phase of a story."""

    connector_id: int
    offset_s: int  # from the phase's beginning
    name: int | None  # of which phase's request it bears the id; None: the device's own
    named_late: bool
    completions: int
    withdrawn: bool  # by the last of them


@dataclass(frozen=True)
class Phase:
    """Time passes, a driver requests something (or stops it), then stations report sessions."""

    gap_s: int
    driver_id: str
    connector_id: int
    stop: bool  # the request before is stopped first
    beginnings: tuple[Beginning, ...]


BEGINNINGS = st.builds(
    Beginning,
    connector_id=st.integers(1, 2),
    offset_s=st.sampled_from([-3_600, -31, -30, -1, 0, 1, 29, 30, 31, 300, 899, 900, 929, 930, 931, 1_000, 86_400]),
    name=st.none() | st.integers(0, 2),
    named_late=st.booleans(),
    completions=st.integers(0, 2),
    withdrawn=st.booleans(),
)
PHASES = st.builds(
    Phase,
    gap_s=st.sampled_from([0, 1, 29, 30, 31, 60, 899, 900, 901, 931, 2_000]),
    driver_id=st.sampled_from(["D1", "D2"]),
    connector_id=st.integers(1, 2),
    stop=st.booleans(),
    beginnings=st.lists(BEGINNINGS, max_size=3).map(tuple),
)


@dataclass(frozen=True)
class Ending:
    """The end of a story. Requests and sessions are named by their positions."""

    refused: tuple[bool, ...]  # by phase
    owners: dict[int, int]  # session -> phase of its request
    settled: tuple[tuple[int | None, object] | None, ...]  # by phase: its session, and its end


async def play(harness: SessionsHarness, story: list[Phase], rng: random.Random) -> Ending:
    """The story from the first day on, the events of every phase in an order of `rng`, each once or more."""
    await harness.empty()
    harness.clock.set_wall(NOW)
    requests: list[UUID | None] = []
    ids: list[UUID] = []
    for phase in story:
        harness.clock.advance(phase.gap_s)
        if phase.stop and requests and requests[-1] is not None:
            await harness.stop(requests[-1])
        try:
            requests.append((await harness.start(phase.driver_id, connector_id=phase.connector_id)).request_id)
        except Conflict:
            requests.append(None)
        events: list[Message] = []
        for beginning in phase.beginnings:
            ids.append(uuid5(NAMESPACE, f"{len(ids)}"))
            named = requests[beginning.name] if beginning.name is not None and beginning.name < len(requests) else None
            began = DeviceSession(
                ids[-1],
                harness.clock.now() + later(beginning.offset_s),
                connector_id=beginning.connector_id,
                name="TX" if named is None else str(named),
                named_late=beginning.named_late,
            )
            last = beginning.completions
            completed = [began.completed(n, withdrawn=beginning.withdrawn and n == last) for n in range(1, last + 1)]
            events += [began.started(), *completed]
        events += rng.choices(events, k=len(events) // 2) if events else []
        rng.shuffle(events)
        await harness.deliver(*events)
    place_of = {id_: place for place, id_ in enumerate(ids)}
    phase_of = {id_: place for place, id_ in enumerate(requests) if id_ is not None}
    owners = await harness.owners()
    assert owners == await harness.bound(), "the events and the table differ"
    stored = [None if id_ is None else await harness.request(id_) for id_ in requests]
    return Ending(
        tuple(id_ is None for id_ in requests),
        {place_of[id_]: phase_of[request] for id_, request in owners.items()},
        tuple(
            request and (None if request.session_id is None else place_of[request.session_id], request.completed_at)
            for request in stored
        ),
    )


@pytest.fixture
def runner_and_harness(telemetry_url: str) -> Iterator[tuple[asyncio.Runner, SessionsHarness]]:
    """For tests that hypothesis calls."""
    with asyncio.Runner() as runner:
        opened = sessions_harness(telemetry_url, NOW)
        yield runner, runner.run(opened.__aenter__())
        runner.run(opened.__aexit__(None, None, None))


def test_whatever_the_order_in_which_events_come_the_same_sessions_are_the_same_drivers(
    runner_and_harness: tuple[asyncio.Runner, SessionsHarness],
) -> None:
    runner, harness = runner_and_harness

    @settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
    @given(story=st.lists(PHASES, min_size=1, max_size=3), orders=st.lists(st.randoms(), min_size=2, max_size=2))
    def check(story: list[Phase], orders: list[random.Random]) -> None:
        one, other = (runner.run(play(harness, story, order)) for order in orders)
        assert one == other
        owned = list(one.owners.values())
        assert len(set(owned)) == len(owned), "one request has two sessions"
        beginnings = [(number, beginning) for number, phase in enumerate(story) for beginning in phase.beginnings]
        for place, phase in one.owners.items():
            assert beginnings[place][1].connector_id == story[phase].connector_id
            assert not (beginnings[place][1].withdrawn and beginnings[place][1].completions)

    check()


async def test_events_that_come_at_once_and_twice_have_one_effect(harness: SessionsHarness) -> None:
    requests = [await harness.start(f"D{n}", connector_id=n) for n in range(1, 6)]
    sessions = [session(NOW + later(n), connector_id=n) for n in range(1, 6)]
    await harness.deliver_at_once(*(event for one in sessions for event in (one.started(), one.completed()) * 3))
    expected = {one.id: request.request_id for one, request in zip(sessions, requests, strict=True)}
    assert await harness.owners() == await harness.bound() == expected
    assert [type_ for type_, _ in await harness.published()] == [SESSION_REQUESTED] * 5 + [SESSION_ASSIGNED] * 5


@pytest.mark.parametrize(
    ("began_s", "is_its"),
    [
        (-SKEW.total_seconds() - 0.001, False),
        (-SKEW.total_seconds(), True),
        (0, True),
        ((EXPIRY + SKEW).total_seconds() - 0.001, True),
        ((EXPIRY + SKEW).total_seconds(), False),
    ],
)
async def test_a_session_is_the_requests_if_it_began_in_its_time_however_late_its_event_comes(
    harness: SessionsHarness, began_s: float, is_its: bool
) -> None:
    accepted = await harness.start()
    began = session(NOW + later(began_s))
    harness.clock.advance(7_200)
    await harness.deliver(began.started())
    assert await harness.bound() == ({began.id: accepted.request_id} if is_its else {})


async def test_a_station_that_names_the_request_is_believed_whatever_its_clock_says(harness: SessionsHarness) -> None:
    accepted = await harness.start()
    began = session(NOW - timedelta(days=400), name=str(accepted.request_id))
    await harness.deliver(session(NOW + later(1)).started(), began.started())
    assert await harness.owners() == {began.id: accepted.request_id}
    withdrawn = [payload for _, payload in await harness.published() if payload.get("withdrawn")]
    assert [payload["driver_id"] for payload in withdrawn] == ["D1"]


async def test_a_session_that_names_a_request_is_no_other_requests(harness: SessionsHarness) -> None:
    first = await harness.start("D1")
    harness.clock.advance(EXPIRY.total_seconds())
    second = await harness.start("D2")
    late = session(harness.clock.now() + later(5), name=str(first.request_id))
    await harness.deliver(late.started())
    assert await harness.owners() == await harness.bound() == {late.id: first.request_id}
    own = session(harness.clock.now() + later(600))
    await harness.deliver(own.started())
    assert (await harness.bound())[own.id] == second.request_id


@pytest.mark.parametrize("elsewhere", [{"station_id": "ST-2"}, {"connector_id": 2}])
async def test_a_request_is_not_served_by_another_station_or_connector(
    harness: SessionsHarness, elsewhere: dict[str, object]
) -> None:
    accepted = await harness.start()
    await harness.deliver(session(NOW + later(1), name=str(accepted.request_id), **elsewhere).started())
    assert await harness.bound() == {}


async def test_a_session_known_before_the_request_is_not_its(harness: SessionsHarness) -> None:
    """It began within the clocks' skew, and was observed before the request."""
    before = session(NOW - later(5))
    await harness.deliver(before.started(), before.completed())
    accepted = await harness.start()
    await harness.deliver(before.completed(2))
    assert await harness.bound() == {}
    after = session(NOW + later(5))
    await harness.deliver(after.started())
    assert await harness.bound() == {after.id: accepted.request_id}


async def test_back_to_back_each_driver_has_their_own(harness: SessionsHarness) -> None:
    """Stations' clocks may be behind by SKEW: the next driver's session seems to begin before they asked."""
    requests, sessions = [], []
    for number in range(4):
        requests.append(await harness.start(f"D{number}"))
        sessions.append(session(harness.clock.now() - later(SKEW.total_seconds() - number)))
        await harness.deliver(sessions[-1].started(), sessions[-1].completed())
        harness.clock.advance(31)
    assert await harness.bound() == {
        one.id: request.request_id for one, request in zip(sessions, requests, strict=True)
    }


async def test_an_expired_request_makes_way_and_still_gets_what_began_in_its_time(harness: SessionsHarness) -> None:
    first = await harness.start("D1")
    harness.clock.advance(EXPIRY.total_seconds())
    second = await harness.start("D2")
    of_second = session(harness.clock.now() + later(2))
    of_first = session(NOW + later(60))
    await harness.deliver(of_second.started(), of_first.started())
    assert await harness.bound() == {of_first.id: first.request_id, of_second.id: second.request_id}


async def test_a_session_of_a_stopped_request_is_the_drivers_and_is_stopped_too(
    harness: SessionsHarness,
) -> None:
    accepted = await harness.start()
    harness.clock.advance(10)
    stopped = await harness.stop(accepted.request_id)
    assert (stopped.state, stopped.id) == ("expired", None)
    began = session(harness.clock.now() + later(3))
    await harness.deliver(began.started(), began.started())
    published = await harness.published()
    stops = [payload for type_, payload in published if type_ == SESSION_STOP_REQUESTED]
    assert [payload["session_id"] for payload in stops] == [None, str(began.id)]
    assert [payload["driver_id"] for payload in stops] == ["D1", "D1"]
    assert await harness.owners() == {began.id: accepted.request_id}


async def test_an_event_that_makes_no_sense_is_given_up_at_once_and_leaves_nothing(harness: SessionsHarness) -> None:
    good = session(NOW)
    bad = replace(good, id=uuid4()).started()
    await harness.deliver(replace(bad, body=bad.body.replace(b'"2026-03-29T09:00:00.000Z"', b'"yesterday"')))
    await harness.deliver(message("session.started.v1", "x", {"id": "7"}))
    assert len(harness.bus.dead_letters("sessions_session_started")) == 2
    assert await harness.database.fetchval("SELECT count(*) FROM sessions.session") == 0
