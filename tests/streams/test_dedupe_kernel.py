"""The dedupe window against a plain set of identities, however the readings are cut into batches."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.dedupe import TS_WINDOW, WINDOW, DedupeVerdict, Identities, count_part, judge
from streams.kernels.runs import NULL, runs_of
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
    verdict, _ = judge(state, Identities(slot, slot + BOOT, seq, seq * 1_000, fingerprint, slot * 0), runs_of(slot))
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


@st.composite
def bare_streams(draw: st.DrawFn) -> list[list[Reading]]:
    """Batches of readings without seq of one connector: moment, fingerprint; mostly of the latest moment."""
    readings, newest = [], 0
    for step in draw(st.lists(st.one_of(*[st.just(0)] * 6, st.integers(-3, 1)), min_size=1, max_size=40)):
        newest = max(newest, newest + step)
        readings.append((newest + min(step, 0), draw(st.integers(1, 12))))
    cuts = sorted({0, len(readings), *draw(st.lists(st.integers(0, len(readings)), max_size=3))})
    return [readings[begin:end] for begin, end in pairwise(cuts)]


@given(bare_streams())
def test_without_seq_different_readings_of_one_moment_are_its_parts_in_order_of_arrival(
    batches: list[list[Reading]],
) -> None:
    """What the window is certain of is so, and of the latest moment it is certain while its parts are few."""
    state, taken = fresh_state(), dict[int, list[int]]()
    for batch in batches:
        moment, fingerprint = (np.array(column, np.int64) for column in zip(*batch, strict=True))
        slot = np.zeros(len(batch), np.int64)
        rows = Identities(slot, slot + NULL, slot + NULL, moment, fingerprint, slot.copy())
        verdict, _ = judge(state, rows, runs_of(slot))
        found = zip(batch, verdict.tolist(), rows.part.tolist(), strict=True)
        for (moment_ms, payload), judgement, part in found:
            parts = taken.setdefault(moment_ms, [])
            expected = DedupeVerdict.DUPLICATE if payload in parts else DedupeVerdict.FRESH
            if judgement == DedupeVerdict.UNKNOWN:
                assert moment_ms < max(taken) or len(parts) > TS_WINDOW
            else:
                assert judgement == expected
                assert expected == DedupeVerdict.DUPLICATE or part == len(parts)
            if expected == DedupeVerdict.FRESH:
                if judgement == DedupeVerdict.UNKNOWN:  # as the step does with the store's answer
                    count_part(state, np.array([0]), np.array([moment_ms]), np.array([len(parts)]))
                parts.append(payload)


def test_a_hole_in_more_than_a_window_of_readings_at_once_is_filled_later() -> None:
    state = fresh_state()
    judged(state, [(seq, seq + 1) for seq in range(WINDOW)])
    above = range(WINDOW, 2 * WINDOW + 6)
    hole = (2 * WINDOW - 5, 2 * WINDOW - 4)
    judged(state, [(seq, seq + 1) for seq in above if seq not in hole])
    assert judged(state, [(seq, seq + 1) for seq in hole]) == [DedupeVerdict.FRESH, DedupeVerdict.FRESH]
