"""A store in memory: answers the step's queries and applies its effects, as the database does."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.quality import REGISTER_UNUSABLE, Quality
from schemas.session import EndReason
from streams.effects import (
    NULL_I64,
    READING_COLUMNS,
    WINDOW_COLUMNS,
    BayChanged,
    BayEffects,
    ComponentVolume,
    Effects,
    StationReadings,
    StatusChanged,
    StatusEffects,
)
from streams.engine.bays import MEASURED
from streams.engine.store_queries import (
    TIMELINE_COLUMNS,
    StoredBayInterval,
    StoredBays,
    StoredIdentity,
    StoredSession,
    StoredStatus,
    StoredTimelines,
    first_repeated,
)
from streams.kernels.windows import WINDOW_MS
from streams.tariffs.version import TariffVersion

Row = dict[str, int]


class MemoryStore:
    """The tables of schema telemetry that a step reads or writes."""

    def __init__(self) -> None:
        self.keys: dict[tuple[str, int], int] = {}
        self.readings: list[Row] = []
        self.windows: dict[tuple[int, int], Row] = {}
        self.sessions: dict[int, Row] = {}
        self.tariffs: dict[str, list[tuple[int, TariffVersion]]] = {}  # by station: (in force from, version), ascending
        self.consumption: dict[int, list[ComponentVolume]] = {}
        self.session_ids: dict[int, str | None] = {}
        self.extra: list[str | None] = []  # of the readings
        self.rated: dict[tuple[str, int], int] = {}
        self.refused: list[tuple[str, bytes]] = []
        self.started: list[int] = []
        self.completed: list[int] = []
        self.emitted: set[tuple[int, int]] = set()
        self.counts = {"stored": 0, "duplicate": 0, "quarantined": 0}
        self.by_station: list[StationReadings] = []
        self.statuses: dict[tuple[int, int, int], tuple[int, str | None, str | None]] = {}  # by key, since_ms and place
        self.silences: dict[str, list[tuple[int, int | None]]] = {}  # by station: since, until
        self.status_changes: list[StatusChanged] = []
        self.bays_found: dict[tuple[int, str, int], bool] = {}  # by key, bay and since_ms
        self.bay_changes: list[BayChanged] = []
        self.stations: set[str] = set()  # that are registered
        self.asked_stations: list[str] = []
        self.own_silences_ms: dict[str, int] = {}
        self.silences_asked = 0

    # -- StepStore -----------------------------------------------------------------------------------------------------

    def register_connectors(self, partition: int, connectors: list[tuple[str, int]]) -> list[int]:
        return [self.keys.setdefault(connector, len(self.keys) + 1) for connector in connectors]

    def identities(
        self, connector_key: NDArray[Any], boot: NDArray[Any], seq: NDArray[Any], ts_ms: NDArray[Any]
    ) -> StoredIdentity:
        wanted = list(zip(connector_key.tolist(), boot.tolist(), seq.tolist(), ts_ms.tolist(), strict=True))
        by_seq = {(key, b, s) for key, b, s, _ in wanted if b != NULL_I64 and s != NULL_I64}
        by_ts = {(key, t) for key, b, s, t in wanted if b == NULL_I64 or s == NULL_I64}
        found = [
            r
            for r in self.readings
            if (r["connector_key"], r["boot"], r["seq"]) in by_seq or (r["connector_key"], r["ts_ms"]) in by_ts
        ]
        return StoredIdentity(
            np.array([r["connector_key"] for r in found], np.int32),
            np.array([r["boot"] for r in found], np.int64),
            np.array([r["seq"] for r in found], np.int64),
            np.array([r["ts_ms"] for r in found], np.int64),
            np.array([r["payload_hash"] for r in found], np.int32),
        )

    def timelines(self, connector_key: list[int], ts_ms: list[int]) -> StoredTimelines:
        sessions: list[StoredSession] = []
        readings: list[int] = []
        for key, moment_ms in zip(connector_key, ts_ms, strict=True):
            rows = [r for r in self.sessions.values() if r["connector_key"] == key]
            rows = sorted(
                (r for r in rows if r["end_reason"] != EndReason.WITHDRAWN),
                key=lambda r: (r["started_ms"], r["last_ms"], r["session_key"]),
            )
            began = sum(r["started_ms"] < moment_ms for r in rows)
            known = [self._stored(row) for row in rows[max(began - 3, 0) :]]
            first = first_repeated(known, moment_ms)
            since_ms = known[first - 1].last_ms if first else NULL_I64
            sessions += known
            readings += [n for n, r in enumerate(self.readings) if r["connector_key"] == key and r["ts_ms"] >= since_ms]
        columns = {
            name: np.array([self.readings[n][name] for n in readings], READING_COLUMNS[name])
            for name in TIMELINE_COLUMNS
        }
        return StoredTimelines(sessions, columns, [self.extra[n] for n in readings])

    def _stored(self, row: Row) -> StoredSession:
        known = {name: row[name] for name in StoredSession._fields if name != "session_id"}
        known["tariff_key"] = 0 if row["tariff_key"] == NULL_I64 else row["tariff_key"]
        return StoredSession(session_id=self.session_ids[row["session_key"]], **known)

    def status_intervals(self, connector_key: list[int], ts_ms: list[int]) -> list[StoredStatus]:
        found = []
        for key, moment_ms in sorted(zip(connector_key, ts_ms, strict=True)):
            mine = sorted(place for place in self.statuses if place[0] == key)
            before_ms = max((since_ms for _, since_ms, _ in mine if since_ms < moment_ms), default=NULL_I64)
            found += [StoredStatus(*at, *self.statuses[at]) for at in mine if at[1] >= before_ms]
        return found

    def bays(self, wanted: list[tuple[int, str, int, int]]) -> StoredBays:
        intervals, readings = [], []
        until_ms: dict[int, int] = {}
        for key, bay, first_ms, last_ms in wanted:
            mine = sorted(place for place in self.bays_found if place[:2] == (key, bay))
            before_ms = max((since_ms for *_, since_ms in mine if since_ms < first_ms), default=NULL_I64)
            intervals += [StoredBayInterval(*at, self.bays_found[at]) for at in mine if at[2] >= before_ms]
            next_ms = min((since_ms for *_, since_ms in mine if since_ms > last_ms), default=2**63 - 1)
            until_ms[key] = max(next_ms, until_ms.get(key, next_ms))
        for key in until_ms:
            first_ms = min(moment_ms for one, _, moment_ms, _ in wanted if one == key)
            readings += [
                (key, row["ts_ms"], extra)
                for row, extra in zip(self.readings, self.extra, strict=True)
                if row["connector_key"] == key
                and first_ms <= row["ts_ms"] <= until_ms[key]
                and extra is not None
                and all(row[name] == nothing for name, nothing in MEASURED.items())
            ]
        return StoredBays(intervals, readings)

    def rated_powers(self, connectors: list[tuple[str, int]]) -> list[int]:
        return [self.rated.get(connector, 0) for connector in connectors]

    def registered(self, stations: list[str]) -> set[str]:
        self.asked_stations += stations
        return set(stations) & self.stations

    def silences_after(self) -> dict[str, int]:
        self.silences_asked += 1
        return dict(self.own_silences_ms)

    def tariffs_at(self, stations: list[str], moments_ms: list[int]) -> list[int]:
        found = []
        for station, moment_ms in zip(stations, moments_ms, strict=True):
            in_force = [version.key for since_ms, version in self.tariffs.get(station, []) if since_ms <= moment_ms]
            found.append(in_force[-1] if in_force else 0)
        return found

    def tariff_versions(self, keys: list[int]) -> list[TariffVersion]:
        return [version for versions in self.tariffs.values() for _, version in versions if version.key in keys]

    # -- Effects ----------------------------------------------------------------------------------------------------

    def apply(self, effects: Effects) -> None:
        for revised, extra in zip(_rows(effects.revised), effects.revised_extra, strict=True):
            (n,) = (n for n, r in enumerate(self.readings) if all(r[name] == revised[name] for name in FOUND_BY))
            self.readings[n] |= revised
            self.extra[n] = extra.decode() or None
        rows = _rows(effects.readings)
        self.extra += [extra.decode() or None for extra in effects.extra or [b""] * len(rows)]
        self.readings += rows
        for added in _rows(effects.windows):
            place = added["connector_key"], added["bucket_ms"]
            self.windows[place] = merge(self.windows[place], added) if place in self.windows else added
        for place in {(row["connector_key"], row["bucket_ms"]) for row in _rows(effects.remeasured)}:
            self.windows[place] |= self._registers(*place)
        for row, name in zip(_rows(effects.sessions), effects.session_ids, strict=True):
            key = row["session_key"]
            self.sessions[key] = row
            self.session_ids[key] = name
        self.consumption |= effects.consumption
        self.refused += zip(effects.refused.reason, effects.refused.raw, strict=True)
        self.started += effects.started.tolist()
        self.completed += effects.completed.tolist()
        self.emitted |= {(row["connector_key"], row["bucket_ms"]) for row in _rows(effects.emit)}
        for name in self.counts:
            self.counts[name] += getattr(effects, name)
        self.by_station += effects.by_station
        self._apply_status(effects.status)
        self._apply_bays(effects.bays)

    def _apply_bays(self, bays: BayEffects) -> None:
        for key, bay, since_ms, occupied in bays.intervals:
            if occupied is None:
                del self.bays_found[key, bay, since_ms]
            else:
                self.bays_found[key, bay, since_ms] = occupied
        self.bay_changes += bays.changes

    def _apply_status(self, status: StatusEffects) -> None:
        codes = zip(status.error_codes, status.vendor_error_codes, strict=True)
        for row, (error_code, vendor_error_code) in zip(_rows(status.intervals), codes, strict=True):
            place = row["connector_key"], row["since_ms"], row["place"]
            if row["status"]:
                self.statuses[place] = row["status"], error_code, vendor_error_code
            else:
                del self.statuses[place]
        for station, until_ms in status.silences_ended:
            since_ms, still = self.silences[station].pop()
            assert still is None
            self.silences[station].append((since_ms, until_ms))
        for station, since_ms in status.silences_begun:
            self.silences.setdefault(station, []).append((since_ms, None))
        self.status_changes += status.changes

    def _registers(self, connector_key: int, bucket_ms: int) -> Row:
        ends: Row = {}
        for name, unusable in (("energy", REGISTER_UNUSABLE), ("energy_export", Quality.EXPORT_IMPLAUSIBLE)):
            usable = sorted(
                (r["ts_ms"], r[f"{name}_mwh"])
                for r in self.readings
                if r["connector_key"] == connector_key
                and 0 <= r["ts_ms"] - bucket_ms < WINDOW_MS
                and r[f"{name}_mwh"] != NULL_I64
                and not r["flags"] & unusable
            )
            (first_ts, first), (last_ts, last) = (usable[0], usable[-1]) if usable else [(NULL_I64, NULL_I64)] * 2
            ends |= {f"{name}_first_ts_ms": first_ts, f"{name}_first_mwh": first,
                     f"{name}_last_ts_ms": last_ts, f"{name}_last_mwh": last}  # fmt: skip
            ends |= {"energy_n": len(usable)} if name == "energy" else {}
        return ends


class AsStoreQueries:
    """A MemoryStore as worker.compute.StepStore, whose queries a test can replace."""

    def __init__(self, store: MemoryStore) -> None:
        self.register_connectors = store.register_connectors
        self.identities = store.identities
        self.status_intervals = store.status_intervals
        self.registered = store.registered
        self.timelines = store.timelines
        self.tariffs_at = store.tariffs_at
        self.tariff_versions = store.tariff_versions
        self.rated_powers = store.rated_powers
        self.silences_after = store.silences_after
        self.bays = store.bays


FOUND_BY = ("connector_key", "ts_ms", "boot", "seq", "part", "payload_hash")


def _rows(columns: dict[str, Any]) -> list[Row]:
    lists = {name: column.tolist() for name, column in columns.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def merge(old: Row, added: Row) -> Row:
    """Two parts of one window, as the commit's upsert merges them."""
    out = dict(old)
    for name in WINDOW_COLUMNS:
        a, b = old[name], added[name]
        if name in ("readings", "flagged") or name.endswith(("_n", "_sum")):
            out[name] = a + b
        elif name == "first_ts_ms" or name.endswith("_min"):
            out[name] = min((v for v in (a, b) if v != NULL_I64), default=NULL_I64)
        elif name == "last_ts_ms" or name.endswith("_max"):
            out[name] = max(a, b)
    for name in ("energy", "energy_export"):
        for end, chosen in (("first", min), ("last", max)):
            ends = [(part[f"{name}_{end}_ts_ms"], part[f"{name}_{end}_mwh"]) for part in (old, added)]
            known = [one for one in ends if one[0] != NULL_I64]
            out[f"{name}_{end}_ts_ms"], out[f"{name}_{end}_mwh"] = chosen(known, default=(NULL_I64, NULL_I64))
    return out
