"""Effects and frames made by hand."""

from typing import Any

import numpy as np
import pyarrow as pa

from schemas.frame import FrameHeader, FrameKind, encode_frame
from schemas.reading import READING_SCHEMA, SILENT, Status
from streams.effects import (
    NULL_I32,
    NULL_I64,
    READING_COLUMNS,
    REVISED_COLUMNS,
    SESSION_COLUMNS,
    STATUS_COLUMNS,
    WINDOW_COLUMNS,
    Columns,
    Effects,
    RefusedItems,
    SourceProgress,
    StatusChanged,
    StatusEffects,
)
from streams.kernels.windows import QUANTITIES
from streams.storage.commit import Flush
from streams.storage.events import FlushContext
from streams.storage.store import Acquired

T0_MS = 1_790_000_000_000 // 60_000 * 60_000
NO_KEYS = np.empty(0, np.int64)


def columns(kinds: dict[str, Any], rows: int) -> Columns:
    """The least value of each, which is null where a column can be."""
    return {name: np.full(rows, np.iinfo(dtype).min, dtype) for name, dtype in kinds.items()}


def plain(column: Any) -> list[int | None]:
    """The values of a column, None for its least."""
    least = np.iinfo(column.dtype).min
    return [None if value == least else value for value in column.tolist()]


def random_readings(rng: np.random.Generator, keys: list[int], rows: int, span_ms: int = 300_000) -> Columns:
    """Readings of these connectors, from T0_MS on, with nulls."""
    out = columns(READING_COLUMNS, rows)
    out["connector_key"] = np.sort(rng.choice(keys, rows)).astype(np.int32)
    out["ts_ms"] = T0_MS + rng.integers(0, span_ms, rows)
    out["boot"] = rng.choice([NULL_I64, 1, 2], rows)
    out["seq"] = rng.permutation(rows).astype(np.int64)
    out["energy_mwh"] = np.where(rng.random(rows) < 0.3, NULL_I64, rng.integers(0, 10**9, rows))
    out["power_mw"] = np.where(rng.random(rows) < 0.3, NULL_I64, rng.integers(-(10**7), 10**7, rows))
    for name in ("temperature_mc", "soc_mpct"):
        values = np.where(rng.random(rows) < 0.5, NULL_I32, rng.integers(0, 100_000, rows))
        out[name] = values.astype(np.int32)
    for name in ("status", "session_event", "flags", "payload_hash"):
        out[name] = rng.integers(0, 9, rows).astype(READING_COLUMNS[name])
    for name in ("in_session_mwh", "outside_mwh", "rejected_mwh"):
        out[name] = np.where(rng.random(rows) < 0.7, NULL_I64, rng.integers(-(10**6), 10**6, rows))
    out["energy_export_mwh"] = np.where(rng.random(rows) < 0.8, NULL_I64, rng.integers(0, 10**6, rows))
    out["part"] = rng.integers(0, 3, rows).astype(np.int16)
    out["named"] = rng.integers(0, 2, rows).astype(np.int16)
    return out


def windows_of(readings: Columns) -> Columns:
    """The windows of these readings, in plain Python."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (key, ts_ms) in enumerate(zip(readings["connector_key"], readings["ts_ms"], strict=True)):
        groups.setdefault((int(key), int(ts_ms) // 60_000 * 60_000), []).append(row)
    out = columns(WINDOW_COLUMNS, len(groups))
    for at, ((key, bucket_ms), rows) in enumerate(sorted(groups.items())):
        ts_ms = [int(readings["ts_ms"][row]) for row in rows]
        energy, exported = (
            sorted((t, int(v)) for t, v in zip(ts_ms, readings[f"{name}_mwh"][rows], strict=True) if v != NULL_I64)
            for name in ("energy", "energy_export")
        )
        values = {"connector_key": key, "bucket_ms": bucket_ms, "readings": len(rows), "first_ts_ms": min(ts_ms),
                  "last_ts_ms": max(ts_ms), "flagged": int((readings["flags"][rows] != 0).sum()),
                  "energy_n": len(energy)}  # fmt: skip
        for name in QUANTITIES:
            found = [value for value in plain(readings[name][rows]) if value is not None]
            values |= {f"{name}_n": len(found), f"{name}_sum": sum(found)}
            values |= {f"{name}_min": min(found), f"{name}_max": max(found)} if found else {}
        for name in ("in_session_mwh", "outside_mwh", "rejected_mwh"):
            values[f"{name}_sum"] = sum(int(v) for v in readings[name][rows] if v != NULL_I64)
        for name, registers in (("energy", energy), ("energy_export", exported)):
            if registers:
                values |= {f"{name}_first_ts_ms": registers[0][0], f"{name}_first_mwh": registers[0][1],
                           f"{name}_last_ts_ms": registers[-1][0], f"{name}_last_mwh": registers[-1][1]}  # fmt: skip
        for name, value in values.items():
            out[name][at] = value
    return out


def sessions(keys: list[int], connector_key: int, **changes: int) -> Columns:
    out = columns(SESSION_COLUMNS, len(keys))
    plain = {"started_ms": T0_MS, "last_ms": T0_MS + 60_000, "end_reason": 0, "energy_uj": 7_200_000_000,
             "integrated_uj": 0, "readings": 3, "flagged": 0, "hold": 0, "void": 0, "export_mwh": 0, "explicit": 0,
             "power_max_mw": 500_000_000, "revision": 0} | changes  # fmt: skip
    for name, value in plain.items():
        out[name][:] = value
    out["session_key"][:] = keys
    out["connector_key"][:] = connector_key
    return out


def statuses(keys: list[int], number: int = 1) -> StatusEffects:
    """One interval of each of these connectors, and two stations' silences."""
    rows = len(keys)
    given = {"connector_key": keys, "since_ms": T0_MS + number, "place": 0, "status": Status.FAULTED}
    return StatusEffects(
        intervals={name: np.full(rows, given[name], dtype) for name, dtype in STATUS_COLUMNS.items()},
        error_codes=["GroundFailure"] * rows,
        vendor_error_codes=[None] * rows,
        silences_begun=[("A", T0_MS + number)],
        silences_ended=[("A", T0_MS + number)],
        changes=[StatusChanged("A", 1, SILENT, Status.FAULTED, None, T0_MS + number)],
    )


def effects_of(readings: Columns, **changes: Any) -> Effects:
    rows = len(readings["ts_ms"])
    values: dict[str, Any] = {
        "readings": readings,
        "windows": windows_of(readings),
        "sessions": columns(SESSION_COLUMNS, 0),
        "session_ids": [],
        "started": NO_KEYS,
        "completed": NO_KEYS,
        "extra": None,
        "revised": columns(REVISED_COLUMNS, 0),
        "revised_extra": [],
        "remeasured": {"connector_key": NO_KEYS, "bucket_ms": NO_KEYS},
        "emit": {"connector_key": NO_KEYS.astype(np.int32), "bucket_ms": NO_KEYS},
        "refused": RefusedItems(),
        "sources": [SourceProgress("source", rows, rows)],
        "stored": rows,
        "duplicate": 0,
        "quarantined": 0,
        "touched": NO_KEYS,
    }
    return Effects(**(values | changes))


def flush_of(acquired: Acquired, effects: Effects, *, number: int = 1, frames: int = 1) -> Flush:
    """The `number`th flush after acquiring, each of `frames` frames."""
    start = acquired.next + (number - 1) * frames
    return Flush(
        partition=acquired.partition, epoch=acquired.epoch, commit=acquired.commits + number, start=start,
        end=start + frames, effects=effects, body=b"body %d" % number, base=number == 1,
        context=FlushContext(T0_MS, ""),
    )  # fmt: skip


def frame_of(partition: int, number: int, rows: list[dict[str, Any]], source: str = "0123456789abcdef") -> bytes:
    """A frame of readings; every frame of its source has as many rows."""
    plain = dict.fromkeys(READING_SCHEMA.names) | {"connector_id": 1, "status": 0, "session_event": 0}
    batch = pa.RecordBatch.from_pylist([plain | row for row in rows], READING_SCHEMA)
    header = FrameHeader(
        kind=int(FrameKind.READINGS), partition=partition, source=source, number=number, items=len(rows),
        items_total=(number + 1) * len(rows), received_ms=max(row["ts_ms"] for row in rows) + 5,
        traceparent=f"00-{number + 1:032x}-{number + 1:016x}-01",
    )  # fmt: skip
    return encode_frame(header, batch)


def charging(station: str, number: int, rows: int = 10) -> list[dict[str, Any]]:
    """The `number`th frame's readings of a station: one a second, the register rising by 1 Wh with each."""
    first = number * rows
    return [
        {"station_id": station, "seq": n, "ts_ms": T0_MS + n * 1_000, "energy_mwh": n * 1_000, "power_mw": 3_600_000,
         "session_id": "tx", "status": 3}
        for n in range(first, first + rows)
    ]  # fmt: skip
