"""What a register shows of the sessions before it (docs/adr/0014, `register_missing`) is decided by the readings alone:
not by where steps end, nor by when a reading came or a session was closed by the clock."""

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from schemas.reading import SessionEvent, Status
from schemas.session import EndReason, HoldReason
from streams.engine.batch import Frame
from streams.state.partition import PartitionState
from streams.worker.compute import compute_effects
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.reference import Reading, Reference
from tests.streams.test_step_laws import BASE_MS, PARAMS, RELOADS, blank_readings, frames_of, run, totals

TIMEOUT_MS = PARAMS.session_timeout_ms
CONNECTORS = 4  # of one partition: a step of several costs as much as one of one
# A register stands, rises within and beyond 100 Wh.
RISES_MWH = ((0,), (0, 50_000), (0, 0, 40, 90_000, 150_000, 3_000_000))
REGISTERS_MWH = (0, 5_000, 1_000_000, 5_000_000, 1_000_000_000)
STEPS_MS = (0, 1_000, 90_000, 300_000)
METERED = ((True,), (False,), (True, False), (False, False, True))


@st.composite
def poor_sessions(draw: st.DrawFn) -> list[Reading | None]:
    """Sessions of one connector that have next to nothing and few registers, in order of time, and idle registers.
    Meters are exchanged between them. None: the others go on meanwhile."""
    register, at_ms = draw(st.sampled_from(REGISTERS_MWH)), BASE_MS
    fields: list[Reading | None] = []

    def add(step_ms: int, metered: bool, **more: Any) -> None:
        nonlocal register, at_ms
        at_ms += step_ms
        register += draw(st.sampled_from(rises))
        fields.append({"ts_ms": at_ms, "energy_mwh": register if metered else None, "seq": len(fields), **more})

    for number in range(draw(st.integers(2, 4))):
        rises = draw(st.sampled_from(RISES_MWH))
        if draw(st.integers(0, 2)) == 2:
            register = draw(st.sampled_from(REGISTERS_MWH))
        named = {
            "session_id": draw(st.sampled_from([f"s{number}", f"s{number}", "tx", None])),
            "status": Status.CHARGING,
        }
        begins = draw(st.sampled_from([SessionEvent.STARTED, SessionEvent.STARTED, SessionEvent.NONE]))
        metered = draw(st.sampled_from(METERED))
        for n in range(draw(st.integers(1, 3))):
            event_of = SessionEvent.NONE if n else begins
            add(draw(st.sampled_from(STEPS_MS)), metered[n % len(metered)], session_event=event_of, **named)
        ends = draw(st.sampled_from([None, None, {"session_event": SessionEvent.ENDED}, {"status": Status.AVAILABLE}]))
        if ends is not None:
            add(draw(st.sampled_from(STEPS_MS)), draw(st.booleans()), **named | ends)
        if draw(st.booleans()):
            fields.append(None)
        for _ in range(draw(st.integers(0, 2))):
            step_ms = draw(st.sampled_from([0, 1_000, 60_000, TIMEOUT_MS]))
            add(step_ms, draw(st.booleans()), status=draw(st.sampled_from([Status.AVAILABLE, Status.NONE])))
    return [one and blank_readings([one])[0] for one in fields]


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[Reading]]:
    """Those of some connectors by frame, each of which has a reading of each: as they were made, or some of them later.
    The clock goes on faster than the readings' time, so that sessions are closed by it and go on."""
    frames: list[list[Reading]] = []
    for connector in range(1, CONNECTORS + 1):
        readings = draw(poor_sessions())
        for at in draw(st.lists(st.integers(0, len(readings) - 1), max_size=3)):
            readings.insert(at + draw(st.integers(1, 4)), readings.pop(at))
        frames += [[] for _ in range(len(readings) - len(frames))]
        for frame, reading in zip(frames, readings, strict=False):
            frame += [reading | {"connector_id": connector}] if reading is not None else []
    clock_ms, frames = BASE_MS, [frame for frame in frames if frame]
    for frame in frames:
        newest_ms = max(reading["ts_ms"] for reading in frame)
        clock_ms = max(clock_ms + draw(st.sampled_from([0, 1, 1_000, 2 * TIMEOUT_MS])), newest_ms)
        frame[:] = [reading | {"received_ms": clock_ms} for reading in frame]
    return frames


def frames_at_once(deliveries: list[list[Reading]]) -> list[Frame]:
    """A frame of each."""
    edges = list(itertools.accumulate(map(len, deliveries)))
    return frames_of(list(itertools.chain(*deliveries)), edges)


@given(deliveries(), st.none() | st.lists(st.integers(0, 40), max_size=4), RELOADS)
def test_where_steps_end_changes_no_verdict(
    delivered: list[list[Reading]], cuts: list[int] | None, reload: frozenset[int]
) -> None:
    """`cuts` None: after each frame."""
    frames = frames_at_once(delivered)
    whole, _ = run(frames, [])
    split, _ = run(frames, list(range(len(frames))) if cuts is None else cuts, reload=reload)
    assert totals(split) == totals(whole)


@given(deliveries())
def test_the_plain_program_finds_the_same_verdicts(delivered: list[list[Reading]]) -> None:
    frames = frames_at_once(delivered)
    store, _ = run(frames, list(range(len(frames))))
    arrived = list(itertools.chain(*delivered))
    reference = Reference(PARAMS)
    for reading in arrived:
        reference.add(reading)
    reference.tick(max(reading["received_ms"] for reading in arrived))
    expected = Counter[Any]()
    for place, connector in reference.connectors.items():
        sessions = connector.timeline()[0]
        for one in sessions:
            assert one.meter is not None
            hold = connector.reasons(one, sessions)
            event(f"missing: {bool(hold & HoldReason.REGISTER_MISSING)}, {EndReason(one.reason).name}")
            expected[store.keys[place], one.start_ms, int(one.reason), hold, one.meter.energy_uj] += 1
    rows = [row for row in store.sessions.values() if row["end_reason"] != EndReason.WITHDRAWN]
    names = ("connector_key", "started_ms", "end_reason", "hold", "energy_uj")
    assert Counter(tuple(row[name] for name in names) for row in rows) == expected


MINUTE_MS, KWH = 60_000, 1_000_000
STARTED = {"session_event": SessionEvent.STARTED, "status": Status.CHARGING}
ENDED = {"session_event": SessionEvent.ENDED, "status": Status.CHARGING}
IDLE = {"status": Status.AVAILABLE, "session_id": None}


def one_by_one(*fields: Reading) -> list[list[Reading]]:
    """In frames of one each, all of them received when the last is."""
    moments = [BASE_MS + int(one["minute"] * MINUTE_MS) for one in fields]
    readings = blank_readings({"ts_ms": at_ms} | one for at_ms, one in zip(moments, fields, strict=True))
    return [[one | {"received_ms": BASE_MS + one["received"] * MINUTE_MS}] for one in readings]


EXCHANGED_METER = (
    STARTED | {"session_id": "a", "minute": 0, "seq": 0, "energy_mwh": 1_000 * KWH, "received": 10},
    ENDED | {"session_id": "a", "minute": 1, "seq": 1, "received": 10},
    STARTED | {"session_id": "b", "minute": 2, "seq": 2, "energy_mwh": 5 * KWH, "received": 10},
    {"session_id": "b", "minute": 3, "seq": 3, "energy_mwh": 5 * KWH + 50_000, "received": 10},
    {"session_id": "b", "minute": 4, "seq": 4, "received": 10},
    {"connector_id": 2, "minute": 20, "seq": 0, "received": 20},  # the clock closes b
    IDLE | {"minute": 21, "seq": 5, "energy_mwh": 8 * KWH, "received": 21},
)
REGISTER_OF_THE_END = (
    STARTED | {"session_id": "a", "minute": 0, "seq": 0, "energy_mwh": 5 * KWH, "received": 10},
    STARTED | {"session_id": "b", "minute": 4, "seq": 1, "received": 10},
    {"session_id": "b", "minute": 4, "seq": 2, "energy_mwh": 5 * KWH, "received": 10},
)
LATE_REGISTER = (
    STARTED | {"session_id": "a", "minute": 0, "seq": 0, "energy_mwh": 5 * KWH, "received": 10},
    ENDED | {"session_id": "a", "minute": 1, "seq": 1, "received": 10},
    STARTED | {"session_id": "b", "minute": 1.5, "seq": 2, "received": 10},
    {"session_id": "b", "minute": 3, "seq": 4, "energy_mwh": 5 * KWH + 500_000, "received": 10},
    {"session_id": "b", "minute": 2, "seq": 3, "energy_mwh": 5 * KWH, "received": 10},
)


@pytest.mark.parametrize(
    ("fields", "missing"),
    [(EXCHANGED_METER, {"b"}), (REGISTER_OF_THE_END, set()), (LATE_REGISTER, set())],
    ids=["of two that wait each has its own base", "held for silence until its very end says otherwise",
         "one that comes late into the next session"],
)  # fmt: skip
def test_a_register_decides_in_whichever_step_it_comes(fields: tuple[Reading, ...], missing: set[str]) -> None:
    frames = frames_at_once(one_by_one(*fields))
    for cuts in ([], [2], list(range(len(frames)))):
        store, _ = run(frames, cuts)
        held = {store.session_ids[key] for key, row in store.sessions.items() if row["hold"]}
        assert held == missing, cuts


def test_a_register_that_cannot_decide_repeats_no_pass() -> None:
    """Neither one that the connector cannot have delivered, nor one after the end of the next session."""
    after = [IDLE | {"minute": 2 + n, "seq": 2 + n, "energy_mwh": 10**9 * KWH + n, "received": 9} for n in range(5)]
    visit = [STARTED | {"session_id": "b", "minute": 8, "seq": 8}, ENDED | {"session_id": "b", "minute": 9, "seq": 9}]
    fields: list[dict[str, Any]] = [
        *LATE_REGISTER[:2],
        *after,
        *(one | {"energy_mwh": 10**9 * KWH + 9, "received": 9} for one in visit),
    ]
    fields += [IDLE | {"minute": 10 + n, "seq": 10 + n, "energy_mwh": 5 * KWH, "received": 20} for n in range(3)]
    store, state = MemoryStore(), PartitionState(0)
    queries = AsStoreQueries(store)
    queries.timelines = pytest.fail  # type: ignore[assignment]  # not to be called
    for frame in frames_at_once(one_by_one(*fields)):
        store.apply(compute_effects(state, [frame], frame[0].received_ms, queries, PARAMS))
