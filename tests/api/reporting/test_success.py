"""Which sessions charged the vehicle, and what went wrong in the others."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from api.reporting.uptime.ports import PortLine, Spans
from api.reporting.uptime.success import (
    ENERGY_MIN_UJ,
    PortStatuses,
    faults_during,
    success_rate_mpct,
    successful,
)
from schemas.reading import Status

LINE = PortLine(2, 0, 100)


@st.composite
def stated(draw: st.DrawFn) -> list[tuple[int, int, int, Status, str | None, str | None]]:
    """One after the other; some of no length."""
    found = []
    codes = st.sampled_from([None, "GroundFailure", "HighTemperature"])
    for port in range(2):
        bounds = sorted(draw(st.lists(st.integers(0, 100), max_size=10)))
        for start, end in itertools.pairwise(bounds):
            status = draw(st.sampled_from([Status.CHARGING, Status.FAULTED, Status.AVAILABLE]))
            found.append((port, start, end, status, draw(codes), draw(st.sampled_from([None, "E7"]))))
    return found


sessions = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 99), st.integers(0, 99)), max_size=8)


@given(stated(), sessions)
def test_faults_are_those_of_the_port_while_the_session_lasted(
    intervals: list[tuple[int, int, int, Status, str | None, str | None]], asked: list[tuple[int, int, int]]
) -> None:
    asked = [(port, min(start, end), max(start, end)) for port, start, end in asked]
    found = faults_during(LINE, _spans(asked), _statuses(intervals))
    for place, (port, start, end) in enumerate(asked):
        # It holds at some moment from the start to the end, that one included.
        seen = [one for one in intervals if one[0] == port and one[1] <= end and one[2] > start]
        assert bool(found.faulted[place]) == any(one[3] is Status.FAULTED for one in seen)
        codes = [code for one in seen for code in one[4:] if code is not None]
        assert found.error_codes[place] == tuple(dict.fromkeys(codes))


def test_a_session_succeeds_by_energy_and_without_a_fault() -> None:
    energy_uj = np.array([ENERGY_MIN_UJ, ENERGY_MIN_UJ - 1, 50 * ENERGY_MIN_UJ], np.int64)
    assert successful(energy_uj, np.array([False, False, True])).tolist() == [True, False, False]
    assert success_rate_mpct(2, 3) == 66_666
    assert success_rate_mpct(0, 0) is None


def _spans(asked: list[tuple[int, int, int]]) -> Spans:
    return Spans(*(np.array([one[place] for one in asked], np.int64) for place in range(3)))


def _statuses(intervals: list[tuple[int, int, int, Status, str | None, str | None]]) -> PortStatuses:
    spans = _spans([one[:3] for one in intervals])
    codes = (np.array([one[place] for one in intervals], object) for place in (4, 5))
    return PortStatuses(spans, np.array([int(one[3]) for one in intervals], np.int64), *codes)
