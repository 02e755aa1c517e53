"""Columns of integers, and runs in them: the readings of a batch grouped by a key, in arrival order inside a group."""

from dataclasses import field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I16 = NDArray[np.int16]
I8 = NDArray[np.int8]
U32 = NDArray[np.uint32]
Bools = NDArray[np.bool_]

NULL: int = np.iinfo(np.int64).min  # "the device sent nothing", in every int64 column
_SPARSE_BITS: int = 8  # fewer values than this part of their range are sorted rather than marked
MAX_I64: int = np.iinfo(np.int64).max  # "never" or "without end"


def column(start: int = 0, *, width: int = 1, flat: bool = False, stored_as: str = "", like: str = "") -> Any:
    """Declare a column of the state, as a dataclass field whose type says what it holds.

    start: the value of a new row. width: values per row, in an array (rows, width), or (rows * width,) where `flat`.
    stored_as: its name in the binary form of the state, where that is another. like: the column that it mostly equals:
    stored is the difference, and nothing where there is none.
    """
    return field(metadata={"start": start, "width": width, "flat": flat, "stored_as": stored_as, "like": like})


class Runs(NamedTuple):
    """Consecutive equal keys in a sorted column."""

    key: I64  # (runs,) the key of each run
    start: I64  # (runs,) index of its first row
    last: I64  # (runs,) index of its last row
    length: I64  # (runs,)
    of_row: I64  # (rows,) the run each row belongs to


def arrival_order(key: NDArray[np.integer]) -> I64:
    """Row indices sorted by `key`, equal keys in arrival order. `key` in [0, 2**32), fewer than 2**31 rows."""
    return sorted_by_arrival(key)[0]


def sorted_by_arrival(key: NDArray[np.integer]) -> tuple[I64, I64]:
    """The same, and the sorted keys. Key and row are sorted as one integer: numpy sorts these by vectors, several times
    faster than it sorts indices."""
    bits = len(key).bit_length()
    both = (key.astype(np.int64, copy=False) << bits) | np.arange(len(key))
    both.sort()
    return both & ((1 << bits) - 1), both >> bits


def runs_of(sorted_key: NDArray[np.integer]) -> Runs:
    """The runs of a column in which equal keys are adjacent."""
    rows = len(sorted_key)
    if not rows:
        empty = np.empty(0, np.int64)
        return Runs(empty, empty, empty, empty, empty)
    first = np.empty(rows, np.bool_)
    first[0] = True
    np.not_equal(sorted_key[1:], sorted_key[:-1], out=first[1:])
    start = rows_where(first)
    if len(start) == rows:  # as in a sparse fleet: one reading of each
        return Runs(sorted_key.astype(np.int64), start, start, np.ones(rows, np.int64), start)
    last = np.empty_like(start)
    last[:-1], last[-1] = start[1:] - 1, rows - 1
    length = last - start + 1
    return Runs(sorted_key[start].astype(np.int64), start, last, length, np.repeat(np.arange(len(start)), length))


def by_row(values: NDArray[Any], runs: Runs) -> Any:
    """`values` (one per run) for each row; where all are equal, one for all rows."""
    if len(values) and all_true(values == values[0]):
        return values[0]
    return values[runs.of_row]


def previous_in_run(column: I64, runs: Runs, carry: I64) -> I64:
    """Each row's predecessor in its run; `carry` (one per run) before the first."""
    before = np.empty_like(column)
    before[1:] = column[:-1]
    before[runs.start] = carry
    return before


def rises(column: I64, runs: Runs) -> bool:
    """Whether each row of a run is above the one before it."""
    rising = column[1:] > column[:-1]
    rising[runs.start[1:] - 1] = True
    return all_true(rising)


def running_max(column: I64, runs: Runs, carry: I64) -> I64:
    """The largest value before each row in its run, `carry` (one per run) included. Values span less than 2**40."""
    before = previous_in_run(column, runs, carry)
    known = before != NULL
    if not any_true(known):
        return before
    floor = int(before[known].min())
    span = int(before.max()) - floor + 2
    lift = runs.of_row * span  # each run is lifted above all earlier ones, so that one running maximum serves all
    lifted = np.where(known, before - floor + 1, 0) + lift
    np.maximum.accumulate(lifted, out=lifted)
    lifted -= lift
    return np.where(lifted <= 0, NULL, lifted - 1 + floor)


def any_true(values: NDArray[Any]) -> bool:
    """values.any(): of few values, as most steps have, it takes a tenth of that."""
    return bool(np.count_nonzero(values))


def all_true(values: NDArray[Any]) -> bool:
    """values.all(): likewise."""
    return bool(np.count_nonzero(values) == values.size)


def rows_where(values: NDArray[Any]) -> I64:
    """np.flatnonzero(values): likewise."""
    rows: I64 = values.nonzero()[0]
    return rows


def any_of(flag: Bools, runs: Runs) -> Bools:
    """(runs,) whether any row of the run has the flag."""
    return np.logical_or.reduceat(flag, runs.start) if any_true(flag) else np.zeros(len(runs.start), np.bool_)


def distinct(values: I64, bound: int) -> I64:
    """The distinct values, ascending; all in [0, bound). For slots this is several times faster than np.unique."""
    if len(values) < bound >> _SPARSE_BITS:
        return union(values[:0], values)
    seen = np.zeros(bound, np.bool_)
    seen[values] = True
    return rows_where(seen)


def among(values: I64, others: I64 | list[int], bound: int) -> Bools:
    """Which of the values are among the others; all in [0, bound). For slots this is much faster than np.isin."""
    marked = np.zeros(bound, np.bool_)
    marked[others] = True
    return marked[values]


def union(left: I64, right: I64) -> I64:
    """The distinct values of both, ascending."""
    both = np.concatenate([left, right])
    both.sort()
    keep = np.ones(len(both), np.bool_)
    np.not_equal(both[1:], both[:-1], out=keep[1:])
    return both[keep]


def rows_by_rank(runs: Runs, chosen: I64) -> list[tuple[I64, I64]]:
    """For the chosen runs, by rank r of a row in its run: the runs that have an r-th row, and the index of that row."""
    remaining = chosen
    steps = []
    rank = 0
    while len(remaining):
        steps.append((remaining, runs.start[remaining] + rank))
        rank += 1
        remaining = remaining[runs.length[remaining] > rank]
    return steps
