"""One-minute windows: what a batch adds per connector and minute. Every part merges, so the order is free.

Windows are [start, start + 60 s) of event time. Null (NULL) values take no part; a quantity without a value has n = 0,
sum = 0 and NULL extremes. Registers known to be unusable take no part in first and last; the register of exported
energy, which few readings have, stands in a column only where some of the readings have it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.energy import ENERGY_SHARES
from streams.kernels.runs import I64, MAX_I64, NULL, arrival_order, runs_of

WINDOW_MS: Final = 60_000
QUANTITIES: Final = ("power_mw", "voltage_mv", "current_ma", "temperature_mc", "soc_mpct")
SUMS: Final = tuple(ENERGY_SHARES)  # energy by whose it is
_ENDS: Final = ("energy_first_ts_ms", "energy_first_mwh", "energy_last_ts_ms", "energy_last_mwh")
# Likewise of exported energy; NULL where no reading has that register.
EXPORT_COLUMNS: Final = tuple(name.replace("energy", "energy_export") for name in _ENDS)


@dataclass(slots=True)
class WindowSamples:
    """Readings, sorted by slot. Values int64, NULL where the device sent nothing."""

    slot: I64
    ts_ms: I64
    weight: I64  # 1: a reading; 0: only a change of what one is flagged with and accounts for
    flagged: I64  # 1: flagged; of a change -1 to 1
    register_mwh: I64  # NULL also where it is unusable
    quantities: dict[str, I64]
    sums: dict[str, I64]  # SUMS, 0 for nothing
    export_mwh: I64 | None = None  # register of exported energy; None: no reading has one


def sorted_by_slot(parts: Sequence[WindowSamples]) -> WindowSamples:
    """All rows of these, sorted by slot."""
    slot = np.concatenate([part.slot for part in parts])
    order = arrival_order(slot)

    def together(columns: Iterable[I64]) -> I64:
        joined: I64 = np.concatenate(list(columns))[order]
        return joined

    return WindowSamples(
        slot=slot[order],
        ts_ms=together(part.ts_ms for part in parts),
        weight=together(part.weight for part in parts),
        flagged=together(part.flagged for part in parts),
        register_mwh=together(part.register_mwh for part in parts),
        quantities={name: together(part.quantities[name] for part in parts) for name in QUANTITIES},
        sums={name: together(part.sums[name] for part in parts) for name in SUMS},
        export_mwh=None
        if all(part.export_mwh is None for part in parts)
        else together(np.full(len(p.slot), NULL) if p.export_mwh is None else p.export_mwh for p in parts),
    )


def aggregate(rows: WindowSamples) -> dict[str, I64]:
    """Columns by window, ascending (slot, bucket_ms): those of effects.WINDOW_COLUMNS, `slot` for `connector_key`."""
    bucket = rows.ts_ms // WINDOW_MS
    order = _order(rows.slot, bucket)
    slot, bucket, ts_ms = rows.slot, bucket, rows.ts_ms
    if order is not None:
        slot, bucket, ts_ms = slot[order], bucket[order], ts_ms[order]
    groups = runs_of((slot << 32) | bucket)
    start = groups.start

    def arranged(column: I64) -> I64:
        return column if order is None else column[order]

    out = {
        "slot": slot[start],
        "bucket_ms": bucket[start] * WINDOW_MS,
        "readings": groups.length if rows.weight.all() else _reduce(np.add, arranged(rows.weight), start),
        "flagged": _reduce(np.add, arranged(rows.flagged), start),
        "first_ts_ms": _reduce(np.minimum, ts_ms, start),
        "last_ts_ms": _reduce(np.maximum, ts_ms, start),
    }
    for name in QUANTITIES:
        out |= _summary(name, arranged(rows.quantities[name]), groups.length, start)
    for name in SUMS:
        some = rows.sums[name].any()
        out[f"{name}_sum"] = (
            _reduce(np.add, arranged(rows.sums[name]), start) if some else np.zeros(len(start), np.int64)
        )
    out |= _registers(arranged(rows.register_mwh), ts_ms, groups.of_row, start)
    if rows.export_mwh is None:
        return out | dict.fromkeys(EXPORT_COLUMNS, np.full(len(start), NULL, np.int64))
    exports = _registers(arranged(rows.export_mwh), ts_ms, groups.of_row, start)
    return out | {export: exports[name] for name, export in zip(_ENDS, EXPORT_COLUMNS, strict=True)}


def _order(slot: I64, bucket: I64) -> I64 | None:
    """Row order by (slot, bucket), or None where the rows are in it already, as they are when nothing is late."""
    if len(slot) < 2:
        return None
    key = (slot << 32) | bucket
    if (key[1:] >= key[:-1]).all():
        return None
    by_bucket = arrival_order(bucket - bucket.min())
    by_slot: I64 = by_bucket[arrival_order(slot[by_bucket])]
    return by_slot


def _reduce(how: np.ufunc, column: I64, start: I64) -> I64:
    reduced: I64 = how.reduceat(column, start) if len(start) else np.empty(0, np.int64)
    return reduced


def _summary(name: str, values: I64, length: I64, start: I64) -> dict[str, I64]:
    present = values != NULL
    if present.all():
        return {
            f"{name}_n": length,
            f"{name}_sum": _reduce(np.add, values, start),
            f"{name}_min": _reduce(np.minimum, values, start),
            f"{name}_max": _reduce(np.maximum, values, start),
        }
    if not present.any():
        nothing = np.zeros(len(start), np.int64)
        nulls = np.full(len(start), NULL, np.int64)
        return {f"{name}_n": nothing, f"{name}_sum": nothing, f"{name}_min": nulls, f"{name}_max": nulls}
    count = _reduce(np.add, present.astype(np.int64), start)
    lowest = _reduce(np.minimum, np.where(present, values, MAX_I64), start)
    return {
        f"{name}_n": count,
        f"{name}_sum": _reduce(np.add, np.where(present, values, 0), start),
        f"{name}_min": np.where(count > 0, lowest, NULL),
        f"{name}_max": _reduce(np.maximum, values, start),  # NULL is the smallest int64
    }


def _registers(register: I64, ts_ms: I64, group: I64, start: I64) -> dict[str, I64]:
    """First and last usable register by event time; of equal times the smaller is first and the larger is last."""
    present = register != NULL
    count = _reduce(np.add, present.astype(np.int64), start)
    none = count == 0
    first_ts = _reduce(np.minimum, np.where(present, ts_ms, MAX_I64), start)
    last_ts = _reduce(np.maximum, np.where(present, ts_ms, NULL), start)
    at_first = present & (ts_ms == first_ts[group])
    at_last = present & (ts_ms == last_ts[group])
    first = _reduce(np.minimum, np.where(at_first, register, MAX_I64), start)
    return {
        "energy_n": count,
        "energy_first_ts_ms": np.where(none, NULL, first_ts),
        "energy_first_mwh": np.where(none, NULL, first),
        "energy_last_ts_ms": np.where(none, NULL, last_ts),
        "energy_last_mwh": _reduce(np.maximum, np.where(at_last, register, NULL), start),
    }
