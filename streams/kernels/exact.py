"""Products and quotients of int64 columns that are exact: no product leaves an int64 unseen."""

from typing import Final

import numpy as np

from streams.kernels.runs import I64

_PRODUCT_MAX: Final = 2.0**62


def product_over(a: I64, b: I64, c: I64) -> I64:
    """floor(a * b / c). Where the product leaves an int64 (a stretch of a month, of 3 MWh), row by row."""
    out: I64 = a * b // c
    large = np.abs(a.astype(np.float64)) * np.abs(b.astype(np.float64)) > _PRODUCT_MAX
    for row in np.flatnonzero(large).tolist():
        out[row] = int(a[row]) * int(b[row]) // int(c[row])
    return out


def half_up_over(a: I64, b: I64, c: I64) -> I64:
    """a * b / c, half up, not negative; of no use where c is 0."""
    twice = 2 * np.maximum(c, 1)
    out: I64 = (2 * a * b + c) // twice
    large = a.astype(np.float64) * b.astype(np.float64) > _PRODUCT_MAX / 2
    for row in np.flatnonzero(large).tolist():
        out[row] = (2 * int(a[row]) * int(b[row]) + int(c[row])) // int(twice[row])
    return out


def times_rate(quantity: I64, rate: I64, unit: I64 | np.int64) -> I64:
    """quantity * rate / unit, half up, not negative. Units are at most 3.6e6 and rates 1e12: their product fits."""
    whole = quantity // unit
    rest = quantity - whole * unit  # np.divmod takes several times as long
    amount: I64 = whole * rate + (2 * rest * rate + unit) // (2 * unit)
    return amount
