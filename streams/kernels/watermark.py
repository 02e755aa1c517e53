"""Event-time progress of stations, and which readings come behind it.

A station's watermark is its newest trusted event time less the allowed lateness. It never moves back. All connectors of
a station share one clock, so that an active one moves the watermark of an idle one; stations never move each other's.
"""

import numpy as np
from numpy.typing import NDArray

from streams.kernels.runs import (
    I64,
    NULL,
    Bools,
    Runs,
    all_true,
    any_true,
    arrival_order,
    rows_where,
    running_max,
    runs_of,
)


def late_rows(
    newest_ms: I64,
    station: NDArray[np.integer],
    runs: Runs,
    ts_ms: I64,
    trusted: Bools,
    arrival: I64,
    lateness_ms: int,
) -> Bools:
    """Whether each reading is behind its station's watermark at the moment it arrives. Advances `newest_ms`.

    newest_ms: (stations,) newest trusted event time; NULL: none. station: (runs,) of each run of rows (a connector's).
    ts_ms, trusted, arrival: (rows,); `arrival` is each row's place in the order of arrival, ascending in a run.
    An untrusted reading (its clock runs ahead) moves nothing.
    """
    late = np.zeros(len(ts_ms), np.bool_)
    if not len(ts_ms):
        return late
    trusted_ms = ts_ms if all_true(trusted) else np.where(trusted, ts_ms, NULL)
    suspects = _perhaps_late(newest_ms[station], runs, ts_ms, trusted_ms, arrival, lateness_ms)
    if any_true(suspects):
        stations = np.zeros(len(newest_ms), np.bool_)
        stations[station[suspects]] = True
        rows = rows_where(stations[station][runs.of_row])
        rows = rows[np.argsort(arrival[rows])]
        of_row = station[runs.of_row[rows]]
        order = arrival_order(of_row)
        rows, by_station = rows[order], runs_of(of_row[order])
        before = running_max(trusted_ms[rows], by_station, newest_ms[by_station.key])
        late[rows] = (before != NULL) & (ts_ms[rows] < before - lateness_ms)
    np.maximum.at(newest_ms, station, np.maximum.reduceat(trusted_ms, runs.start))
    return late


def _perhaps_late(newest_ms: I64, runs: Runs, ts_ms: I64, trusted_ms: I64, arrival: I64, lateness_ms: int) -> Bools:
    """(runs,) those that may have a late row: one behind what its station had reached before, or behind anything that
    arrived before it, of any station. Most batches have none."""
    perhaps: Bools = np.minimum.reduceat(ts_ms, runs.start) < np.maximum(newest_ms, NULL + lateness_ms) - lateness_ms
    if ts_ms.min() >= max(int(trusted_ms.max()), NULL + lateness_ms) - lateness_ms:
        return perhaps
    arrived = np.full(int(arrival.max()) + 1, NULL)
    arrived[arrival] = trusted_ms
    np.maximum.accumulate(arrived, out=arrived)
    behind = ts_ms < np.maximum(arrived, NULL + lateness_ms)[arrival] - lateness_ms
    perhaps[runs.of_row[behind]] = True
    return perhaps
