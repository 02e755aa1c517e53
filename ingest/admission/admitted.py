"""What admission answers: rows that may pass, and the items that may not, each with its reason and raw form."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.admission.wire import Fault, WireReading
from schemas.reading import RAW_ITEM_BYTES_MAX

STATION_FORBIDDEN: Final = "station_forbidden"


class Refused(NamedTuple):
    """An item that is kept in quarantine and never becomes a reading."""

    place: int  # in the request, from 0
    reason: str
    detail: str
    raw: bytes  # as it came, cut at RAW_ITEM_BYTES_MAX
    station_id: str | None  # upper case, where one could be read


@dataclass(frozen=True, slots=True)
class Rules:
    """What one request's readings are held against."""

    now_ms: int  # Unix epoch
    age_ms_max: int
    future_ms_max: int
    readings_max: int
    stations: frozenset[str] | None = None  # upper case; None: all

    @property
    def oldest_ms(self) -> int:
        """The earliest event time taken."""
        return self.now_ms - self.age_ms_max

    @property
    def newest_ms(self) -> int:
        """The latest event time taken."""
        return self.now_ms + self.future_ms_max

    def binding_fault(self, station_id: str) -> Fault | None:
        """A token speaks only for its own stations."""
        if self.stations is None or station_id.upper() in self.stations:
            return None
        return Fault(
            STATION_FORBIDDEN, f"this token is not bound to station {station_id}; use the token of that station"
        )


class Structs(NamedTuple):
    """Good readings that are not columns yet: columns cost least when many requests share them."""

    readings: list[WireReading]
    ts_ms: NDArray[np.int64]  # beside them, Unix epoch


@dataclass(frozen=True, slots=True)
class Admitted:
    """One request's items: `len(rows) + len(refused)` of them, good ones in their order."""

    rows: Structs | pa.RecordBatch  # the record batch has READING_SCHEMA
    refused: list[Refused] = field(default_factory=list)
    single: bool = False  # the body was one JSON object, not a list; only said where it is refused

    @property
    def accepted(self) -> int:
        """How many readings passed."""
        return self.rows.num_rows if isinstance(self.rows, pa.RecordBatch) else len(self.rows.readings)


def refuse(place: int, fault: Fault, raw: bytes, station_id: str | None) -> Refused:
    """Keep of an item what quarantine keeps; its words are printable (they go to a database and to terminals)."""
    detail = fault.detail if fault.detail.isprintable() else ascii(fault.detail)[1:-1]
    return Refused(place, fault.reason, detail, bytes(raw[:RAW_ITEM_BYTES_MAX]), station_id)
