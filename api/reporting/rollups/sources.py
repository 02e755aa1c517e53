"""The SQL of what other services publish: the rows that each facet is computed from.

Asked for are hours of stations. All but windows are read of all these stations from the first hour to the last, which a
batch bounds (STATION_HOURS_MAX).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from api.reporting.co2.factors import year_of
from api.reporting.co2.shipped import add_shipped
from api.reporting.co2.store import Co2Store
from api.reporting.exclusions.store import ExclusionStore
from api.reporting.rollups import facts
from api.reporting.rollups.facets import HOUR, OF_PORTS, Facet, Facts, Place
from api.reporting.rollups.store import RollUpStore
from api.reporting.uptime.loading import STATIONS_AT_ONCE, PortBatch, PortLoader
from api.reporting.uptime.repairs import LOOK_BACKS_MS, ended_outages
from api.reporting.uptime.store import UptimeStore
from api.reporting.uptime.uptime import monthly
from kit.clock import from_ms, to_ms
from kit.messaging.outbox import Transaction

_WINDOWS: Final = "SELECT * FROM telemetry.connector_hours($1::text[], $2::timestamptz[])"
_STATUSES: Final = """
SELECT station_id, connector_id, since, coalesce(until, $3) AS until, status
FROM telemetry.status_intervals($1::text[], $2, $3)
"""
_SESSIONS: Final = """
SELECT s.station_id, s.connector_id, s.started_at, s.ended_at, s.end_reason, s.void <> 0 AS void, s.export_mwh,
       s.energy_uj, EXISTS (
           SELECT FROM telemetry.status_intervals(
               ARRAY[s.station_id], s.started_at, greatest(s.started_at, s.ended_at) + interval '1 millisecond'
           ) AS i WHERE i.connector_id = s.connector_id AND i.status = 9
       ) AS faulted
FROM telemetry.session_overview AS s
WHERE s.station_id = ANY ($1::text[]) AND s.ended_at >= $2 AND s.ended_at < $3
"""  # 9: schemas.reading.Status.FAULTED
_MONEY: Final = """
SELECT station_id, connector_id, ended_at, currency, excl_micros, incl_micros, demand_margin_micros
FROM billing.documented_charges WHERE station_id = ANY ($1::text[]) AND ended_at >= $2 AND ended_at < $3
"""
_RESERVATIONS: Final = """
SELECT station_id, connector_id, starts_at, state FROM reservations.reservation_overview
WHERE station_id = ANY ($1::text[]) AND starts_at >= $2 AND starts_at < $3
"""
_WAITING: Final = """
SELECT station_id, connector_id, joined_at, offered_at, state FROM reservations.waiting_overview
WHERE station_id = ANY ($1::text[]) AND offered_at >= $2 AND offered_at < $3
"""
READS: Final = (
    "telemetry.connector_hours(text[], timestamp with time zone[])",
    "telemetry.status_intervals(text[], timestamp with time zone, timestamp with time zone)",
    "telemetry.session_overview",
    "billing.documented_charges",
    "reservations.reservation_overview",
    "reservations.waiting_overview",
    "stations.station_overview",
)


@dataclass(frozen=True, slots=True)
class HoursQuery:
    """Places to compute again, and the moment up to which they are known."""

    places: Sequence[Place]  # at least one
    now: datetime
    statuses_from: datetime | None = None  # those that ended before may be dropped

    @property
    def span(self) -> tuple[list[str], datetime, datetime]:
        """The stations, and from when to when."""
        hours = [place.hour for place in self.places]
        return sorted({place.station_id for place in self.places}), min(hours), max(hours) + HOUR


Read = Callable[[Transaction, HoursQuery], Awaitable[dict[Facet, Facts]]]


async def _windows(connection: Transaction, asked: HoursQuery) -> dict[Facet, Facts]:
    stations, hours = zip(*asked.places, strict=True)
    rows = await connection.fetch(_WINDOWS, stations, hours)
    places = list(asked.places)
    return {Facet.ENERGY: facts.energy(places, rows), Facet.POWER: facts.power(places, rows)}


async def _statuses(connection: Transaction, asked: HoursQuery) -> dict[Facet, Facts]:
    stations, start, end = asked.span
    rows = await connection.fetch(_STATUSES, stations, start, end)
    return {Facet.STATUS: facts.statuses(rows, start, asked.now)}


async def _co2(connection: Transaction, asked: HoursQuery) -> dict[Facet, Facts]:
    """From the energy that is stored, which stays when windows are dropped. So after `_windows`."""
    energy = await RollUpStore().old(connection, Facet.ENERGY, asked.places)
    years = sorted({year_of(key.hour) for key in energy})
    if not years:
        return {Facet.CO2: {}}
    store = Co2Store()
    countries = await store.countries(connection, sorted({key.station_id for key in energy}))
    factors = await store.in_force(connection, years, countries.values())
    if not factors.keys() >= set(years):
        await add_shipped(store, connection, asked.now)
        factors = await store.in_force(connection, years, countries.values())
    return {Facet.CO2: facts.co2(energy, countries, factors)}


async def _of_ports(connection: Transaction, asked: HoursQuery) -> dict[Facet, Facts]:
    stations, start, end = asked.span
    end = min(end, asked.now)
    availability: Facts = {}
    repairs: Facts = {}
    hours = [start + number * HOUR for number in range(-(-(end - start) // HOUR))]
    bounds_ms = np.array([to_ms(moment) for moment in (*hours, end)], np.int64)
    loader = PortLoader(UptimeStore(connection), ExclusionStore(connection))
    for first in range(0, len(stations) if hours else 0, STATIONS_AT_ONCE):
        some = stations[first : first + STATIONS_AT_ONCE]
        ports = await loader.ports(some, start - _look_back(0), end)
        if ports.names:
            availability |= facts.availability(ports.names, monthly(ports.times, bounds_ms), hours)
        repairs |= await _repairs(loader, ports, start, end, asked.statuses_from)
    return {Facet.AVAILABILITY: availability, Facet.REPAIRS: repairs}


def _look_back(number: int) -> timedelta:
    return timedelta(milliseconds=LOOK_BACKS_MS[number])


async def _repairs(
    loader: PortLoader, ports: PortBatch, start: datetime, end: datetime, statuses_from: datetime | None
) -> Facts:
    """Repairs from `start` to `end` of the ports that are loaded, with more of the past of stations that need it."""
    found: Facts = {}
    for number in range(1, len(LOOK_BACKS_MS) + 1):
        ended = ended_outages(ports.times, to_ms(start), to_ms(end))
        line_start = from_ms(ports.times.line.start_ms)
        is_last = number == len(LOOK_BACKS_MS) or (statuses_from is not None and line_start <= statuses_from)
        unknown = set() if is_last else {ports.names[port][0] for port in ended.port[ended.from_before].tolist()}
        known = np.array([ports.names[port][0] not in unknown for port in ended.port.tolist()], bool)
        found |= facts.repairs(ports.names, ended.only(known))
        if not unknown:
            break
        since = start - _look_back(number)
        since = since if statuses_from is None else max(since, statuses_from)
        ports = await loader.ports(sorted(unknown), since, end)
    return found


def _rows_of(facet: Facet, statement: str, compute: facts.Compute) -> Read:
    async def read(connection: Transaction, asked: HoursQuery) -> dict[Facet, Facts]:
        rows: list[Any] = await connection.fetch(statement, *asked.span)
        return {facet: compute(rows)}

    return read


# What is read together for the facets of a key, in order.
SOURCES: Final[dict[tuple[Facet, ...], Read]] = {
    (Facet.ENERGY, Facet.POWER): _windows,
    (Facet.CO2,): _co2,
    (Facet.STATUS,): _statuses,
    OF_PORTS: _of_ports,
    (Facet.SESSIONS,): _rows_of(Facet.SESSIONS, _SESSIONS, facts.sessions),
    (Facet.MONEY,): _rows_of(Facet.MONEY, _MONEY, facts.money),
    (Facet.RESERVATIONS,): _rows_of(Facet.RESERVATIONS, _RESERVATIONS, facts.reservations),
    (Facet.WAITING,): _rows_of(Facet.WAITING, _WAITING, facts.waiting),
}
