"""A store in memory: answers the step's queries and applies its effects, as the database does."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.effects import NULL_I64, READING_COLUMNS, WINDOW_COLUMNS, ComponentVolume, Effects
from streams.engine.store_queries import RecalledSession, StoredIdentity
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
        self.refused: list[tuple[str, bytes]] = []
        self.started: list[int] = []
        self.completed: list[int] = []
        self.emitted: set[tuple[int, int]] = set()
        self.counts = {"stored": 0, "duplicate": 0, "quarantined": 0}

    # -- StepStore -----------------------------------------------------------------------------------------------------

    def register_connectors(self, partition: int, connectors: list[tuple[str, int]]) -> list[int]:
        return [self.keys.setdefault(connector, len(self.keys) + 1) for connector in connectors]

    def identities(
        self, connector_key: NDArray[Any], boot: NDArray[Any], seq: NDArray[Any], ts_ms: NDArray[Any]
    ) -> StoredIdentity:
        asked = {
            (key, b, s, None if b != NULL_I64 and s != NULL_I64 else t)
            for key, b, s, t in zip(connector_key.tolist(), boot.tolist(), seq.tolist(), ts_ms.tolist(), strict=True)
        }
        found = [
            r
            for r in self.readings
            if (r["connector_key"], r["boot"], r["seq"], r["ts_ms"]) in asked
            or (r["connector_key"], r["boot"], r["seq"], None) in asked
            or (r["seq"] == NULL_I64 and (r["connector_key"], NULL_I64, NULL_I64, r["ts_ms"]) in asked)
        ]
        return StoredIdentity(
            np.array([r["connector_key"] for r in found], np.int32),
            np.array([r["boot"] for r in found], np.int64),
            np.array([r["seq"] for r in found], np.int64),
            np.array([r["ts_ms"] for r in found], np.int64),
            np.array([r["payload_hash"] for r in found], np.int32),
        )

    def sessions_of(self, connector_key: int, session_id: str) -> RecalledSession | None:
        named = [
            row
            for key, row in self.sessions.items()
            if row["connector_key"] == connector_key and self.session_ids[key] == session_id
        ]
        if not named:
            return None
        row = max(named, key=lambda r: r["started_ms"])
        return RecalledSession(*(row[name] for name in RecalledSession._fields))

    def tariffs_at(self, stations: list[str], moments_ms: list[int]) -> list[int]:
        found = []
        for station, moment_ms in zip(stations, moments_ms, strict=True):
            in_force = [version.key for since_ms, version in self.tariffs.get(station, []) if since_ms <= moment_ms]
            found.append(in_force[-1] if in_force else 0)
        return found

    def tariff_versions(self, keys: list[int]) -> list[TariffVersion]:
        return [version for versions in self.tariffs.values() for _, version in versions if version.key in keys]

    def session_tariffs(self, session_keys: list[int]) -> dict[int, int]:
        rows = {key: self.sessions[key]["tariff_key"] for key in session_keys if key in self.sessions}
        return {key: 0 if tariff == NULL_I64 else tariff for key, tariff in rows.items()}

    def session_readings(self, session_key: list[int]) -> dict[str, NDArray[Any]]:
        wanted = set(session_key)
        found = [r for r in self.readings if r["session_key"] in wanted]
        return {name: np.array([r[name] for r in found], dtype) for name, dtype in READING_COLUMNS.items()}

    # -- Effects ----------------------------------------------------------------------------------------------------

    def apply(self, effects: Effects) -> None:
        self.readings += _rows(effects.readings)
        for added in _rows(effects.windows):
            place = added["connector_key"], added["bucket_ms"]
            self.windows[place] = merge(self.windows[place], added) if place in self.windows else added
        for row, name in zip(_rows(effects.sessions), effects.session_ids, strict=True):
            key = row["session_key"]
            self.sessions[key] = row
            self.session_ids[key] = name or self.session_ids.get(key)
        self.consumption |= effects.consumption
        self.refused += zip(effects.refused.reason, effects.refused.raw, strict=True)
        self.started += effects.started.tolist()
        self.completed += effects.completed.tolist()
        self.emitted |= {(row["connector_key"], row["bucket_ms"]) for row in _rows(effects.emit)}
        for name in self.counts:
            self.counts[name] += getattr(effects, name)


class AsStoreQueries:
    """A MemoryStore as worker.compute.StepStore (its own `sessions` is the table)."""

    def __init__(self, store: MemoryStore) -> None:
        self.register_connectors = store.register_connectors
        self.identities = store.identities
        self.session_readings = store.session_readings
        self.tariffs_at = store.tariffs_at
        self.tariff_versions = store.tariff_versions
        self.session_tariffs = store.session_tariffs
        self._store = store

    def sessions(self, connector_key: list[int], session_id: list[str]) -> list[RecalledSession | None]:
        return [self._store.sessions_of(*asked) for asked in zip(connector_key, session_id, strict=True)]


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
    registers: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for part in (old, added):
        if part["energy_n"]:
            registers["first"].append((part["energy_first_ts_ms"], part["energy_first_mwh"]))
            registers["last"].append((part["energy_last_ts_ms"], part["energy_last_mwh"]))
    if registers:
        out["energy_first_ts_ms"], out["energy_first_mwh"] = min(registers["first"])
        out["energy_last_ts_ms"], out["energy_last_mwh"] = max(registers["last"])
    return out
