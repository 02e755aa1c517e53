"""Fingerprints of readings' payloads and of names: equal ones hash equal, whatever process or machine computes it.

Not against malice: a device that knows the rule can only confuse its own readings and sessions with each other.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.runs import I64

# splitmix64 (Steele et al., OOPSLA 2014)
_MULTIPLIERS: Final = tuple(map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)))
_MIXED_BITS: Final = np.uint64(29)
_WORD: Final = 8  # octets mixed at once
_BLOCK: Final = 32_768  # rows at once: what is computed of them stays in the cache of a core


def payload_hash(columns: Iterable[NDArray[np.integer]], rows: int) -> I64:
    """(rows,) in [1, 2**32): 32 bits of a mix over all columns in their order; never 0, which means "empty"."""
    words = [column.astype(np.int64, copy=False).view(np.uint64) for column in columns]
    hashed = np.full(rows, _MULTIPLIERS[0], np.uint64)
    shifted = np.empty(min(rows, _BLOCK), np.uint64)
    for begin in range(0, rows, _BLOCK):
        block = slice(begin, begin + _BLOCK)
        state, high = hashed[block], shifted[: rows - begin]
        for word in words:
            state ^= word[block]
            state *= _MULTIPLIERS[1]
            np.right_shift(state, _MIXED_BITS, out=high)
            state ^= high
        state *= _MULTIPLIERS[2]
        state >>= np.uint64(32)
        np.maximum(state, np.uint64(1), out=state)
    return hashed.view(np.int64)


def name_hash(offset: I64, octets: NDArray[np.uint8]) -> I64:
    """(names,) in [1, 2**63): 63 bits of a mix over each name's length and octets; never 0, which means "none".

    offset: (names + 1,) name i is `octets[offset[i]:offset[i + 1]]`.
    """
    length = np.diff(offset)
    padded = np.append(octets, np.zeros(_WORD, np.uint8))
    at_any = np.ndarray(len(octets) + 1, "<u8", padded, strides=(1,))  # the word that begins at each octet
    state = length.astype(np.uint64) * _MULTIPLIERS[0]
    for first in range(0, int(length.max(initial=0)), _WORD):
        missing = np.clip(first + _WORD - length, 0, _WORD).astype(np.uint64) * np.uint64(8)  # bits past the name's end
        word = at_any[np.minimum(offset[:-1] + first, len(octets))]
        word &= np.uint64(2**64 - 1) >> np.minimum(missing, np.uint64(63))
        mixed = (state ^ word) * _MULTIPLIERS[1]
        mixed ^= mixed >> _MIXED_BITS
        state = np.where(length > first, mixed, state)  # whatever the length of the longest name
    state *= _MULTIPLIERS[2]
    state ^= state >> np.uint64(32)
    hashed: I64 = np.maximum(state >> np.uint64(1), np.uint64(1)).view(np.int64)
    return hashed
