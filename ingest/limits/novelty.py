"""What a request would bring into being: stations that no request had before, and weeks of event time.

A station costs the worker a row of its registry and the state of its connectors, ~0.35 ms; a week two tables. What this
process has seen is known to it, whoever sent it; the rest counts as new, so a restart makes all of it new once. A token
that names its stations brings none into being that an operator has not named.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.admission import Admitted, DecodedReadings

WEEK_MS: Final = 7 * 86_400_000  # as the tables of readings are cut
# Of each half, ~150 B each: 40 MB of 262,144. A fleet in use is known as long as it has no more than the first half.
_STATIONS_KNOWN_MAX: Final = 131_072


class Novelties(NamedTuple):
    """What is new in a request."""

    stations: frozenset[str]  # upper case
    weeks: frozenset[int]  # since the epoch


class KnownStations:
    """Station ids, the newest ones. Those that were not asked for since the newer half was begun are forgotten."""

    def __init__(self, half_max: int = _STATIONS_KNOWN_MAX) -> None:
        self._half_max = half_max
        self._newer: set[str] = set()
        self._older: set[str] = set()

    def has(self, station: str) -> bool:
        """Whether it is known, without a doubt."""
        return station in self._newer

    def unknown(self, stations: Iterable[str]) -> frozenset[str]:
        """Those in upper case that are not known."""
        newer = self._newer
        others = {station.upper() for station in stations if station not in newer} - newer
        if not others:
            return frozenset()
        again = others & self._older
        self.add(again)
        return frozenset(others - again)

    def add(self, stations: Iterable[str]) -> None:
        """Know these, in upper case."""
        for station in stations:
            if len(self._newer) >= self._half_max:
                self._newer, self._older = set(), self._newer
            self._newer.add(station)


class Novelty:
    """What this process has seen. Not thread-safe."""

    def __init__(self) -> None:
        self._stations = KnownStations()
        self._weeks: set[int] = set()  # as many as the gateway takes old readings: hundreds

    def find(self, admitted: Admitted, *, any_station: bool) -> Novelties | None:
        """What is new in a request; None: nothing. `any_station`: its token names none."""
        rows = admitted.rows
        if (
            isinstance(rows, DecodedReadings)
            and len(rows.readings) == 1  # the hot path
            and int(rows.ts_ms[0]) // WEEK_MS in self._weeks
            and (not any_station or self._stations.has(rows.readings[0].station_id))
        ):
            return None
        if isinstance(rows, pa.RecordBatch):
            weeks = self._unknown_weeks(rows.column("ts_ms").to_numpy())
            stations = pc.unique(rows.column("station_id")).to_pylist() if any_station else ()
        else:
            weeks = self._unknown_weeks(rows.ts_ms)
            stations = [reading.station_id for reading in rows.readings] if any_station else ()
        unknown = self._stations.unknown(stations) if stations else frozenset[str]()
        return Novelties(unknown, weeks) if unknown or weeks else None

    def know(self, novelties: Novelties) -> None:
        """They are taken."""
        self._stations.add(novelties.stations)
        self._weeks |= novelties.weeks

    def _unknown_weeks(self, ts_ms: NDArray[np.int64]) -> frozenset[int]:
        if not len(ts_ms):
            return frozenset()
        first, last = int(ts_ms.min()) // WEEK_MS, int(ts_ms.max()) // WEEK_MS
        if first == last:
            return frozenset() if first in self._weeks else frozenset((first,))
        return frozenset(np.unique(ts_ms // WEEK_MS).tolist()) - self._weeks
