"""A session whose first register comes late, and the rise to it (docs/adr/0014): never a silent bill of nothing."""

from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from schemas.reading import SessionEvent, Status
from schemas.session import EndReason, HoldReason
from streams.kernels.session_energy import UJ_PER_MWH
from tests.streams.reference import Reading
from tests.streams.test_step_laws import BASE_MS, RELOADS, blank_readings, frames_of, run

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
def test_a_bill_of_nothing_is_one_that_the_charger_said(
    arrived: list[Reading], frame_cuts: list[int], step_cuts: list[int], reload: frozenset[int]
) -> None:
    store, _ = run(frames_of(arrived, frame_cuts), step_cuts, reload=reload)
    (session,) = (row for row in store.sessions.values() if row["end_reason"] == EndReason.ENDED)
    own = [r for r in arrived if r["session_id"]]
    began_ms, ended_ms = min(r["ts_ms"] for r in own), max(r["ts_ms"] for r in own)
    said = [r["ts_ms"] for r in own if r["energy_mwh"] is not None or r["power_mw"] is not None]
    metered = any(r["energy_mwh"] is not None for r in arrived if r["ts_ms"] <= ended_ms)
    unsaid_ms = ended_ms - max([began_ms, *said])
    event(f"held: {HoldReason(session['hold'])!r}")
    missing = bool(session["hold"] & HoldReason.REGISTER_MISSING)
    assert missing == (metered and session["energy_uj"] == 0 and unsaid_ms > 2 * MINUTE_MS)


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
    registers = [r["energy_mwh"] for r in in_order[:start] if r["energy_mwh"] is not None]
    next_mwh, energy_mwh = in_order[start]["energy_mwh"], session["energy_uj"] // UJ_PER_MWH
    event(f"held: {HoldReason(session['hold'])!r}")
    missing = bool(session["hold"] & HoldReason.REGISTER_MISSING)
    if registers and next_mwh is not None:  # it is known what the session can have delivered
        assert missing == (energy_mwh <= 100_000 < next_mwh - registers[-1])
    elif registers and not energy_mwh:
        said_ms = max(r["ts_ms"] for r in in_order[:start] if r["energy_mwh"] is not None)
        assert missing == (in_order[start]["ts_ms"] - said_ms > 2 * MINUTE_MS)
    else:
        assert not missing
