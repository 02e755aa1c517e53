"""Results of admission: the accepted rows, the refused items with their reason and raw bytes; and its rules."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.admission.event_time import event_time_fault
from ingest.admission.items import Remarks
from ingest.admission.wire import Fault, WireReading, text_fault
from ingest.errors import TooLarge
from schemas.reading import RAW_ITEM_BYTES_MAX

STATION_FORBIDDEN: Final = "station_forbidden"


class RefusedItem(NamedTuple):
    """An item that is kept in quarantine and does not become a reading."""

    position: int  # in the request, from 0
    reason: str
    detail: str
    raw: bytes  # as received, cut at RAW_ITEM_BYTES_MAX
    station_id: str | None  # upper case; None if it could not be read


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """Bounds that the readings of one request are checked against."""

    now_ms: int  # Unix epoch
    age_ms_max: int
    future_ms_max: int
    readings_max: int
    stations: frozenset[str] | None = None  # upper case; None: all
    strict: bool = (
        False  # refuse items with unknown fields or values that cannot be; else only those fields are dropped
    )

    @property
    def oldest_ms(self) -> int:
        """The earliest event time accepted."""
        return self.now_ms - self.age_ms_max

    @property
    def newest_ms(self) -> int:
        """The latest event time accepted."""
        return self.now_ms + self.future_ms_max

    def check_count(self, count: int) -> None:
        """Raises TooLarge if a request has more readings than allowed."""
        if count > self.readings_max:
            raise TooLarge(f"a request carries at most {self.readings_max} readings; send them in smaller batches")

    def binding_fault(self, station_id: str) -> Fault | None:
        """The fault of a reading whose station the token is not bound to."""
        if self.stations is None or station_id.upper() in self.stations:
            return None
        return Fault(
            STATION_FORBIDDEN, f"this token is not bound to station {station_id}; use the token of that station"
        )


class DecodedReadings(NamedTuple):
    """Accepted readings as structs: conversion to columns is cheapest for many requests together."""

    readings: list[WireReading]
    ts_ms: NDArray[np.int64]  # of each, Unix epoch
    detailed: bool = False  # some are DetailedReadings


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request's items, `accepted + len(refused)` in number; rows keep the order of the request."""

    rows: DecodedReadings | pa.RecordBatch  # PLAIN_READING_SCHEMA or READING_SCHEMA
    refused: list[RefusedItem] = field(default_factory=list)
    single: bool = False  # the body was one JSON object, not a list; set only if it is refused
    remarks: Remarks | None = None  # on accepted items; None: there are none

    @property
    def accepted(self) -> int:
        """Number of accepted readings."""
        return self.rows.num_rows if isinstance(self.rows, pa.RecordBatch) else len(self.rows.readings)


def refuse(position: int, fault: Fault, raw: bytes, station_id: str | None) -> RefusedItem:
    """The item as quarantine stores it; its detail is made printable, for databases and terminals."""
    detail = fault.detail if fault.detail.isprintable() else ascii(fault.detail)[1:-1]
    return RefusedItem(position, fault.reason, detail, bytes(raw[:RAW_ITEM_BYTES_MAX]), station_id)


def station_id_of(value: object) -> str | None:
    """The item's station id in upper case; None if it is not a valid one."""
    return value.upper() if isinstance(value, str) and text_fault("station_id", value) is None else None


def reading_fault(reading: WireReading, ts_ms: int, rules: AdmissionRules) -> Fault | None:
    """The fault of a reading's station or event time, which `ts_ms` is as Unix epoch milliseconds."""
    return (
        text_fault("station_id", reading.station_id)
        or event_time_fault(reading.ts, ts_ms, rules.oldest_ms, rules.newest_ms)
        or rules.binding_fault(reading.station_id)
    )
