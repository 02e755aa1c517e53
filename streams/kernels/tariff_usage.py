"""What sessions have used of their tariffs: the running consumption, from which a cost is computed at any time."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from streams.kernels.runs import I64, MAX_I64
from streams.kernels.tariff_table import NONE


@dataclass(slots=True)
class TariffUsage:
    """Consumption of sessions, one row per session. Volumes of the tariff's components: mWh, ms, or 1 for FLAT."""

    tariff: I64  # row of TariffTable; NONE: the session has no tariff
    start_ms: I64  # first reading
    last_energy: I64  # the component last used; NONE
    last_time: I64  # likewise, of TIME and PARKING_TIME together
    flat: I64  # the FLAT component that is charged; NONE: none yet
    volume: I64  # (sessions, width)
    since_ms: I64  # (sessions, width) when it was first used; MAX_I64: not yet

    @classmethod
    def fresh(cls, tariff: I64, start_ms: I64, width: int) -> "TariffUsage":
        """Sessions that have used nothing."""
        rows = len(tariff)
        return cls(
            tariff,
            start_ms,
            last_energy=np.full(rows, NONE, np.int64),
            last_time=np.full(rows, NONE, np.int64),
            flat=np.full(rows, NONE, np.int64),
            volume=np.zeros((rows, width), np.int64),
            since_ms=np.full((rows, width), MAX_I64, np.int64),
        )

    def at(self, rows: I64) -> "TariffUsage":
        """A copy of these rows."""
        return TariffUsage(*(getattr(self, f.name)[rows] for f in fields(self)))

    def block(self, rows: slice) -> "TariffUsage":
        """A view of these rows."""
        return TariffUsage(*(getattr(self, f.name)[rows] for f in fields(self)))

    def copy(self) -> "TariffUsage":
        """A copy of all rows."""
        return TariffUsage(*(getattr(self, f.name).copy() for f in fields(self)))

    def put(self, rows: I64, other: "TariffUsage") -> None:
        """Overwrite these rows with all rows of `other`, in order. `other` is not wider."""
        width = other.volume.shape[1]
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            if mine.ndim == 1:
                mine[rows] = theirs
            else:
                mine[rows, :width] = theirs

    @classmethod
    def concatenate(cls, parts: Sequence["TariffUsage"]) -> "TariffUsage":
        """All rows of these, one after the other."""
        width = max(part.volume.shape[1] for part in parts)
        wide = [part if part.volume.shape[1] == width else part.widened(width) for part in parts]
        return cls(*(np.concatenate([getattr(part, f.name) for part in wide]) for f in fields(cls)))

    def widened(self, width: int) -> "TariffUsage":
        """The same with room for tariffs of so many components."""
        wide = TariffUsage.fresh(self.tariff, self.start_ms, width)
        wide.put(np.arange(len(self.tariff)), self)
        return wide
