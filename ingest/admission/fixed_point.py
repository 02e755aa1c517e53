"""Converts wire quantities to integers of thousandths, exactly.

The rule: a number on the wire means the shortest decimal that names its 64-bit float (for up to 15 digits the
digits that were sent); that decimal times 1,000 is rounded to an integer, halves to the even neighbour.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.reading import MILLI

# A float names its decimal to half a unit in the last place (2^-53 of it), the product rounds once more (2^-53), so
# the product is within 2^-52 of the decimal's thousandfold; twice that for safety. Nearer to a half, the decimal
# decides.
_DOUBT: Final = 2.0**-51


def thousandths(value: float) -> int:
    """Apply the rule to one finite number."""
    return int((Decimal(repr(float(value))) * MILLI).to_integral_value(ROUND_HALF_EVEN))


def thousandths_all(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """`thousandths` of each: any shape, finite, |value| at most 1e12."""
    scaled = values * MILLI
    rounded = np.rint(scaled)
    doubtful = np.abs(scaled - rounded) >= 0.5 - np.abs(scaled) * _DOUBT
    whole = rounded.astype(np.int64)
    if doubtful.any():
        for at in zip(*np.nonzero(doubtful), strict=True):
            whole[at] = thousandths(values[at])
    return whole
