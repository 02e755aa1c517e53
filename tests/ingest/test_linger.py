"""Laws of the linger: within its bounds, short where waiting brings nothing, long where it fills frames."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.linger import SHORTEST_S, Linger

PARTITIONS = 4
LONGEST_S = 0.02


def flushes(linger: Linger, arrivals: list[tuple[float, int]]) -> list[tuple[float, float, int]]:
    """Of each flush: when its first request came, when it was due, and its items. `arrivals`: moments and items."""
    found: list[tuple[float, float, int]] = []
    began_s, items = 0.0, 0
    for now_s, count in arrivals:
        if items and linger.due_s <= now_s:
            found.append((began_s, linger.due_s, items))
            items = 0
        if not items:
            began_s = now_s
            linger.begin(now_s)
        linger.add(count, now_s)
        items += count
    return [*found, (began_s, linger.due_s, items)] if items else found


def steady(rate: float, items: int = 1, seconds: float = 5.0) -> list[tuple[float, int]]:
    return [(1.0 + number / rate, items) for number in range(int(rate * seconds))]


_gaps = st.lists(st.tuples(st.floats(0, 3, allow_nan=False), st.integers(1, 5_000)), max_size=60)


@given(gaps=_gaps, longest_s=st.sampled_from([0.0, 0.0005, 0.005, 0.02, 1.0]), partitions=st.integers(1, 16))
def test_a_reading_waits_within_the_bounds_whatever_comes(
    gaps: list[tuple[float, int]], longest_s: float, partitions: int
) -> None:
    moments = accumulate(gap for gap, _ in gaps)
    arrivals = [(moment, items) for moment, (_, items) in zip(moments, gaps, strict=True)]
    found = flushes(Linger(longest_s, partitions), arrivals)
    assert sum(items for _, _, items in found) == sum(items for _, items in arrivals)
    for began_s, due_s, _ in found:
        assert began_s + min(SHORTEST_S, longest_s) <= due_s + 1e-9
        assert due_s <= began_s + longest_s + 1e-9


@pytest.mark.parametrize("rate", [1, 10, 100, 350])
def test_with_little_traffic_nobody_waits_for_readings_that_do_not_come(rate: int) -> None:
    found = flushes(Linger(LONGEST_S, PARTITIONS), steady(rate))
    assert {items for _, _, items in found} == {1}
    assert all(due_s - began_s == pytest.approx(SHORTEST_S) for began_s, due_s, _ in found)


@pytest.mark.parametrize(("rate", "items"), [(1_000, 1), (10_000, 1), (100, 100), (20_000, 2)])
def test_with_much_traffic_flushes_have_what_comes_within_the_longest_wait(rate: int, items: int) -> None:
    found = flushes(Linger(LONGEST_S, PARTITIONS), steady(rate, items))
    of_last = [count for began_s, _, count in found[:-1] if began_s > 3]  # the rate is known
    assert min(of_last) >= rate * items * LONGEST_S * 0.9


def test_batches_wait_for_longer_than_single_readings() -> None:
    linger, longest_batch_s = Linger(LONGEST_S, PARTITIONS, 3 * LONGEST_S), 3 * LONGEST_S

    def waits_s(arrivals: list[tuple[float, int]]) -> list[float]:
        found = flushes(linger, arrivals)
        return [due_s - began_s for began_s, due_s, _ in found if began_s > arrivals[-1][0] - 2]

    assert max(waits_s(steady(100, items=100))) == pytest.approx(longest_batch_s)
    later = [(moment + 60, items) for moment, items in steady(1_000)]
    assert max(waits_s(later)) == pytest.approx(LONGEST_S)


def test_clients_that_wait_for_their_answers_do_not_wait_for_the_longest_time() -> None:
    linger, now_s, waits_s = Linger(LONGEST_S, PARTITIONS), 1.0, []
    for _ in range(500):
        found = flushes(linger, [(now_s + number * 0.00005, 1) for number in range(64)])
        assert [items for _, _, items in found] == [64], "all of them in one flush"
        began_s, due_s, _ = found[0]
        waits_s.append(due_s - began_s)
        now_s = due_s + 0.005  # the answers
    assert max(waits_s[100:]) < LONGEST_S / 2


def test_after_a_busy_time_one_reading_alone_waits_no_longer_than_before() -> None:
    linger = Linger(LONGEST_S, PARTITIONS)
    flushes(linger, steady(10_000))
    ((began_s, due_s, _),) = flushes(linger, [(60.0, 1)])
    assert due_s - began_s == pytest.approx(SHORTEST_S)
