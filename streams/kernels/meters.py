"""What sessions have used of their tariffs: the running consumption, from which a cost is computed at any time."""

from dataclasses import dataclass, fields

import numpy as np

from streams.kernels.book import NONE
from streams.kernels.runs import FAR, I64


@dataclass(slots=True)
class Meters:
    """Consumption of sessions, one row a session. Volumes of the tariff's components: mWh, ms, or 1 for FLAT."""

    tariff: I64  # place in the book; NONE: the session has no tariff
    start_ms: I64  # first reading
    last_energy: I64  # the component last used; NONE
    last_time: I64  # likewise, of TIME and PARKING_TIME together
    flat: I64  # the FLAT component that is charged; NONE: none yet
    volume: I64  # (sessions, width)
    since_ms: I64  # (sessions, width) when it was first used; FAR: not yet

    @classmethod
    def fresh(cls, tariff: I64, start_ms: I64, width: int) -> "Meters":
        """Sessions that have used nothing."""
        rows = len(tariff)
        return cls(
            tariff,
            start_ms,
            last_energy=np.full(rows, NONE, np.int64),
            last_time=np.full(rows, NONE, np.int64),
            flat=np.full(rows, NONE, np.int64),
            volume=np.zeros((rows, width), np.int64),
            since_ms=np.full((rows, width), FAR, np.int64),
        )

    def where(self, chosen: I64) -> "Meters":
        """A copy of these rows."""
        return Meters(*(getattr(self, f.name)[chosen] for f in fields(self)))
