"""Which connector has which slot: the names that devices send on one side, numbers on the other.

Stations are numbered as they appear; a connector is a station's number and its own. A Python object a connector would
take as much memory as all of its columns, so the table is a sorted array, and only stations are in a dict.
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np

from streams.kernels.runs import I16, I32, I64


class ConnectorIndex:
    """Connectors in the order of their slots, 0 and up. They are never removed."""

    def __init__(self) -> None:
        self.stations: dict[str, int] = {}
        self.station_names: list[str] = []
        self.station: I32 = np.empty(0, np.int32)  # (slots,) its station's number
        self.connector_id: I16 = np.empty(0, np.int16)  # (slots,)
        self._keys: I64 = np.empty(0, np.int64)  # (slots,) ascending
        self._slots: I32 = np.empty(0, np.int32)  # (slots,) of each key

    def __len__(self) -> int:
        return len(self.station)

    def connector(self, slot: int) -> tuple[str, int]:
        """(station_id, connector_id) of a slot."""
        return self.station_names[self.station[slot]], int(self.connector_id[slot])

    def connectors(self, first: int = 0) -> list[tuple[str, int]]:
        """Those from slot `first` on."""
        ids = self.connector_id[first:].tolist()
        return list(zip((self.station_names[s] for s in self.station[first:].tolist()), ids, strict=True))

    def find(self, stations: Sequence[str], at: I64, connector_id: I64) -> I64:
        """The slot of each connector `connector_id[i]` of the station `stations[at[i]]`; -1: it has none."""
        numbers = np.fromiter(map(self.stations.get, stations, repeat(-1)), np.int64, len(stations))
        if not len(self):
            return np.full(len(at), -1)
        keys = _keys(numbers[at], connector_id)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._slots[place], -1)

    def add(self, connectors: Sequence[tuple[str, int]]) -> None:
        """Give each (station_id, connector_id), none of which has one, the next slot."""
        if not connectors:
            return
        station = np.array([self._number(station_id) for station_id, _ in connectors], np.int32)
        connector_id = np.array([connector_id for _, connector_id in connectors], np.int16)
        keys = _keys(station.astype(np.int64), connector_id.astype(np.int64))
        order = np.argsort(keys)
        place = np.searchsorted(self._keys, keys[order])
        self._slots = np.insert(self._slots, place, (len(self) + order).astype(np.int32))
        self._keys = np.insert(self._keys, place, keys[order])
        self.station = np.concatenate([self.station, station])
        self.connector_id = np.concatenate([self.connector_id, connector_id])

    def _number(self, station_id: str) -> int:
        number = self.stations.setdefault(station_id, len(self.stations))
        if number == len(self.station_names):
            self.station_names.append(station_id)
        return number


def _keys(station: I64, connector_id: I64) -> I64:
    return (station << 16) | connector_id
