"""When a connector's status changes (docs/adr/0019).

A reading with a status is a statement: a status and a fault, in force until the connector makes another. An interval
begins with a statement that differs from the one before it, in the order of the connector's timeline; readings without
a status neither begin nor end one. Several intervals of one moment are numbered: all but the last have no length.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streams.kernels.runs import I8, I32, I64, NULL, Runs, column, previous_in_run, rows_where


@dataclass(init=False, eq=False, repr=False)
class StatusColumns:
    """Columns of the state, one row per connector (slot): its newest interval, and whether its station is silent."""

    status: I8 = column()  # schemas.reading.Status; 0: it made no statement yet
    status_fault: I64 = column()  # fingerprint of the fault codes; 0: none
    status_since_ms: I64 = column(NULL)
    status_place: I32 = column()  # among the intervals of this moment, from 0
    silent_since_ms: I64 = column()  # when its station was last heard, by arrival; 0: the station is not silent


class Statements(NamedTuple):
    """int64 columns of equal length, sorted by connector, each connector's in the order of its timeline."""

    ts_ms: I64
    status: I64  # never 0
    fault: I64  # fingerprint; 0: none


class Newest(NamedTuple):
    """(runs,) the newest interval of each connector before these statements; status 0, since NULL: there is none."""

    status: I64
    fault: I64
    since_ms: I64
    place: I64


class Begun(NamedTuple):
    """The intervals that begin, in order."""

    row: I64  # of the statements
    place: I64


def begun(statements: Statements, runs: Runs, before: Newest) -> Begun:
    """Which statements begin an interval. `runs`: the statements of each connector."""
    differs = statements.status != previous_in_run(statements.status, runs, before.status)
    differs |= statements.fault != previous_in_run(statements.fault, runs, before.fault)
    row = rows_where(differs)
    run, since_ms = runs.of_row[row], statements.ts_ms[row]
    first = np.ones(len(row), np.bool_)  # of its connector's and moment's
    first[1:] = (run[1:] != run[:-1]) | (since_ms[1:] != since_ms[:-1])
    start = rows_where(first)
    group = np.cumsum(first) - 1
    goes_on = since_ms[start] == before.since_ms[run[start]]
    offset = np.where(goes_on, before.place[run[start]] + 1, 0)
    return Begun(row, np.arange(len(row)) - start[group] + offset[group])
