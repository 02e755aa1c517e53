"""A session whose first register comes late, and the rise to it (docs/adr/0014): never a silent bill of nothing."""

from collections import Counter
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from schemas.reading import SessionEvent, Status
from schemas.session import EndReason, HoldReason
from streams.effects import NULL_I64
from streams.kernels.session_energy import UJ_PER_MWH
from streams.state.partition import PartitionState
from streams.worker.compute import compute_effects
from tests.streams.memory_store import AsStoreQueries, MemoryStore, Row
from tests.streams.reference import Reading, Reference
from tests.streams.test_energy_ledger_laws import arrivals, by_connector
from tests.streams.test_step_laws import BASE_MS, PARAMS, RELOADS, blank_readings, frames_of, run

MINUTE_MS = 60_000
KWH = 1_000_000
CUTS = st.lists(st.integers(0, 99), max_size=6)


@st.composite
def visits(draw: st.DrawFn) -> list[Reading]:
    """Perhaps an idle register, and a session whose first ones are missing or cannot be, in any order of arrival."""
    register = draw(st.sampled_from([700, 5 * KWH, 900 * KWH]))
    idle = draw(st.sampled_from([register, register, None]))
    fields: list[dict[str, Any]] = [{"ts_ms": BASE_MS, "status": Status.AVAILABLE, "energy_mwh": idle}]
    count = draw(st.integers(2, 5))
    good_from = draw(st.integers(0, count - 1))
    for n in range(count):
        register += draw(st.sampled_from([0, 90_000, KWH, 5 * KWH]))
        bad = draw(st.sampled_from([None, 0, register // 3, 10**12]))
        events = {0: SessionEvent.STARTED, count - 1: SessionEvent.ENDED}
        fields.append(
            {
                "ts_ms": BASE_MS + (n + 1) * 9 * MINUTE_MS,
                "session_id": "tx",
                "session_event": events.get(n, SessionEvent.NONE),
                "status": Status.CHARGING,
                "energy_mwh": register if n >= good_from else None if idle is None else bad,
                "power_mw": draw(st.sampled_from([None, 0])) if n >= good_from else None,
            }
        )
    order = draw(st.permutations([one | {"seq": seq} for seq, one in enumerate(fields)]))
    return blank_readings(one | {"received_ms": BASE_MS + count * 10 * MINUTE_MS} for one in order)


@given(visits(), CUTS, CUTS, RELOADS)
def test_a_bill_has_most_of_what_the_meter_rose_by_or_waits_for_a_person(
    arrived: list[Reading], frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int]
) -> None:
    store, _ = run(frames_of(arrived, frame_cuts), step_cuts, reload=reload)
    (session,) = (row for row in store.sessions.values() if row["end_reason"] == EndReason.ENDED)
    energy_mwh = session["energy_uj"] // UJ_PER_MWH
    outside_mwh = sum(max(row["outside_mwh"], 0) for row in store.readings)
    first_ms = min(r["ts_ms"] for r in arrived if r["session_id"])
    begins_with_one = any(r["ts_ms"] == first_ms and r["energy_mwh"] == session["register_first_mwh"] for r in arrived)
    event(f"held: {session['hold'] != 0}, by {HoldReason(session['hold'])!r}")
    assert session["hold"] or begins_with_one or outside_mwh <= max(energy_mwh, 100_000)
    if all(r["energy_mwh"] is None for r in arrived if not r["session_id"]):  # nothing is known of before
        assert session["hold"] or begins_with_one or energy_mwh > 0


@st.composite
def quiet_visits(draw: st.DrawFn) -> list[Reading]:
    """A session some of whose readings have a register or a power, and idle registers around it."""
    register = 5 * KWH
    fields: list[dict[str, Any]] = []
    if draw(st.booleans()):
        fields.append({"ts_ms": BASE_MS, "status": Status.AVAILABLE, "energy_mwh": register})
    count = draw(st.integers(2, 5))
    ts_ms = BASE_MS
    for n in range(count):
        register += draw(st.sampled_from([0, 0, 90_000]))
        ts_ms += draw(st.sampled_from([30_000, 90_000, 5 * MINUTE_MS]))
        fields.append(
            {
                "ts_ms": ts_ms,
                "session_id": "tx",
                "session_event": {0: SessionEvent.STARTED, count - 1: SessionEvent.ENDED}.get(n, SessionEvent.NONE),
                "status": Status.CHARGING,
                "energy_mwh": draw(st.sampled_from([None, register])),
                "power_mw": draw(st.sampled_from([None, None, 0])),
            }
        )
    fields.append({"ts_ms": ts_ms + MINUTE_MS, "status": Status.AVAILABLE, "energy_mwh": register + 5 * KWH})
    order = draw(st.permutations([one | {"seq": seq} for seq, one in enumerate(fields)]))
    return blank_readings(one | {"received_ms": ts_ms + 2 * MINUTE_MS} for one in order)


@given(quiet_visits(), CUTS, CUTS, RELOADS)
def test_next_to_nothing_is_billed_only_where_a_register_said_so_at_the_end(
    arrived: list[Reading], frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int]
) -> None:
    store, _ = run(frames_of(arrived, frame_cuts), step_cuts, reload=reload)
    (session,) = (row for row in store.sessions.values() if row["end_reason"] == EndReason.ENDED)
    own = [r for r in arrived if r["session_id"]]
    began_ms, ended_ms = min(r["ts_ms"] for r in own), max(r["ts_ms"] for r in own)
    since_ms = max([began_ms, *(r["ts_ms"] for r in own if r["energy_mwh"] is not None)])
    metered = any(r["energy_mwh"] is not None for r in arrived if r["ts_ms"] <= ended_ms)
    event(f"held: {HoldReason(session['hold'])!r}")
    missing = bool(session["hold"] & HoldReason.REGISTER_MISSING)
    assert missing == (metered and session["energy_uj"] // UJ_PER_MWH <= 100_000 and since_ms < ended_ms)


@st.composite
def replaced_visits(draw: st.DrawFn) -> list[Reading]:
    """A session that nobody ended, and the one that begins after it; the meter may rise at any moment."""
    register, ts_ms = 5 * KWH, BASE_MS
    fields: list[dict[str, Any]] = []
    for session_id, readings in (("first", draw(st.integers(1, 4))), ("second", draw(st.integers(1, 3)))):
        for n in range(readings):
            register += draw(st.sampled_from([0, 0, 60_000, KWH]))
            ts_ms += draw(st.sampled_from([15_000, 90_000, 4 * MINUTE_MS]))
            fields.append(
                {
                    "ts_ms": ts_ms,
                    "session_id": session_id,
                    "session_event": SessionEvent.NONE if n else SessionEvent.STARTED,
                    "status": Status.CHARGING,
                    "energy_mwh": draw(st.sampled_from([None, register])),
                }
            )
    order = draw(st.permutations([one | {"seq": seq} for seq, one in enumerate(fields)]))
    return blank_readings(one | {"received_ms": ts_ms + 2 * MINUTE_MS} for one in order)


@given(replaced_visits(), CUTS, CUTS, RELOADS)
def test_a_session_that_nobody_ended_has_something_of_the_rise_to_the_next_start_or_waits_for_a_person(
    arrived: list[Reading], frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int]
) -> None:
    store, _ = run(frames_of(arrived, frame_cuts), step_cuts, reload=reload)
    (session,) = (row for row in store.sessions.values() if row["end_reason"] == EndReason.SUPERSEDED)
    in_order = sorted(arrived, key=lambda r: r["ts_ms"])
    start = next(n for n, r in enumerate(in_order) if r["session_id"] == "second")
    registers = [r for r in in_order[:start] if r["energy_mwh"] is not None]
    energy_mwh, next_ms = session["energy_uj"] // UJ_PER_MWH, in_order[start]["ts_ms"]
    event(f"held: {HoldReason(session['hold'])!r}")
    missing = bool(session["hold"] & HoldReason.REGISTER_MISSING)
    if not registers or energy_mwh > 100_000:
        assert not missing
        return
    later = next((r for r in in_order[start:] if r["energy_mwh"] is not None), None)
    rise_mwh = later["energy_mwh"] - registers[-1]["energy_mwh"] if later else 0
    if energy_mwh or later is None or later["ts_ms"] > next_ms:  # it is not known what rose until the next start
        unsaid = energy_mwh == 0 and next_ms - registers[-1]["ts_ms"] > 2 * MINUTE_MS
        unsaid &= later is None or later["ts_ms"] > next_ms
        assert missing == (unsaid or rise_mwh > 100_000)
    else:
        assert missing == (rise_mwh > 0)
        assert session["void"] <= (rise_mwh == 0)


def _after(rows: list[Row], key: int) -> list[Row]:
    """A connector's stored readings after a session, until the end of the next one."""
    after = rows[max(n for n, row in enumerate(rows) if row["session_key"] == key) + 1 :]
    other = next((row["session_key"] for row in after if row["session_key"] != NULL_I64), None)
    return after[: max((n + 1 for n, row in enumerate(after) if row["session_key"] == other), default=len(after))]


@given(arrivals(resets=False), CUTS, CUTS, RELOADS)
def test_a_session_with_next_to_nothing_has_what_the_meter_rose_by_before_the_next_owner_or_waits_for_a_person(
    arrived: list[Reading], frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int]
) -> None:
    store, _ = run(frames_of(arrived, frame_cuts), step_cuts, reload=reload)
    readings = by_connector(store)
    for key, session in store.sessions.items():
        little = session["energy_uj"] // UJ_PER_MWH <= 100_000 and not session["hold"]
        if not little or session["end_reason"] in (EndReason.OPEN, EndReason.WITHDRAWN):
            continue
        rows = readings[session["connector_key"]]
        last = max(n for n, row in enumerate(rows) if row["session_key"] == key)
        base = next((row for row in reversed(rows[: last + 1]) if row["energy_mwh"] != NULL_I64), None)
        later = next((row for row in _after(rows, key) if row["energy_mwh"] != NULL_I64), None)
        if base is None or later is None:
            continue
        rise_mwh, next_ms = later["energy_mwh"] - base["energy_mwh"], rows[min(last + 1, len(rows) - 1)]["ts_ms"]
        superseded = session["end_reason"] == EndReason.SUPERSEDED
        event(f"rose: {rise_mwh > 0}, {EndReason(session['end_reason']).name}")
        if superseded and later["ts_ms"] == next_ms and not session["energy_uj"]:
            assert rise_mwh < 1_000
            continue
        if session["end_reason"] != EndReason.TIMEOUT:  # its time is known
            since_ms = base["ts_ms"] if base["session_key"] == key else session["started_ms"]
            elapsed_ms = (next_ms if superseded else session["last_ms"]) - since_ms
            rise_mwh = min(rise_mwh, elapsed_ms * PARAMS.power_max_mw // UJ_PER_MWH)
        assert rise_mwh <= 100_000


@given(arrivals(resets=True))
def test_the_plain_program_holds_the_same_sessions(arrived: list[Reading]) -> None:
    store, _ = run(frames_of(arrived, list(range(0, len(arrived), 3))), list(range(len(arrived))))
    reference = Reference(PARAMS)
    for reading in arrived:
        reference.add(reading)
    reference.tick(max(reading["received_ms"] for reading in arrived))
    expected, found = Counter[Any](), Counter[Any]()
    for place, connector in reference.connectors.items():
        sessions = connector.timeline()[0]
        for one in sessions:
            assert one.meter is not None
            expected[store.keys[place], one.start_ms, connector.reasons(one, sessions), one.meter.energy_uj] += 1
    for row in store.sessions.values():
        if row["end_reason"] != EndReason.WITHDRAWN:
            found[row["connector_key"], row["started_ms"], row["hold"], row["energy_uj"]] += 1
    assert found == expected


def test_a_register_is_accounted_for_where_the_readings_of_the_session_before_it_are_gone() -> None:
    """What it shows of that session is left open then."""
    moments: list[tuple[str | None, SessionEvent, int | None]] = [
        ("first", SessionEvent.STARTED, 1_000_000), ("first", SessionEvent.ENDED, 2_000_000),
        ("second", SessionEvent.STARTED, 2_000_000), ("second", SessionEvent.ENDED, None),
        (None, SessionEvent.NONE, 2_500_000),
    ]  # fmt: skip
    arrived = blank_readings(
        {
            "ts_ms": BASE_MS + n * MINUTE_MS,
            "received_ms": BASE_MS + MINUTE_MS * len(moments),
            "seq": n,
            "session_id": session_id,
            "session_event": sign,
            "energy_mwh": register,
        }
        for n, (session_id, sign, register) in enumerate(moments)
    )
    kept, _ = run(frames_of(arrived, [4]), [1])
    second = next(key for key, session_id in kept.session_ids.items() if session_id == "second")
    assert (kept.sessions[second]["hold"], kept.sessions[second]["void"]) == (HoldReason.REGISTER_MISSING, 0)

    store, state = MemoryStore(), PartitionState(0)
    frames = frames_of(arrived, [4])
    store.apply(compute_effects(state, frames[:1], BASE_MS, AsStoreQueries(store), PARAMS))
    del store.readings[:2], store.extra[:2]
    store.apply(compute_effects(state, frames[1:], BASE_MS, AsStoreQueries(store), PARAMS))
    assert (store.sessions[second]["hold"], store.sessions[second]["void"]) == (0, 1)
    assert store.readings[-1]["outside_mwh"] == 500_000
