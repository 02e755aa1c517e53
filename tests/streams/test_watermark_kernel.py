"""Laws of the watermark."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.runs import NULL, arrival_order, runs_of
from streams.kernels.watermark import late_rows

STATIONS = 4
# (connector, moment, trusted): connectors 0, 4 and 8 are station 0's
rows = st.lists(st.tuples(st.integers(0, 3 * STATIONS - 1), st.integers(0, 300), st.booleans()), max_size=40)


def judged(newest: np.ndarray, arrived: list[tuple[int, int, bool]], lateness: int) -> list[bool]:
    columns = list(zip(*arrived, strict=True)) or [(), (), ()]
    connector, ts, trusted = (
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.bool_),
    )
    order = arrival_order(connector)
    runs = runs_of(connector[order])
    late = np.zeros(len(arrived), np.bool_)
    # Places in the order of arrival have gaps: what was refused had some.
    late[order] = late_rows(newest, runs.key % STATIONS, runs, ts[order], trusted[order], 3 * order + 1, lateness)
    flags: list[bool] = late.tolist()
    return flags


@given(rows, rows, st.integers(0, 50))
def test_watermark_never_moves_back(
    first: list[tuple[int, int, bool]], second: list[tuple[int, int, bool]], lateness: int
) -> None:
    newest = np.full(STATIONS, NULL, np.int64)
    judged(newest, first, lateness)
    before = newest.copy()
    judged(newest, second, lateness)
    assert (newest >= before).all()


@given(rows, st.integers(0, 50))
def test_late_is_behind_the_station_at_the_moment_of_arrival(
    arrived: list[tuple[int, int, bool]], lateness: int
) -> None:
    newest: dict[int, int] = {}
    expected = []
    for connector, ts, trusted in arrived:
        station = connector % STATIONS
        expected.append(station in newest and ts < newest[station] - lateness)
        if trusted:
            newest[station] = max(newest.get(station, ts), ts)
    assert judged(np.full(STATIONS, NULL, np.int64), arrived, lateness) == expected


def test_an_idle_station_never_holds_another_back() -> None:
    newest = np.full(STATIONS, NULL, np.int64)
    judged(newest, [(0, 10, True)], 5)
    judged(newest, [(1, 10_000, True)], 5)
    assert newest[:2].tolist() == [10, 10_000]
