"""Event-time progress of stations, and which readings come behind it.

A station's watermark is its newest trusted event time less the allowed lateness. It never moves back. All connectors of
a station share one clock, so the one that talks moves the watermark of the one that is idle; stations never move
each other's.
"""

import numpy as np
from numpy.typing import NDArray

from streams.kernels.runs import I64, NULL, Bools, arrival_order, running_max, runs_of


def late_rows(
    newest_ms: I64, station: NDArray[np.integer], ts_ms: I64, trusted: Bools, arrival: I64, lateness_ms: int
) -> Bools:
    """Whether each reading is behind its station's watermark at the moment it arrives. Advances `newest_ms`.

    newest_ms: (stations,) newest trusted event time; NULL: none. station, ts_ms, trusted, arrival: (rows,); `arrival`
    is each row's place in the order of arrival. An untrusted reading (its clock runs ahead) moves nothing.
    """
    late = np.zeros(len(ts_ms), np.bool_)
    if not len(ts_ms):
        return late
    reached = newest_ms.copy()
    trusted_ms = np.where(trusted, ts_ms, NULL)
    together = runs_of(station)
    np.maximum.at(reached, together.key, np.maximum.reduceat(trusted_ms, together.start))
    # Most batches have nothing late: only stations with a reading behind where they ended up need the exact order.
    behind = ts_ms < np.maximum(reached, NULL + lateness_ms)[station] - lateness_ms
    if behind.any():
        suspects = np.zeros(len(newest_ms), np.bool_)
        suspects[station[behind]] = True
        rows = np.flatnonzero(suspects[station])
        rows = rows[np.argsort(arrival[rows])]
        rows = rows[arrival_order(station[rows])]
        runs = runs_of(station[rows])
        before = running_max(trusted_ms[rows], runs, newest_ms[runs.key])
        late[rows] = (before != NULL) & (ts_ms[rows] < before - lateness_ms)
    newest_ms[:] = reached
    return late
