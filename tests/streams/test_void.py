"""The operator's thresholds (docs/adr/0014, "Void"): what is below them is owed nothing, and only that."""

from hypothesis import event, given
from hypothesis import strategies as st

from schemas.reading import SessionEvent, Status
from schemas.session import EndReason
from streams.declaration import params_of
from streams.settings import WorkerSettings
from tests.streams.test_step_laws import BASE_MS, blank_readings, frames_of, run

_STARTS_WH = 1_000


@given(
    void_s=st.sampled_from([0, 60, 120, 600]),
    void_wh=st.sampled_from([0, 50, 500]),
    lasted_s=st.sampled_from([0, 59, 60, 119, 120, 599, 600]),
    delivered_wh=st.sampled_from([0, 1, 49, 50, 51, 500, 501]),
)
def test_a_session_is_void_below_both_of_the_operators_thresholds(
    void_s: int, void_wh: int, lasted_s: int, delivered_wh: int
) -> None:
    params = params_of(WorkerSettings(void_session_s=void_s, void_session_wh=void_wh))
    moments = [
        (0, SessionEvent.STARTED, _STARTS_WH),
        (lasted_s * 1_000 + 1, SessionEvent.ENDED, _STARTS_WH + delivered_wh),
    ]
    arrived = blank_readings(
        {"ts_ms": BASE_MS + ms, "received_ms": BASE_MS, "seq": n, "session_event": sign, "energy_mwh": wh * 1_000}
        for n, (ms, sign, wh) in enumerate(moments)
    )
    for one in arrived:
        one |= {"session_id": "a", "status": Status.CHARGING, "received_ms": BASE_MS + 700_000}
    store, _ = run(frames_of(arrived, []), [], params=params)
    (session,) = store.sessions.values()
    event(f"held: {bool(session['hold'])}")
    below = lasted_s < void_s and delivered_wh <= void_wh
    assert bool(session["void"]) == (below and not session["hold"])


@given(void_wh=st.sampled_from([0, 50, 500]), risen_wh=st.sampled_from([0, 0.4, 1, 49, 50, 51, 500, 501]))
def test_a_session_that_the_next_start_ended_is_void_only_where_the_meter_shows_nothing(
    void_wh: int, risen_wh: float
) -> None:
    params = params_of(WorkerSettings(void_session_wh=void_wh))
    arrived = blank_readings(
        {
            "ts_ms": BASE_MS + n * 30_000,
            "received_ms": BASE_MS + 30_000,
            "seq": n,
            "session_id": f"s{n}",
            "session_event": SessionEvent.STARTED,
            "energy_mwh": _STARTS_WH * 1_000 + round(n * risen_wh * 1_000),
        }
        for n in range(2)
    )
    store, _ = run(frames_of(arrived, [1]), [1], params=params)
    (session,) = (row for row in store.sessions.values() if row["end_reason"] == EndReason.SUPERSEDED)
    nothing = risen_wh < 1 or risen_wh <= void_wh
    assert (bool(session["void"]), bool(session["hold"])) == (nothing, not nothing)
