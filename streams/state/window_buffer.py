"""Readings that are stored and not yet in their windows' rows.

Under load a flush brings most connectors one reading. A row of telemetry.window_1m merged for it costs the database
more than all else about it, so what several flushes add to a window is merged together (docs/adr/0008). The buffer is
part of the state, and so as durable as the readings.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.effects import NULL_I32, READING_COLUMNS, Columns
from streams.kernels.runs import I64, NULL, arrival_order
from streams.kernels.windows import QUANTITIES, SUMS, WindowSamples

BUFFER_COLUMNS: Final = {
    "slot": np.int32,
    "ts_ms": np.int64,
    "weight": np.int8,
    "flagged": np.int8,
    "register_mwh": np.int64,  # null also where it is unusable
    **{name: READING_COLUMNS[name] for name in QUANTITIES},
    **dict.fromkeys(SUMS, np.int64),
}
_EXPORT: Final = "export_mwh"  # int64; a part has it only if one of its readings has


class WindowBuffer:
    """BUFFER_COLUMNS, 70 B a reading, in parts as they came; and what of them the next patch of the state holds."""

    def __init__(self) -> None:
        self.rows = 0
        self._parts: list[Columns] = []
        self._saved_parts = 0  # so many of them are in earlier patches
        self._emptied = False  # since the last patch

    def add(self, rows: WindowSamples) -> None:
        """Buffer these too."""
        if len(rows.slot):
            own = {name: getattr(rows, name) for name in ("slot", "ts_ms", "weight", "flagged", "register_mwh")}
            part = {name: _narrow(column, name) for name, column in (own | rows.quantities | rows.sums).items()}
            self._put(part if rows.export_mwh is None else part | {_EXPORT: rows.export_mwh})

    def take(self, rows: WindowSamples) -> WindowSamples:
        """Empty the buffer: all that was in it, and these, which were not, sorted by slot."""
        if not self._parts:
            return rows
        self.add(rows)
        columns = self.columns()
        self._clear()
        order = arrival_order(columns["slot"].astype(np.int64))
        wide = {name: _wide(column[order]) for name, column in columns.items()}
        quantities = {name: wide[name] for name in QUANTITIES}
        own = {name: wide[name] for name in ("slot", "ts_ms", "weight", "flagged", "register_mwh")}
        sums = {name: wide[name] for name in SUMS}
        return WindowSamples(**own, quantities=quantities, sums=sums, export_mwh=wide.get(_EXPORT))

    def columns(self, first: int = 0) -> Columns:
        """Everything, or the parts from the `first` on."""
        parts = self._parts[first:]
        if len(parts) == 1:
            return dict(parts[0])
        columns: Columns = {
            name: np.concatenate([np.empty(0, dtype), *(part[name] for part in parts)])
            for name, dtype in BUFFER_COLUMNS.items()
        }
        if any(_EXPORT in part for part in parts):
            none = (np.full(len(part["slot"]), NULL) for part in parts)
            columns[_EXPORT] = np.concatenate([part.get(_EXPORT, n) for part, n in zip(parts, none, strict=True)])
        return columns

    def take_changes(self) -> tuple[bool, Columns]:
        """For a patch: whether the buffer was emptied since the last call, and what was added to it."""
        emptied, columns = self._emptied, self.columns(self._saved_parts)
        self._emptied, self._saved_parts = False, len(self._parts)
        return emptied, columns

    def apply_changes(self, emptied: bool, columns: Columns) -> None:
        """Make the changes that `take_changes` returned."""
        if emptied:
            self._clear()
        if len(columns["slot"]):
            self._put(columns)
        self._emptied, self._saved_parts = False, len(self._parts)

    def _put(self, part: Columns) -> None:
        self._parts.append(part)
        self.rows += len(part["slot"])

    def _clear(self) -> None:
        self._parts, self.rows, self._saved_parts, self._emptied = [], 0, 0, True


def _narrow(column: NDArray[np.generic], name: str) -> NDArray[np.generic]:
    dtype = BUFFER_COLUMNS[name]
    if dtype is np.int32 and name != "slot":
        column = np.where(column == NULL, NULL_I32, column)
    return column.astype(dtype)


def _wide(column: NDArray[np.generic]) -> I64:
    wide: I64 = column.astype(np.int64)
    return np.where(column == NULL_I32, NULL, wide) if column.dtype == np.int32 else wide
