"""Readings as rows of one structured numpy array: made by the fleet, changed by faults, sent by transports.

Quantities are the integers of thousandths of schemas.reading; NULL marks one that the device does not give. An empty
session_id, status 0 and session_event 0 are not sent. `slot` and `malformed` never leave the simulator.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.reading import QUANTITIES, SESSION_ID_CHARS_MAX, STATION_ID_CHARS_MAX

NULL: Final = np.iinfo(np.int64).min
UJ_PER_MWH: Final = 3_600_000  # mW x ms

READING_DTYPE: Final = np.dtype(
    [
        ("station_id", f"S{STATION_ID_CHARS_MAX}"),
        ("connector_id", np.int16),
        ("session_id", f"S{SESSION_ID_CHARS_MAX}"),
        ("boot", np.int64),
        ("seq", np.int64),
        ("ts_ms", np.int64),
        *((column, np.int64) for column, _, _, _ in QUANTITIES.values()),
        ("status", np.int8),
        ("session_event", np.int8),
        ("malformed", np.uint8),  # MalformedKind
        ("slot", np.int32),  # of the connector in its fleet, from 0
    ]
)

Readings = NDArray[np.void]  # of READING_DTYPE, shape (n,)


class MalformedKind(IntEnum):
    """How an item is broken when it is encoded: still JSON, but without an identity, so that it is refused."""

    NO = 0
    WRONG_TYPE = 1
    MISSING_TS = 2
    OUT_OF_RANGE = 3
    NO_TIME = 4
    NOT_AN_OBJECT = 5
    NO_OFFSET = 6


class Burst(NamedTuple):
    """Readings that leave together, at a moment of simulated time (Unix epoch, ms)."""

    at_ms: int
    readings: Readings


Stream = Iterator[Burst]


def no_readings() -> Readings:
    """An empty array."""
    return np.empty(0, READING_DTYPE)


def batches(stream: Iterable[Burst], size: int) -> Iterator[Readings]:
    """All readings of a stream, `size` at a time, the last batch smaller. Raises ValueError unless size >= 1."""
    if size < 1:
        raise ValueError("size must be at least 1")
    pending: list[Readings] = []
    count = 0
    for burst in stream:
        pending.append(burst.readings)
        count += len(burst.readings)
        if count < size:
            continue
        rows = np.concatenate(pending)
        whole = count - count % size
        yield from (rows[at : at + size] for at in range(0, whole, size))
        pending, count = [rows[whole:]], count - whole
    if count:
        yield np.concatenate(pending)
