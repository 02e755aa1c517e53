"""The fingerprint of a reading's payload: equal readings hash equal, whatever process or machine computes it."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from streams.kernels.runs import I64

_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # splitmix64 (Steele et al., OOPSLA 2014)


def payload_hash(columns: Iterable[NDArray[np.integer]], rows: int) -> I64:
    """(rows,) in [1, 2**32): 32 bits of a mix over all columns in their order; never 0, which means "empty"."""
    state = np.full(rows, _MULTIPLIERS[0], np.uint64)
    for column in columns:
        state ^= column.astype(np.int64).view(np.uint64)
        state *= np.uint64(_MULTIPLIERS[1])
        state ^= state >> np.uint64(29)
    state *= np.uint64(_MULTIPLIERS[2])
    state >>= np.uint64(32)
    np.maximum(state, np.uint64(1), out=state)
    return state.view(np.int64)
