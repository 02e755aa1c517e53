"""Readings of stations that nobody has registered, where operators want these in quarantine.

They are set apart before duplicates are looked for, so that what is posted again once the station is registered is new.
"""

from typing import Final

import numpy as np

from streams.effects import RefusedItems
from streams.engine.batch import Batch
from streams.engine.readings import StepReadings
from streams.engine.refusals import refuse
from streams.engine.store_queries import StoreQueries
from streams.kernels.runs import I64, any_true, distinct, rows_where
from streams.state.partition import PartitionState

REASON: Final = "unclaimed"
# How long the registry's answer counts. A station that is registered is found soon; each that speaks is asked for once
# a minute.
_UNCLAIMED_MS: Final = 5_000
_CLAIMED_MS: Final = 60_000
DETAIL: Final = (
    "the station is not registered: register it, then release its readings or post them again, "
    f"{_UNCLAIMED_MS // 1_000} s later at the earliest"
)


def set_apart(
    state: PartitionState, rows: StepReadings, batch: Batch, now_ms: int, queries: StoreQueries, refused: RefusedItems
) -> tuple[StepReadings, int]:
    """The rows of registered stations; adds the others to `refused`. Returns how many these are, too."""
    if not len(rows):
        return rows, 0
    index = state.connector_index
    station = index.station[rows.runs.key].astype(np.int64)  # of each run
    _ask(state, distinct(station, len(index.stations)), now_ms, queries)
    claimed = state.claimed[station]
    if not any_true(~claimed):
        return rows, 0
    others = rows_where(~claimed[rows.runs.of_row])
    refuse(state, rows, batch, others, REASON, DETAIL, refused)
    return rows.where(claimed[rows.runs.of_row]), len(others)


def _ask(state: PartitionState, stations: I64, now_ms: int, queries: StoreQueries) -> None:
    """Of the stations of which the registry was not asked for too long."""
    index = state.connector_index
    more = len(index.stations) - len(state.claimed)
    if more:
        state.claimed = np.append(state.claimed, np.zeros(more, np.bool_))
        state.claim_asked_ms = np.append(state.claim_asked_ms, np.full(more, -_CLAIMED_MS))
    age_ms = np.abs(now_ms - state.claim_asked_ms[stations])  # the time of frames may go back
    due = stations[age_ms >= np.where(state.claimed[stations], _CLAIMED_MS, _UNCLAIMED_MS)]
    if len(due):
        names = [index.station_names[station] for station in due.tolist()]
        registered = queries.registered(names)
        state.claimed[due] = [name in registered for name in names]
        state.claim_asked_ms[due] = now_ms
