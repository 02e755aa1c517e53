"""Loads the times of a batch of stations' ports: registry, statuses and exclusions onto one line."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from api.reporting.errors import TooMany
from api.reporting.exclusions.models import Exclusion
from api.reporting.exclusions.service import exclusion_of
from api.reporting.exclusions.store import ExclusionStore
from api.reporting.uptime.ports import PortLine, Spans
from api.reporting.uptime.store import UptimeStore
from api.reporting.uptime.uptime import PortTimes, port_times
from kit.auth.station_filter import StationFilter
from kit.clock import to_ms

# Stations at once: of 14 months of two ports each with ten statuses a day PostgreSQL looks at 210,000 intervals, 2.7 s
# of its 30 on two busy cores.
STATIONS_AT_ONCE: Final = 25
EXCLUSIONS_MAX: Final = 10_000  # of a batch; a hundred a station


@dataclass(frozen=True, slots=True)
class PortBatch:
    """The ports of some stations. A port's number is its place in `names`."""

    names: Sequence[tuple[str, int]]  # station, connector; in that order
    times: PortTimes
    exclusions: Sequence[Exclusion]
    exclusion_spans: Spans  # one a port and exclusion
    exclusion_of_span: Sequence[int]  # its place in `exclusions`

    @property
    def number(self) -> dict[tuple[str, int], int]:
        """Each port's."""
        return {name: place for place, name in enumerate(self.names)}


class PortLoader:
    """Reads them from the database."""

    def __init__(self, store: UptimeStore, exclusions: ExclusionStore) -> None:
        self.store = store
        self._exclusions = exclusions

    async def stations(self, named: Sequence[str] | None, only: StationFilter) -> AsyncIterator[list[str]]:
        """All stations of the filter that had a port at some time, or those that are named, in batches, by id."""
        after = ""
        while batch := await self.store.stations(after, named, only, STATIONS_AT_ONCE):
            yield batch
            after = batch[-1]

    async def ports(self, stations: Sequence[str], start: datetime, end: datetime) -> PortBatch:
        """Their ports that were in service at some moment from `start` to `end`. Raises TooMany."""
        service = await self.store.service(stations, start, end)
        first: dict[tuple[str, int], int] = {}
        if any(row["start_ms"] is None for row in service):
            rows = await self.store.first_status(stations, start, end)
            first = {(row["station_id"], row["connector_id"]): row["start_ms"] for row in rows}
        in_service = list(_in_service(service, first, to_ms(end)))
        names = list(dict.fromkeys((row["station_id"], row["connector_id"]) for row in in_service))
        number = {name: place for place, name in enumerate(names)}
        line = PortLine(len(names), to_ms(start), to_ms(end))
        up = spans_of(await self.store.up(stations, start, end), number)
        exclusions = await self._exclusions_of(stations, start, end)
        spans, owners = _exclusion_spans(exclusions, names)
        times = port_times(line, spans_of(in_service, number), up, spans)
        return PortBatch(names, times, exclusions, spans, owners)

    async def _exclusions_of(self, stations: Sequence[str], start: datetime, end: datetime) -> list[Exclusion]:
        rows = await self._exclusions.in_force(stations, start, end, EXCLUSIONS_MAX + 1)
        if len(rows) > EXCLUSIONS_MAX:
            raise TooMany(f"{len(stations)} stations have more than {EXCLUSIONS_MAX} exclusions; name fewer stations")
        return [exclusion_of(row) for row in rows]


def spans_of(rows: Iterable[Mapping[str, Any]], number: Mapping[tuple[str, int], int]) -> Spans:
    """The spans of rows with station_id, connector_id, start_ms and end_ms, without those of other ports."""
    known = [
        (number[port], row["start_ms"], row["end_ms"])
        for row in rows
        if (port := (row["station_id"], row["connector_id"])) in number
    ]
    return Spans(*(np.array([one[place] for one in known], np.int64) for place in range(3)))


def _in_service(
    service: Iterable[Mapping[str, Any]], first: Mapping[tuple[str, int], int], end_ms: int
) -> Iterator[dict[str, Any]]:
    """Where nobody knows since when a port is registered it is in service since its first status; before, and if it has
    none up to the end, it is not."""
    for row in service:
        since_ms, until_ms = row["start_ms"], end_ms if row["end_ms"] is None else row["end_ms"]
        if since_ms is None:
            since_ms = first.get((row["station_id"], row["connector_id"]), until_ms)
        if since_ms < until_ms:
            yield {**row, "start_ms": since_ms, "end_ms": until_ms}


def _exclusion_spans(exclusions: Sequence[Exclusion], names: Sequence[tuple[str, int]]) -> tuple[Spans, list[int]]:
    """A span for each port that an exclusion is of, and the exclusion's place."""
    by_station: dict[str, list[int]] = {}
    for port, (station_id, _) in enumerate(names):
        by_station.setdefault(station_id, []).append(port)
    found = [
        (port, to_ms(one.start), to_ms(one.end), place)
        for place, one in enumerate(exclusions)
        for port in by_station.get(one.station_id, ())
        if one.connector_id in (None, names[port][1])
    ]
    spans = Spans(*(np.array([one[place] for one in found], np.int64) for place in range(3)))
    return spans, [one[3] for one in found]
