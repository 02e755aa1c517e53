"""A start that was stamped ahead of its arrival, and samples that were not: the session is held (docs/adr/0014)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reading import SessionEvent, Status
from schemas.session import EndReason, HoldReason
from tests.streams.reference import Reading
from tests.streams.test_step_laws import BASE_MS, RELOADS, blank_readings, frames_of, run

MINUTE_MS = 60_000
_EVENTS = {"start": SessionEvent.STARTED, "stop": SessionEvent.ENDED}


def readings(*rows: tuple[str, int, int, int], **same: Any) -> list[Reading]:
    """Each a start, sample or stop: the minutes that it is stamped with and arrives at, and its register in Wh."""
    return blank_readings(
        {"session_id": "a", "status": Status.CHARGING}
        | same
        | {
            "ts_ms": BASE_MS + ts * MINUTE_MS,
            "received_ms": BASE_MS + arrival * MINUTE_MS,
            "energy_mwh": register_wh * 1_000,
            "session_event": _EVENTS.get(what, SessionEvent.NONE),
        }
        for what, ts, arrival, register_wh in rows
    )


BEHIND_THE_STOP = readings(("start", 40, 0, 1_000), ("sample", 10, 10, 4_500), ("stop", 15, 15, 8_000))
BETWEEN_SAMPLES = readings(
    ("start", 15, 0, 1_000), ("sample", 10, 10, 4_500), ("sample", 18, 18, 7_000), ("stop", 20, 20, 8_000)
)
BEFORE_SAMPLES = readings(
    ("start", 9, 0, 1_000), ("sample", 12, 12, 4_500), ("sample", 15, 15, 7_000), ("stop", 20, 20, 8_000)
)
# A clock that is always ahead, or that comes with what is delivered late.
ALWAYS = readings(
    ("sample", 39, 9, 1_000), ("start", 40, 10, 1_000), ("sample", 45, 15, 4_500), ("stop", 50, 20, 8_000)
)
NEVER = readings(("start", 10, 10, 1_000), ("sample", 15, 15, 4_500), ("stop", 20, 20, 8_000))
SAMPLE = readings(("start", 10, 10, 1_000), ("sample", 50, 15, 4_500), ("stop", 18, 18, 8_000))


@pytest.mark.parametrize(
    ("arrived", "held"),
    [(BEHIND_THE_STOP, True), (BETWEEN_SAMPLES, True), (BEFORE_SAMPLES, True), (ALWAYS, False), (NEVER, False),
     (SAMPLE, False)],
)  # fmt: skip
@given(data=st.data())
def test_a_session_is_held_where_the_clock_was_set_back_after_its_start(
    arrived: list[Reading], held: bool, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(arrived))
    cuts = data.draw(st.lists(st.integers(0, 4), max_size=4))
    store, _ = run(
        frames_of(order, cuts), data.draw(st.lists(st.integers(0, 4), max_size=4)), reload=data.draw(RELOADS)
    )
    (session,) = (row for row in store.sessions.values() if row["end_reason"] == EndReason.ENDED)
    assert bool(session["hold"] & HoldReason.CLOCK_AHEAD) is held
