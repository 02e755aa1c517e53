"""What a register shows of the sessions before it (docs/adr/0014, `register_missing`) is decided by the readings alone:
not by where steps end, nor by when a reading came or a session was closed by the clock."""

from collections import Counter
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from schemas.reading import SessionEvent, Status
from schemas.session import EndReason, HoldReason
from tests.streams.memory_store import MemoryStore
from tests.streams.reference import Reading, Reference
from tests.streams.test_step_laws import BASE_MS, PARAMS, RELOADS, blank_readings, frames_of, run, totals

TIMEOUT_MS = PARAMS.session_timeout_ms
# A register stands, rises within and beyond 100 Wh, falls (a meter was exchanged) and is written in whole Wh.
RISES_MWH = (0, 0, 40, 50_000, 90_000, 150_000, 3_000_000)
REGISTERS_MWH = (0, 5_000, 1_000_000, 1_000_000_000)


@st.composite
def poor_sessions(draw: st.DrawFn) -> list[Reading]:
    """Sessions of one connector that have next to nothing and few registers, in order of time, and idle registers."""
    register, at_ms, fields = draw(st.sampled_from(REGISTERS_MWH)), BASE_MS, []

    def add(step_ms: int, metered: bool, **more: Any) -> None:
        nonlocal register, at_ms
        at_ms += step_ms
        register += draw(st.sampled_from(RISES_MWH))
        if draw(st.integers(0, 7)) == 7:
            register = draw(st.sampled_from(REGISTERS_MWH))
        shown = register if draw(st.integers(0, 3)) else register // 1_000 * 1_000
        fields.append({"ts_ms": at_ms, "energy_mwh": shown if metered else None, "seq": len(fields)} | more)

    for number in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(["tx", f"s{number}", None]))
        begins = draw(st.sampled_from([SessionEvent.STARTED, SessionEvent.STARTED, SessionEvent.NONE]))
        for n in range(draw(st.integers(1, 3))):
            add(draw(st.sampled_from([0, 1_000, 90_000, 300_000])), draw(st.booleans()), session_id=name,
                session_event=SessionEvent.NONE if n else begins,
                status=Status.CHARGING, power_mw=draw(st.sampled_from([None, None, 0])))  # fmt: skip
        ends = draw(st.sampled_from([{"session_event": SessionEvent.ENDED}, {"status": Status.AVAILABLE}, None, None]))
        if ends is not None:
            add(draw(st.sampled_from([0, 30_000, 300_000])), draw(st.booleans()), session_id=name, **ends)
        for _ in range(draw(st.integers(0, 2))):
            step_ms = draw(st.sampled_from([0, 1_000, 60_000, TIMEOUT_MS, 3 * TIMEOUT_MS]))
            add(step_ms, draw(st.booleans()), status=draw(st.sampled_from([Status.AVAILABLE, Status.NONE])))
    return blank_readings(fields)


@st.composite
def deliveries(draw: st.DrawFn) -> list[Reading]:
    """Those of one connector as they arrive: as they were made or in any order, and at any time: a session may time out
    by the clock, which readings of another connector show."""
    readings = draw(poor_sessions())
    if draw(st.booleans()):
        readings = draw(st.permutations(readings))
    clock_ms, arrived = BASE_MS, []
    for reading in readings:
        clock_ms = max(clock_ms + draw(st.sampled_from([0, 0, 1_000, 2 * TIMEOUT_MS])), reading["ts_ms"])
        if draw(st.integers(0, 3)) == 3:
            clock_ms += draw(st.sampled_from([0, TIMEOUT_MS]))
            arrived += blank_readings([{"connector_id": 2, "ts_ms": clock_ms, "received_ms": clock_ms}])
        arrived.append(reading | {"received_ms": clock_ms})
    return arrived


def verdicts(store: MemoryStore) -> Counter[Any]:
    rows = [row for row in store.sessions.values() if row["end_reason"] != EndReason.WITHDRAWN]
    return Counter((row["started_ms"], row["end_reason"], row["hold"], row["void"], row["energy_uj"]) for row in rows)


@given(deliveries(), st.lists(st.integers(0, 40), max_size=4), RELOADS)
def test_where_steps_end_changes_no_verdict(arrived: list[Reading], cuts: list[int], reload: frozenset[int]) -> None:
    everywhere = list(range(len(arrived)))
    frames = frames_of(arrived, everywhere)
    whole, _ = run(frames, [])
    missing = sum(bool(row["hold"] & HoldReason.REGISTER_MISSING) for row in whole.sessions.values())
    event(f"sessions: {min(len(whole.sessions), 3)}, held: {missing}")
    for split in (cuts, everywhere):
        other, _ = run(frames, split, reload=reload)
        assert verdicts(other) == verdicts(whole)
        assert totals(other) == totals(whole)


@given(deliveries())
def test_the_plain_program_finds_the_same_verdicts(arrived: list[Reading]) -> None:
    store, _ = run(frames_of(arrived, list(range(len(arrived)))), list(range(len(arrived))))
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
            expected[store.keys[place], one.start_ms, int(one.reason), hold, one.meter.energy_uj] += 1
    rows = [row for row in store.sessions.values() if row["end_reason"] != EndReason.WITHDRAWN]
    names = ("connector_key", "started_ms", "end_reason", "hold", "energy_uj")
    assert Counter(tuple(row[name] for name in names) for row in rows) == expected
