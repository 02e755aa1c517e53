"""Laws of runs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.runs import NULL, among, arrival_order, by_row, rises, runs_of, sorted_by_arrival

KEYS = st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 3) | st.integers(65_534, 65_538), max_size=60)
FEW = st.lists(st.integers(0, 4), min_size=1, max_size=12)


@given(KEYS)
def test_equal_keys_keep_their_order_of_arrival(keys: list[int]) -> None:
    order = arrival_order(np.array(keys, np.int64))
    assert order.tolist() == sorted(range(len(keys)), key=keys.__getitem__)


@given(KEYS)
def test_keys_sorted_with_their_rows_are_the_keys_of_these_rows(keys: list[int]) -> None:
    order, sorted_keys = sorted_by_arrival(np.array(keys, np.int64))
    assert sorted_keys.tolist() == [keys[row] for row in order.tolist()] == sorted(keys)


@given(FEW)
def test_runs_are_consecutive_equal_keys(keys: list[int]) -> None:
    keys.sort()
    runs = runs_of(np.array(keys, np.int64))
    assert runs.key.tolist() == sorted(set(keys))
    assert runs.start.tolist() == [keys.index(key) for key in runs.key.tolist()]
    assert runs.length.tolist() == [keys.count(key) for key in runs.key.tolist()]
    assert (runs.last - runs.start + 1).tolist() == runs.length.tolist()
    assert runs.key[runs.of_row].tolist() == keys


@given(FEW, st.data())
def test_a_value_of_each_run_is_that_of_its_rows(keys: list[int], data: st.DataObject) -> None:
    runs = runs_of(np.array(sorted(keys), np.int64))
    values = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(runs.key), max_size=len(runs.key))), np.int64)
    assert np.broadcast_to(by_row(values, runs), len(keys)).tolist() == values[runs.of_row].tolist()


@given(FEW, st.data())
def test_a_column_rises_where_each_row_of_a_run_is_above_the_one_before(keys: list[int], data: st.DataObject) -> None:
    runs = runs_of(np.array(sorted(keys), np.int64))
    column = data.draw(st.lists(st.sampled_from((NULL, 0, 1, 2)), min_size=len(keys), max_size=len(keys)))
    pairs = [(row - 1, row) for row in range(len(keys)) if row not in runs.start]
    assert rises(np.array(column, np.int64), runs) == all(column[before] < column[row] for before, row in pairs)


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_values_are_among_others_where_these_have_them(values: list[int], others: list[int]) -> None:
    assert among(np.array(values, np.int64), others, 10).tolist() == [value in others for value in values]
