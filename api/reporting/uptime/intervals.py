"""Sets of half-open intervals on one line of integers, as two columns. Numpy only."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Intervals(NamedTuple):
    """[start, end) each: ascending, none empty, none touching the next. int64, of one length."""

    starts: Ints
    ends: Ints


def merged(starts: Ints, ends: Ints) -> Intervals:
    """The union of any intervals, in any order. One that ends before it starts is empty."""
    kept = ends > starts
    starts, ends = starts[kept], ends[kept]
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    begins = np.ones(len(starts), bool)
    begins[1:] = starts[1:] > reach[:-1]
    last = np.ones(len(starts), bool)
    last[:-1] = begins[1:]
    return Intervals(starts[begins], reach[last])


def intersection(one: Intervals, other: Intervals) -> Intervals:
    """What is in both."""
    points = _points(one, other)
    return _where(points, _contains(one, points) & _contains(other, points))


def difference(one: Intervals, other: Intervals) -> Intervals:
    """What is in `one` and not in `other`."""
    points = _points(one, other)
    return _where(points, _contains(one, points) & ~_contains(other, points))


def covered(intervals: Intervals, points: Ints) -> Ints:
    """How much of the line before each point is in the set. So of [a, b) it is covered(b) - covered(a)."""
    totals = np.concatenate([np.zeros(1, np.int64), np.cumsum(intervals.ends - intervals.starts)])
    begun = np.searchsorted(intervals.starts, points, side="right")
    # Of the intervals that begin before a point all but the last end before it, too.
    last_ends = np.concatenate([np.full(1, np.iinfo(np.int64).min), intervals.ends])[begun]
    return np.asarray(totals[begun] - np.where(last_ends > points, last_ends - points, 0))


def _points(one: Intervals, other: Intervals) -> Ints:
    return np.unique(np.concatenate([*one, *other]))


def _contains(intervals: Intervals, points: Ints) -> Bools:
    begun = np.searchsorted(intervals.starts, points, side="right")
    ended = np.searchsorted(intervals.ends, points, side="right")
    return np.asarray(begun > ended)


def _where(points: Ints, kept: Bools) -> Intervals:
    """Of the cells between neighbouring points those that are kept, neighbours as one. No cell begins at the last."""
    cells = kept[:-1]
    return merged(points[:-1][cells], points[1:][cells])
