"""A session ends with the last reading before a silence: what comes after it is not its own (docs/adr/0014)."""

import pytest

from schemas.reading import SessionEvent, Status
from schemas.session import EndReason, HoldReason
from tests.streams.test_step_laws import BASE_MS, PARAMS, blank_readings, frames_of, run

SILENCE_MS = PARAMS.session_timeout_ms


@pytest.mark.parametrize("flushes", ["one", "each reading"])
def test_what_follows_a_reading_after_the_silence_does_not_open_the_session_again(flushes: str) -> None:
    """The reading after the silence begins none; the one after that is young beside it, not beside the session."""
    moments_ms = (0, 5_000, 5_000 + SILENCE_MS, 10_000 + SILENCE_MS)
    arrived = blank_readings(
        {"ts_ms": BASE_MS + ms, "received_ms": BASE_MS + ms, "seq": n, "energy_mwh": n * 1_000}
        for n, ms in enumerate(moments_ms)
    )
    arrived[0] |= {"session_id": "tx", "session_event": SessionEvent.STARTED}
    arrived[-1] |= {"session_event": SessionEvent.ENDED}
    cuts = [] if flushes == "one" else list(range(len(arrived)))
    store, _ = run(frames_of(arrived, cuts), cuts)
    (session,) = store.sessions.values()
    assert (session["end_reason"], session["readings"]) == (EndReason.TIMEOUT, 2)
    assert session["last_ms"] == BASE_MS + 5_000


def test_the_next_reading_opens_a_session_again_that_only_the_wall_clock_ended() -> None:
    arrived = blank_readings(
        {"ts_ms": BASE_MS + n * 5_000, "received_ms": received_ms, "seq": n, "status": Status.CHARGING}
        for n, received_ms in enumerate((BASE_MS, BASE_MS, BASE_MS + 2 * SILENCE_MS))
    )
    store, _ = run(frames_of(arrived, []), [1, 2])
    (session,) = store.sessions.values()
    assert (session["end_reason"], session["readings"]) == (EndReason.OPEN, 3)


def test_a_late_proof_makes_a_session_of_readings_that_the_wall_clock_had_given_up() -> None:
    """Whether the readings before were a session's is a matter of event time, not of when the proof arrived."""
    arrived = blank_readings(
        {"ts_ms": BASE_MS + n * 5_000, "received_ms": received_ms, "seq": n, "session_id": "tx"}
        for n, received_ms in enumerate((BASE_MS, BASE_MS, BASE_MS + 2 * SILENCE_MS))
    )
    arrived[-1] |= {"power_mw": 7_000_000}
    arrived.insert(2, arrived[0] | {"station_id": "B", "received_ms": BASE_MS + SILENCE_MS})
    store, _ = run(frames_of(arrived, []), [1, 2, 3])
    (session,) = (row for row in store.sessions.values() if row["readings"] > 1)
    assert (session["started_ms"], session["readings"]) == (BASE_MS, 3)


@pytest.mark.parametrize("days", [1, 26, 60])
def test_a_power_that_stood_for_weeks_is_told_however_long_it_was(days: int) -> None:
    """Longer than 32 bits of milliseconds can say."""
    count = days * 86_400_000 // (SILENCE_MS // 2) + 200
    arrived = blank_readings(
        {"ts_ms": BASE_MS + n * (SILENCE_MS // 2), "received_ms": BASE_MS + n * (SILENCE_MS // 2), "seq": n}
        for n in range(count + 1)
    )
    arrived[0] |= {"session_event": SessionEvent.STARTED, "power_mw": 7_000_000}
    arrived[-1] |= {"session_event": SessionEvent.ENDED}
    for reading in arrived[-200:]:
        reading["power_mw"] = 0
    cuts = list(range(0, len(arrived), 97))
    store, _ = run(frames_of(arrived, cuts), cuts)
    (session,) = store.sessions.values()
    assert session["readings"] == len(arrived)
    assert session["hold"] == HoldReason.SILENT
