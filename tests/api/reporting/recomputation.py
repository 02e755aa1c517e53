"""Figures of a month, recomputed from its readings, statuses, sessions and documents in plain Python: moment by moment
and hour by hour, with nothing of the product's but the names of its metrics."""

import math
from collections import defaultdict
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from tests.api.reporting.month import CHARGING, FAULTED, FINISHING, HOUR, Month

Connector = tuple[str, int | None]
Bucket = tuple[Any, ...]
Figures = dict[tuple[str | None, Bucket, str | None], tuple[int, ...]]
_QUARTER, _MS = timedelta(minutes=15), timedelta(milliseconds=1)


def bucket_of(moment: datetime, by: str, zone: str) -> Bucket:
    """What the hour of a moment belongs to, by the calendar of a zone."""
    local = moment.astimezone(ZoneInfo(zone))
    if by == "hour":
        return (int(moment.timestamp()) // 3_600,)
    if by == "week":
        return tuple(local.isocalendar())[:2]
    return (local.year, local.month) if by == "month" else (local.year, local.month, local.day)


def group_of(month: Month, connector: Connector, grouping: str | None) -> str | None:
    """Where a connector belongs in the end."""
    station, number = connector
    if grouping is None:
        return None
    if grouping == "station":
        return station or None
    facts = month.registry.get(station)
    if facts is None:
        return None
    found: str | None = facts["plugs"].get(number) if grouping == "plug" else facts[grouping]
    return found


def figures_of(month: Month, now: datetime, metric: str, by: str, zone: str, grouping: str | None) -> Figures:
    """All figures of the metric, those that are not 0 throughout: (group, bucket, currency) -> sums."""
    if metric == "peak_power":
        return _peaks(month, by, zone, grouping)
    found: dict[Any, list[int]] = {}
    for connector, moment, currency, sums in _FACTS[metric](month, now):
        key = (group_of(month, connector, grouping), bucket_of(moment, by, zone), currency)
        before = found.setdefault(key, [0] * len(sums))
        for place, one in enumerate(sums):
            before[place] += one
    return {key: tuple(sums) for key, sums in found.items() if any(sums)}


def _energy(month: Month, now: datetime) -> Any:
    for connector, readings in month.readings.items():
        for reading in readings:
            yield connector, reading.ts, None, (reading.in_session_mwh or 0, reading.outside_mwh or 0)


def _co2(month: Month, now: datetime) -> Any:
    """Rounded half up to mg, of each connector and hour."""
    by_hour: dict[Any, int] = defaultdict(int)
    for connector, moment, _, (in_session_mwh, outside_mwh) in _energy(month, now):
        by_hour[connector, moment.replace(minute=0, second=0, microsecond=0)] += in_session_mwh + outside_mwh
    for (connector, hour), energy_mwh in by_hour.items():
        country = month.registry[connector[0]]["country"]
        g_per_kwh = month.g_per_kwh.get(country, month.g_per_kwh[""])
        mg = Fraction(energy_mwh, 10**6) * Fraction(g_per_kwh) * 1_000
        yield connector, hour, None, (math.floor(mg + Fraction(1, 2)),)


def _peaks(month: Month, by: str, zone: str, grouping: str | None) -> Figures:
    powers: dict[Connector, dict[datetime, list[int]]] = {}
    for measured, readings in month.readings.items():
        for reading in readings:
            if reading.power_mw is not None:
                quarter = reading.ts - (reading.ts - month.start) % _QUARTER
                powers.setdefault(measured, defaultdict(list))[quarter].append(reading.power_mw)
    together: dict[Any, int] = defaultdict(int)
    for connector, by_quarter in powers.items():
        for quarter, values in by_quarter.items():
            mean = Fraction(sum(values), len(values))
            rounded = int(mean) + (mean - int(mean) >= Fraction(1, 2))
            together[group_of(month, connector, grouping), quarter] += rounded
    peaks: dict[Any, int] = defaultdict(int)
    for (group, quarter), power_mw in together.items():
        key = (group, bucket_of(quarter, by, zone), None)
        peaks[key] = max(peaks[key], power_mw)
    return {key: (peak,) for key, peak in peaks.items() if peak}


def _time(*statuses: int) -> Any:
    def facts(month: Month, now: datetime) -> Any:
        for connector, moment, status, spent_ms in _times(month, now):
            yield connector, moment, None, (spent_ms if status in statuses else 0, spent_ms)

    return facts


_TIMES: dict[int, list[Any]] = {}


def _times(month: Month, now: datetime) -> list[Any]:
    """(connector, since, status, ms), cut at every change and at every hour."""
    if id(month) in _TIMES:
        return _TIMES[id(month)]
    found = _TIMES[id(month)] = []
    hours = [month.start + number * HOUR for number in range((now - month.start) // HOUR + 1)]
    connectors = {(station, one) for station, facts in month.registry.items() for one in facts["plugs"]}
    for connector in connectors:
        said = sorted(month.statuses[connector].items())
        silences = month.silences[connector[0]]
        cuts = sorted({*hours, now, *(since for since, _ in said), *(one for pair in silences for one in pair)})
        status, place = 0, 0
        for since, until in pairwise(cuts):
            while place < len(said) and said[place][0] <= since:
                status, place = said[place][1], place + 1
            shown = -1 if any(begin <= since < end for begin, end in silences) else status
            if shown and until <= now:
                found.append((connector, since, shown, (until - since) // _MS))
    return found


def _sessions(month: Month, now: datetime) -> Any:
    for one in month.sessions:
        if not (one.void or one.withdrawn):
            yield one.place, one.ended_at, None, (1, (one.ended_at - one.started_at) // _MS, one.export_mwh)


def _attempts(month: Month, now: datetime) -> Any:
    faults = defaultdict(list)
    for connector, since, status, spent_ms in _times(month, now):
        if status == FAULTED:
            faults[connector].append((since, since + spent_ms * _MS))
    for one in month.sessions:
        faulted = any(since <= one.ended_at and until > one.started_at for since, until in faults[one.place])
        if not one.withdrawn:
            yield one.place, one.ended_at, None, (one.energy_uj >= 100 * 3_600_000_000 and not faulted, 1)


def _uptime(month: Month, now: datetime) -> Any:
    """In service since the month began: what is neither up nor excluded is outage."""
    cuts = {month.start + number * HOUR for number in range((now - month.start) // HOUR + 1)}
    excluded = month.exclusions
    cuts |= {min(max(moment, month.start), now) for *_, since, until in excluded for moment in (since, until)}
    up = defaultdict(list)
    for connector, since, status, spent_ms in _times(month, now):
        if status in range(1, 8):
            up[connector].append((since, since + spent_ms * _MS))
    for station, facts in month.registry.items():
        for one in facts["plugs"]:
            own = [(since, until) for at, number, since, until in excluded if at == station and number in (None, one)]
            ends = {moment for span in up[station, one] for moment in span}
            marks = sorted(cuts | ends)
            covered = iter(sorted(up[station, one]))
            current = next(covered, None)
            for since, until in pairwise(marks):
                while current is not None and current[1] <= since:
                    current = next(covered, None)
                is_up = current is not None and current[0] <= since
                is_up = is_up or any(first <= since < last for first, last in own)
                spent_ms = (until - since) // _MS
                yield (station, one), since, None, (spent_ms if is_up else 0, spent_ms)


def _repairs(month: Month, now: datetime) -> Any:
    """Minute by minute would be too slow: spans in which a port was up, and the gaps between them."""
    up = defaultdict(list)
    for connector, since, status, spent_ms in _times(month, now):
        if status in range(1, 8):
            up[connector].append((since, since + spent_ms * _MS))
    for station, facts in month.registry.items():
        for one in facts["plugs"]:
            down = month.start
            for since, until in sorted(up[station, one]):
                cuts = {down, since}
                spans = [
                    (max(begin, down), min(end, since))
                    for at, number, begin, end in month.exclusions
                    if at == station and number in (None, one)
                ]
                cuts |= {moment for span in spans for moment in span if down < moment < since}
                lasted_ms = sum(
                    (then - first) // _MS
                    for first, then in pairwise(sorted(cuts))
                    if not any(begin <= first < end for begin, end in spans)
                )
                if lasted_ms:
                    yield (station, one), since, None, (lasted_ms, 1)
                down = until


def _of_sessions(*places: int) -> Any:
    def facts(month: Month, now: datetime) -> Any:
        for place, moment, currency, sums in _sessions(month, now):
            yield place, moment, currency, tuple(sums[one] for one in places)

    return facts


def _revenue(place: int) -> Any:
    def facts(month: Month, now: datetime) -> Any:
        for one in month.amounts:
            amount = (one.excl_micros, one.incl_micros)[place]
            yield (one.station_id, one.connector_id), one.ended_at, one.currency, (amount,)

    return facts


def _margins(month: Month, now: datetime) -> Any:
    for one in month.amounts:
        sums = (0, 1) if one.margin_micros is None else (one.margin_micros, 0)
        yield (one.station_id, one.connector_id), one.ended_at, one.currency, sums


def _reservations(month: Month, now: datetime) -> Any:
    for one in month.reservations:
        if one.state != "expired":
            yield (one.station_id, one.connector_id), one.starts_at, None, (1,)


def _no_shows(month: Month, now: datetime) -> Any:
    for one in month.reservations:
        used, missed = one.state == "used", one.state == "no-show"
        yield (one.station_id, one.connector_id), one.starts_at, None, (missed, used)


def _waiting(month: Month, now: datetime) -> Any:
    for one in month.reservations:
        if one.joined_at is not None:
            waited_ms = (one.created_at - one.joined_at) // _MS
            yield (one.station_id, one.connector_id), one.created_at, None, (waited_ms, 1)


_FACTS: dict[str, Any] = {
    "energy_delivered": _energy,
    "co2": _co2,
    "energy_returned": _of_sessions(2),
    "sessions": _of_sessions(0),
    "session_duration": _of_sessions(1, 0),
    "revenue": _revenue(0),
    "revenue_incl_vat": _revenue(1),
    "demand_margin": _margins,
    "occupancy": _time(2, CHARGING, 4, 5, FINISHING),
    "delivering": _time(CHARGING),
    "faulted": _time(FAULTED),
    "silent": _time(-1),
    "uptime": _uptime,
    "mttr": _repairs,
    "charging_success_rate": _attempts,
    "reservations": _reservations,
    "no_show_rate": _no_shows,
    "waiting_time": _waiting,
}
METRICS = (*_FACTS, "peak_power")
