"""The calendar of a tariff: from which moments on which elements may apply, in a time zone with its changes of offset.

Pure: the zone's rules come from the system's tables, no clock is read. Rules: docs/adr/0009.
"""

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from schemas.tariff import DayOfWeek, TariffRestrictions
from streams.kernels.runs import I64, Bools
from streams.kernels.tariff_table import Masks

SPAN_MS: Final = 32 * 86_400_000
_DAY_MS: Final = 86_400_000
_PROBE_MS: Final = 21_600_000  # between looks for a change of the zone's offset; no zone changes twice in 6 hours
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


def follows_calendar(r: TariffRestrictions) -> bool:
    """Whether it restricts times, dates or days."""
    return bool(r.start_time or r.end_time or r.start_date or r.end_date or r.day_of_week)


def changes(restrictions: list[TariffRestrictions], active: int, zone: str, begin_ms: int) -> tuple[I64, Masks]:
    """Moments of [begin_ms, begin_ms + SPAN_MS) at which the elements may change, and the mask of those that hold from
    each on, as far as they are `active` (a mask as well). The first moment is the beginning."""
    times = sorted({0, *(_ms_of_day(t) for r in restrictions for t in (r.start_time, r.end_time) if t)})
    moments: list[I64] = []
    local: list[I64] = []
    for since_ms, until_ms, offset_ms in _offsets(zone, begin_ms, begin_ms + SPAN_MS):
        days = np.arange((since_ms + offset_ms) // _DAY_MS, (until_ms + offset_ms) // _DAY_MS + 1)
        at = (days[:, None] * _DAY_MS + np.array(times)).ravel() - offset_ms
        at = np.concatenate([[since_ms], at[(at > since_ms) & (at < until_ms)]])
        moments.append(at)
        local.append(at + offset_ms)
    masks = np.zeros(sum(map(len, local)), np.uint64)
    wall = np.concatenate(local)
    for place, r in enumerate(restrictions):
        if active >> place & 1:
            masks |= _holds(r, wall).astype(np.uint64) << np.uint64(place)
    return np.concatenate(moments), masks


def _holds(r: TariffRestrictions, local_ms: I64) -> Bools:
    """Whether the calendar allows it at these moments of local time."""
    day, time_ms = local_ms // _DAY_MS, local_ms % _DAY_MS
    holds = np.ones(len(local_ms), np.bool_)
    if r.start_time or r.end_time:
        start, end = _ms_of_day(r.start_time or "00:00"), _ms_of_day(r.end_time or "00:00") or _DAY_MS
        holds &= (time_ms >= start) & (time_ms < end) if start < end else (time_ms >= start) | (time_ms < end)
    if r.start_date:
        holds &= day >= _day_number(r.start_date)
    if r.end_date:
        holds &= day < _day_number(r.end_date)
    if r.day_of_week:
        week = np.zeros(7, np.bool_)
        week[[list(DayOfWeek).index(d) for d in r.day_of_week]] = True
        holds &= week[(day + 3) % 7]  # day 0 was a Thursday
    return holds


def _ms_of_day(text: str) -> int:
    hours, minutes = text.split(":")
    return (int(hours) * 60 + int(minutes)) * 60_000


def _day_number(text: str) -> int:
    return date.fromisoformat(text).toordinal() - _EPOCH_DAY


@lru_cache(maxsize=1_024)
def _offsets(zone: str, begin_ms: int, end_ms: int) -> list[tuple[int, int, int]]:
    """(since, until, offset) of the spans of constant offset in [begin_ms, end_ms)."""
    info = ZoneInfo(zone)

    def offset_ms(ms: int) -> int:
        offset = datetime.fromtimestamp(ms // 1_000, UTC).astimezone(info).utcoffset()
        return 0 if offset is None else int(offset.total_seconds()) * 1_000

    spans = []
    since_ms, offset = begin_ms, offset_ms(begin_ms)
    for probe_ms in range(begin_ms + _PROBE_MS, end_ms + 1, _PROBE_MS):
        if offset_ms(probe_ms) == offset:
            continue
        low, high = probe_ms - _PROBE_MS, probe_ms
        while high - low > 1_000:
            middle = (low + high) // 2_000 * 1_000
            low, high = (middle, high) if offset_ms(middle) == offset else (low, middle)
        spans.append((since_ms, high, offset))
        since_ms, offset = high, offset_ms(high)
    return [*spans, (since_ms, end_ms, offset)] if since_ms < end_ms else spans
