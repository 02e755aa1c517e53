"""The dedupe window against a plain set of identities, however the readings are cut into batches."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.dedupe import WINDOW, DedupeVerdict, Identities, judge
from streams.kernels.runs import runs_of
from streams.state.partition import PartitionState

BOOT = 1
Reading = tuple[int, int]
"""Seq, fingerprint."""


@st.composite
def streams(draw: st.DrawFn) -> list[list[Reading]]:
    """Batches of one connector: ascending but for holes that are filled later, repetitions, changed payloads."""
    seqs = list(range(draw(st.integers(1, 5 * WINDOW))))
    for at, distance in draw(st.lists(st.tuples(st.integers(0, len(seqs)), st.integers(1, 2 * WINDOW)), max_size=8)):
        if at < len(seqs):
            seqs.insert(at + distance, seqs.pop(at))
    readings = [(seq, seq + 1) for seq in seqs]
    for at, fingerprint in draw(st.lists(st.tuples(st.integers(0, len(seqs) - 1), st.integers(1, 2)), max_size=4)):
        seq = readings[at][0]
        readings.append((seq, seq + fingerprint))
    cuts = sorted({0, len(readings), *draw(st.lists(st.integers(0, len(readings)), max_size=3))})
    return [readings[begin:end] for begin, end in pairwise(cuts)]


def judged(state: PartitionState, batch: list[Reading]) -> list[DedupeVerdict]:
    seq = np.array([seq for seq, _ in batch], np.int64)
    fingerprint = np.array([fingerprint for _, fingerprint in batch], np.int64)
    slot = np.zeros(len(batch), np.int64)
    verdict, _ = judge(state, Identities(slot, slot + BOOT, seq, seq * 1_000, fingerprint), runs_of(slot))
    return [DedupeVerdict(value) for value in verdict.tolist()]


def fresh_state() -> PartitionState:
    state = PartitionState(0)
    state.add_connectors([("A", 1)], [1])
    return state


@given(streams())
def test_what_the_window_is_certain_of_is_so(batches: list[list[Reading]]) -> None:
    state, taken, newest = fresh_state(), dict[int, int](), -1
    for batch in batches:
        for (seq, fingerprint), verdict in zip(batch, judged(state, batch), strict=True):
            if verdict is DedupeVerdict.UNKNOWN:
                assert seq <= newest - WINDOW
            elif seq not in taken:
                assert verdict is DedupeVerdict.FRESH
            else:
                assert verdict is (DedupeVerdict.DUPLICATE if taken[seq] == fingerprint else DedupeVerdict.CONFLICT)
            taken.setdefault(seq, fingerprint)
            newest = max(newest, seq)


def test_a_hole_in_more_than_a_window_of_readings_at_once_is_filled_later() -> None:
    state = fresh_state()
    judged(state, [(seq, seq + 1) for seq in range(WINDOW)])
    above = range(WINDOW, 2 * WINDOW + 6)
    hole = (2 * WINDOW - 5, 2 * WINDOW - 4)
    judged(state, [(seq, seq + 1) for seq in above if seq not in hole])
    assert judged(state, [(seq, seq + 1) for seq in hole]) == [DedupeVerdict.FRESH, DedupeVerdict.FRESH]
