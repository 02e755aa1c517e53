"""The columns of a partition's state: their names, types, and what a new slot starts with."""

from dataclasses import fields
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.dedupe import TS_WINDOW
from streams.kernels.energy import SessionEnergy
from streams.kernels.runs import I64, NULL
from streams.kernels.sessions import CLOSED_KEPT
from streams.kernels.tariff_table import NONE
from streams.kernels.usage_intervals import CHARGING

# Columns with one value a slot and what a new slot starts with. Together with the windows: 700 bytes a slot.
LIVE_QUANTITIES: Final = ("energy_mwh", "power_mw", "voltage_mv", "current_ma", "temperature_mc", "soc_mpct")
LANE_FIELDS: Final = tuple(f.name for f in fields(SessionEnergy))
_LANES_FROM_0: Final = ("counted_mwh", "head_uj", "tail_uj", "readings", "dirty")
SCALARS: Final[dict[str, int]] = {
    "connector_key": 0,
    **dict.fromkeys(("boot", "boot_max", "boot_ts_ms", "ts_max_ms", "bare_ts_max_ms"), NULL),
    "seq_max": -1,
    **dict.fromkeys(
        ("open_key", "open_name", "open_start_ms", "open_last_ms", "open_revision", "open_occupied", "open_flagged"), 0
    ),
    "arrival_ms": 0,
    "live_ts_ms": NULL,
    "live_status": 0,
    "live_flags": 0,
    **dict.fromkeys((f"live_{name}" for name in LIVE_QUANTITIES), NULL),
    **{name: 0 if name in _LANES_FROM_0 else NULL for name in LANE_FIELDS},
    "open_tariff": 0,  # pricing's version, pinned as the session opened; 0: none
    "held_ma": NULL,
    "held_kind": CHARGING,
    **dict.fromkeys(("last_energy", "last_time", "flat"), NONE),
    "metered_from_ms": 0,
    "told_ms": 0,  # when, by arrival
    "told_micros": 0,  # incl. VAT, as told last
}
_MAPPED_BYTES_MIN: Final = 64 << 10  # below that, pages are not worth it
CLOSED: Final = tuple(
    f"closed_{name}" for name in ("key", "name", "start_ms", "last_ms", "end_ms", "reason", "revision")
)
WIDE: Final[dict[str, int]] = {  # column -> values a slot, which start at 0
    **dict.fromkeys(CLOSED, CLOSED_KEPT),
    "ts_window_ms": TS_WINDOW,
    "ts_window_hash": TS_WINDOW,
}
COLUMNS: Final = (*SCALARS, *WIDE)
# int64 but for these.
NARROW: Final[dict[str, type[np.integer[Any]]]] = {
    **dict.fromkeys(("connector_key", "open_revision", "open_flagged", "closed_revision", "readings"), np.int32),
    "live_flags": np.int16,
    **dict.fromkeys(("open_occupied", "live_status", "closed_reason", "dirty", "held_kind"), np.int8),
    **dict.fromkeys(("last_energy", "last_time", "flat"), np.int16),
    **dict.fromkeys(("window", "ts_window_hash"), np.uint32),
}


def zeros(shape: int | tuple[int, int], dtype: type[np.generic]) -> NDArray[Any]:
    """As np.zeros, and where nothing is written it takes no memory, which a busy process's malloc does not promise."""
    octets = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if octets < _MAPPED_BYTES_MIN:
        return np.zeros(shape, dtype)
    return np.frombuffer(mmap(-1, octets, flags=MAP_PRIVATE | MAP_ANONYMOUS), dtype).reshape(shape)


def copy_used(column: NDArray[Any], at: I64 | slice | tuple[slice, slice], values: NDArray[Any]) -> None:
    """Write rows of a column. Where all of it is 0 before and after it is not touched: then it takes no memory yet."""
    if values.any() or column.any():
        column[at] = values
