"""Laws of runs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.runs import arrival_order


@given(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 3) | st.integers(65_534, 65_538), max_size=60))
def test_equal_keys_keep_their_order_of_arrival(keys: list[int]) -> None:
    order = arrival_order(np.array(keys, np.int64))
    assert order.tolist() == sorted(range(len(keys)), key=keys.__getitem__)
