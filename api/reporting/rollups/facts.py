"""From rows that other services publish to the sums of connectors' hours. Pure.

Every function takes rows by name, of the asked places and perhaps of others, which the caller leaves out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from api.reporting.co2.factors import UNKNOWN, Factors, co2e_mg, year_of
from api.reporting.rollups.facets import HOUR, NO_CONNECTOR, Fact, FactKey, Facts, Place, hour_of
from api.reporting.uptime.repairs import EndedOutages
from api.reporting.uptime.success import ENERGY_MIN_UJ
from api.reporting.uptime.uptime import MonthlyTimes
from kit.clock import from_ms
from schemas.reading import MAIN_METER, SILENT, Status
from schemas.session import EndReason

Row = Mapping[str, Any]
OCCUPIED: Final = frozenset(
    {Status.PREPARING, Status.CHARGING, Status.SUSPENDED_EVSE, Status.SUSPENDED_EV, Status.FINISHING}
)
_MILLISECOND: Final = timedelta(milliseconds=1)
_WAITED: Final = frozenset({"offered", "accepted", "lapsed"})


def energy(places: list[Place], rows: Iterable[Row]) -> Facts:
    """Of windows (telemetry.connector_hours): what the ledger of energy has in sessions and outside of any."""
    return {
        _key(places[row["place"]], row["connector_id"]): Fact((row["in_session_mwh"], row["outside_mwh"]))
        for row in rows
        if row["connector_id"] != MAIN_METER
    }


def co2(energy: Facts, countries: Mapping[str, str], factors: Mapping[int, Factors]) -> Facts:
    """Of the energy of connectors' hours, by the country of the station and the year's factors."""
    found: Facts = {}
    for key, fact in energy.items():
        year = year_of(key.hour)
        factor = factors[year].of(countries.get(key.station_id, UNKNOWN), year)
        found[key] = Fact((co2e_mg(sum(fact.sums), factor),), version=factors[year].version)
    return found


def power(places: list[Place], rows: Iterable[Row]) -> Facts:
    """Of the same windows the mean power of each quarter of the hour, rounded half up; 0 without a reading of it."""
    return {
        _key(places[row["place"]], row["connector_id"]): Fact(
            tuple(
                (2 * total + count) // (2 * count) if count else 0
                for total, count in zip(row["power_mw_sum"], row["power_mw_n"], strict=True)
            )
        )
        for row in rows
        if row["connector_id"] != MAIN_METER
    }


def _key(place: Place, connector_id: int) -> FactKey:
    return FactKey(place.station_id, connector_id, place.hour)


def statuses(intervals: Iterable[Row], start: datetime, now: datetime) -> Facts:
    """Of status intervals (telemetry.status_intervals), which end at the end of the asked time where `until` is null:
    for how long a status was known in each hour from `start` on, up to `now`."""
    found: dict[FactKey, list[int]] = {}
    ends: dict[FactKey, int] = {}
    for row in intervals:
        if row["connector_id"] == MAIN_METER:
            continue
        until = min(row["until"], now)
        since = max(row["since"], start)
        hour = hour_of(since)
        while hour < until:
            end = hour + HOUR
            key = FactKey(row["station_id"], row["connector_id"], hour)
            spent_ms = (min(until, end) - max(since, hour)) // _MILLISECOND
            sums = found.setdefault(key, [0] * 6)
            for place in _places_of(row["status"]):
                sums[place] += spent_ms
            if until >= end and end <= now:
                ends[key] = row["status"]
            hour = end
    return {key: Fact(tuple(sums), ends.get(key)) for key, sums in found.items() if sums[0] or key in ends}


def _places_of(status: int) -> tuple[int, ...]:
    if status == Status.CHARGING:
        return (0, 1, 2)
    if status in OCCUPIED:
        return (0, 1)
    return {int(Status.FAULTED): (0, 3), int(Status.UNAVAILABLE): (0, 4), SILENT: (0, 5)}.get(status, (0,))


def availability(names: Sequence[tuple[str, int]], times: MonthlyTimes, hours: Sequence[datetime]) -> Facts:
    """Of ports and the times of each hour: in service, up or excluded (api/reporting/uptime), and excluded."""
    up_ms = times.service_ms - times.outage_ms + times.excluded_ms
    columns = (times.service_ms.tolist(), up_ms.tolist(), times.excluded_ms.tolist())
    return {
        FactKey(station_id, connector_id, hour): Fact((service[place], up[place], excluded[place]))
        for (station_id, connector_id), service, up, excluded in zip(names, *columns, strict=True)
        if connector_id != MAIN_METER
        for place, hour in enumerate(hours)
        if service[place]
    }


def repairs(names: Sequence[tuple[str, int]], ended: EndedOutages) -> Facts:
    """Of ports and the outages that repairs ended, by the hour of the end."""
    return _summed(
        (FactKey(station_id, connector_id, hour_of(from_ms(end_ms))), (1, counted_ms))
        for port, end_ms, counted_ms in zip(*(column.tolist() for column in ended.repairs()[:3]), strict=True)
        for station_id, connector_id in (names[port],)
        if connector_id != MAIN_METER
    )


def sessions(rows: Iterable[Row]) -> Facts:
    """Of sessions (telemetry.session_overview) that ended, by the hour of their end. Void ones are counted apart, and
    withdrawn ones not at all. Attempts are both, and succeed as api/reporting/uptime/success.py defines."""
    return _summed(
        (
            FactKey(row["station_id"], row["connector_id"], hour_of(row["ended_at"])),
            (
                *((0, 1, 0, 0) if row["void"] else (1, 0, _ms(row["ended_at"] - row["started_at"]), row["export_mwh"])),
                1,
                int(row["energy_uj"] >= ENERGY_MIN_UJ and not row["faulted"]),
            ),
        )
        for row in rows
        if row["end_reason"] != EndReason.WITHDRAWN and row["connector_id"] != MAIN_METER
    )


def money(rows: Iterable[Row]) -> Facts:
    """Of documents (billing.documented_charges) by the hour in which the charge ended; credit notes are below 0."""
    return _summed(
        (
            FactKey(row["station_id"], _connector(row), hour_of(row["ended_at"]), row["currency"]),
            (row["excl_micros"], row["incl_micros"], 1, *_margin(row["demand_margin_micros"])),
        )
        for row in rows
    )


def _margin(demand_margin_micros: int | None) -> tuple[int, int]:
    """The margin, and how many documents of charges have none that is known: 0 or 1."""
    return (0, 1) if demand_margin_micros is None else (demand_margin_micros, 0)


def reservations(rows: Iterable[Row]) -> Facts:
    """Of reservations (reservations.reservation_overview) by the hour of their start; those that were held and never
    confirmed are none."""
    counted = {"used": (1, 1, 0, 0), "no-show": (1, 0, 1, 0), "cancelled": (1, 0, 0, 1)}
    return _summed(
        (
            FactKey(row["station_id"], _connector(row), hour_of(row["starts_at"])),
            counted.get(row["state"], (1, 0, 0, 0)),
        )
        for row in rows
        if row["state"] not in ("held", "expired")
    )


def waiting(rows: Iterable[Row]) -> Facts:
    """Of waiting drivers (reservations.waiting_overview) who were offered a place, by the hour of the offer."""
    return _summed(
        (
            FactKey(row["station_id"], _connector(row), hour_of(row["offered_at"])),
            (1, _ms(row["offered_at"] - row["joined_at"])),
        )
        for row in rows
        if row["state"] in _WAITED
    )


def _connector(row: Row) -> int:
    connector_id = row["connector_id"]
    return NO_CONNECTOR if connector_id is None else connector_id


def _ms(duration: timedelta) -> int:
    return max(duration // _MILLISECOND, 0)


def _summed(rows: Iterable[tuple[FactKey, tuple[int, ...]]]) -> Facts:
    found: dict[FactKey, tuple[int, ...]] = {}
    for key, sums in rows:
        before = found.get(key)
        found[key] = sums if before is None else tuple(map(sum, zip(before, sums, strict=True)))
    return {key: Fact(sums) for key, sums in found.items()}


Compute = Callable[[Iterable[Row]], Facts]
