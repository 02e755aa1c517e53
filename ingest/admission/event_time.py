"""Parses event times to Unix epoch milliseconds, UTC.

Accepted: RFC 3339 and what else Arrow reads of ISO 8601's extended form (no seconds, offset without minutes), always
with an offset; and integers, which are epoch milliseconds. Fractions of a millisecond are cut off (towards the past).
Strings outside the years 1678 to 2261 are refused: no charger sends them.
"""

import re
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.admission.wire import TS_INVALID, Fault
from kit.clock import format_rfc3339, to_ms

MANY: Final = 12  # from here on Arrow's fixed cost (~10 us) is less than parsing one by one (~1 us each)
UNREADABLE: Final = np.iinfo(np.int64).min
_NS_PER_MS: Final = 1_000_000
_SECONDS_END: Final = 100_000_000_000  # as ms: March 1973, before every charger; as s: the year 5138
_ARROW_TS: Final = pa.timestamp("ns", "UTC")
_FORM: Final = re.compile(r"(?!0000)\d{4}-\d\d-\d\d[T ]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?(Z|[+-]\d\d(:?\d\d)?)", re.ASCII)
_FIRST_MS: Final = to_ms(datetime(1678, 1, 1, tzinfo=UTC))  # whole years of the range of 64-bit nanoseconds
_END_MS: Final = to_ms(datetime(2262, 1, 1, tzinfo=UTC))


def epoch_ms(moment: str | int) -> int:
    """One event time in Unix epoch ms; UNREADABLE if it has no offset or is not a time."""
    if isinstance(moment, int):
        return moment
    if _FORM.fullmatch(moment) is None:
        return UNREADABLE
    try:
        ms = to_ms(datetime.fromisoformat(moment))
    except (ValueError, OverflowError):
        return UNREADABLE
    return ms if _FIRST_MS <= ms < _END_MS else UNREADABLE


def epoch_ms_all(moments: list[str | int] | list[str]) -> NDArray[np.int64]:
    """`epoch_ms` of each: shape (n,), Unix epoch ms, UNREADABLE if it is not one."""
    if len(moments) >= MANY:
        try:
            return strings_ms(pa.array(moments, pa.string()))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass  # one is not a time, or an integer: parse one by one
    return np.fromiter(map(epoch_ms, moments), np.int64, len(moments))


def strings_ms(moments: pa.StringArray) -> NDArray[np.int64]:
    """All at once, without nulls. Raises ArrowInvalid if one of them cannot be parsed."""
    ns: NDArray[np.int64] = moments.cast(_ARROW_TS).view(pa.int64()).to_numpy()
    ms: NDArray[np.int64] = ns // _NS_PER_MS
    if ms.size and (ms.min() < _FIRST_MS or ms.max() >= _END_MS):
        ms[(ms < _FIRST_MS) | (ms >= _END_MS)] = UNREADABLE
    return ms


def event_time_fault(moment: str | int, ts_ms: int, oldest_ms: int, newest_ms: int) -> Fault | None:
    """The fault of an event time that is unreadable or outside [oldest_ms, newest_ms]."""
    if ts_ms == UNREADABLE:
        if isinstance(moment, str) and _FORM.fullmatch(moment + "Z"):
            return Fault("ts_naive", "ts has no offset; end it with Z or an offset such as +02:00")
        return Fault("ts_invalid", TS_INVALID)
    if ts_ms < oldest_ms:
        if isinstance(moment, int) and 0 < moment < _SECONDS_END:
            return Fault("ts_ancient", "ts is before 1973; send epoch milliseconds, these look like seconds")
        return Fault(
            "ts_ancient", f"ts is before {format_rfc3339(oldest_ms)}, the oldest taken; check the device's clock"
        )
    if ts_ms > newest_ms:
        if isinstance(moment, int) and moment > newest_ms * 100:
            return Fault("ts_future", "ts is far in the future; send epoch milliseconds, these look finer")
        return Fault(
            "ts_future", f"ts is after {format_rfc3339(newest_ms)}, the newest taken; check the device's clock"
        )
    return None
