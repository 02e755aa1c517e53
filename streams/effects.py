"""The effects of one step on the store, as columns.

Pure data: the contract between `streams.engine.step` and `streams.storage.commit`.

All arrays of one table have the same length. NULL_I64 and NULL_I32 stand for SQL null in nullable columns.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.kernels.windows import EXPORT_COLUMNS, QUANTITIES, SUMS
from streams.tariffs.version import TariffVersion

Columns = dict[str, NDArray[np.generic]]

NULL_I64: Final = np.iinfo(np.int64).min
NULL_I32: Final = np.iinfo(np.int32).min

# telemetry.reading, in COPY order, and `extra`. Nullable: session_key, boot, seq, quantities and what is accounted for.
READING_COLUMNS: Final = {
    "connector_key": np.int32,
    "session_key": np.int64,
    "ts_ms": np.int64,
    "boot": np.int64,
    "seq": np.int64,
    "energy_mwh": np.int64,
    "power_mw": np.int64,
    "voltage_mv": np.int32,
    "current_ma": np.int32,
    "temperature_mc": np.int32,
    "soc_mpct": np.int32,
    "status": np.int16,
    "session_event": np.int16,
    "flags": np.int16,
    "payload_hash": np.int32,
    "part": np.int16,
    "named": np.int16,  # 1: it gives the name of its session
    # What its register accounts for (docs/adr/0014).
    "in_session_mwh": np.int64,
    "outside_mwh": np.int64,
    "rejected_mwh": np.int64,
    "energy_export_mwh": np.int64,
}
# Columns that a repeated pass over a connector's timeline may change of stored readings, and by what these are found.
REVISED_COLUMNS: Final = {
    name: READING_COLUMNS[name]
    for name in ("connector_key", "ts_ms", "boot", "seq", "part", "payload_hash", "session_key", "flags", "named",
                 "in_session_mwh", "outside_mwh", "rejected_mwh")
}  # fmt: skip


# telemetry.window_1m: what this step adds to the row (connector_key, bucket_ms). Counts and sums add up, minima and
# maxima take the extreme; `energy_first` is the register at the smallest ts (of equal ones the smaller register),
# `energy_last` at the largest (of equal ones the larger); likewise `energy_export_first` and `_last`, the register of
# exported energy. A quantity no reading had: n = 0, sum = 0, rest null.
WINDOW_COLUMNS: Final = {
    "connector_key": np.int32,
    "bucket_ms": np.int64,
    "readings": np.int32,
    "flagged": np.int32,
    "first_ts_ms": np.int64,
    "last_ts_ms": np.int64,
    **{
        f"{quantity}_{part}": dtype
        for quantity in QUANTITIES
        for part, dtype in (("n", np.int32), ("sum", np.int64), ("min", np.int64), ("max", np.int64))
    },
    "energy_n": np.int32,
    "energy_first_ts_ms": np.int64,
    "energy_first_mwh": np.int64,
    "energy_last_ts_ms": np.int64,
    "energy_last_mwh": np.int64,
    **dict.fromkeys(EXPORT_COLUMNS, np.int64),
    **{f"{name}_sum": np.int64 for name in SUMS},
}

# What a session costs, in millionths of the tariff's currency; null without a tariff. `tariff_key` is pricing's
# version; the parts are excl. VAT, before min_price and max_price.
COST_COLUMNS: Final = (
    "tariff_key",
    "cost_excl_micros",
    "cost_incl_micros",
    "cost_energy_micros",
    "cost_time_micros",
    "cost_parking_micros",
    "cost_flat_micros",
)

# telemetry.session, by session_key: the whole row as it stands after the step (an upsert replaces it).
SESSION_COLUMNS: Final = {
    "session_key": np.int64,  # unique for ever: partition << 48 | counter of the partition
    "connector_key": np.int32,
    "started_ms": np.int64,  # event time of the first reading
    "last_ms": np.int64,  # event time of the newest reading
    "ended_ms": np.int64,  # null while open
    "end_reason": np.int16,  # EndReason; 0 while open
    "energy_uj": np.int64,  # microjoules: mW x ms, 1 mWh = 3.6e6; register part and integrated part together
    "integrated_uj": np.int64,  # the part of it that was integrated from power (estimated)
    "register_first_mwh": np.int64,  # null where no reading had a usable register
    "register_last_mwh": np.int64,
    "readings": np.int32,
    "flagged": np.int32,
    "hold": np.int16,  # HoldReason
    "void": np.int16,  # 1: below the operator's thresholds, nothing is owed
    "export_mwh": np.int64,  # vehicle to grid
    "power_max_mw": np.int64,  # what the connector can deliver, as registered when the session opened
    # The connector's last accepted register before the session and after it, and the first one of the session before.
    "register_before_mwh": np.int64,
    "register_before_ms": np.int64,
    "series_mwh": np.int64,
    "register_after_mwh": np.int64,
    "register_after_ms": np.int64,
    "explicit": np.int16,  # 1: begun by Started
    "revision": np.int32,  # 0 while never completed; +1 with every completion or change after it
    **dict.fromkeys(COST_COLUMNS, np.int64),
}


# telemetry.status_interval, by (connector_key, since_ms, place). Status 0: there is no such interval any more.
STATUS_COLUMNS: Final = {
    "connector_key": np.int32,
    "since_ms": np.int64,
    "place": np.int32,  # among the connector's intervals that begin at this moment
    "status": np.int16,
}


@dataclass(slots=True)
class RefusedItems:
    """Items for telemetry.quarantine: refused at the gateway, unreadable frames, and conflicts found here."""

    station_id: list[str | None] = field(default_factory=list)
    connector_id: list[int | None] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    detail: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    received_ms: list[int] = field(default_factory=list)


@dataclass(slots=True)
class SourceProgress:
    """What a source has sent and what of it has arrived (telemetry.ledger_source), absolute values."""

    source: str
    items_total: int
    items_received: int


class ComponentVolume(NamedTuple):
    """What a session used of one component of its tariff: see schemas.events.Consumption."""

    element: int
    dimension: str
    volume: int
    since_ms: int
    last: bool


@dataclass(frozen=True, slots=True)
class CostUpdate:
    """The changed cost of a running session: for session.cost_updated.v1."""

    session_key: int
    station_id: str
    connector_id: int
    session_id: str | None
    as_of_ms: int  # event time of the newest reading
    energy_uj: int
    tariff_key: int
    excl_vat_micros: int
    incl_vat_micros: int


class StationReadings(NamedTuple):
    """What a flush stored of a station."""

    station_id: str
    readings: int
    newest_ms: int


class StatusChanged(NamedTuple):
    """The newest interval of a connector, if it is another than before."""

    station_id: str
    connector_id: int
    status: int  # schemas.reading.Status, or SILENT
    previous: int  # likewise
    error_code: str | None
    since_ms: int


_NO_INTERVALS: Final[Columns] = {name: np.empty(0, dtype) for name, dtype in STATUS_COLUMNS.items()}


@dataclass(slots=True)
class StatusEffects:
    """What changes of connectors' status intervals, of silences, and what to publish of it."""

    intervals: Columns = field(default_factory=lambda: _NO_INTERVALS)
    error_codes: list[str | None] = field(default_factory=list)  # of the intervals
    vendor_error_codes: list[str | None] = field(default_factory=list)
    silences_begun: list[tuple[str, int]] = field(default_factory=list)  # stations, and when they were last heard
    silences_ended: list[tuple[str, int]] = field(default_factory=list)  # stations, and when
    changes: list[StatusChanged] = field(default_factory=list)  # one a connector

    @property
    def any_rows(self) -> bool:
        """Whether there is anything to commit."""
        return bool(len(self.intervals["status"]) or self.silences_begun or self.silences_ended)


class BayInterval(NamedTuple):
    """telemetry.bay_interval, by the first three. `occupied` None: there is no such interval any more."""

    connector_key: int  # of the station's connector 0
    bay: str
    since_ms: int
    occupied: bool | None


class BayChanged(NamedTuple):
    """The newest interval of a bay, if it is another than before."""

    station_id: str
    bay: str
    occupied: bool
    since_ms: int


@dataclass(slots=True)
class BayEffects:
    """What changes of the intervals in which bays are occupied or free, and what to publish of it."""

    intervals: list[BayInterval] = field(default_factory=list)
    changes: list[BayChanged] = field(default_factory=list)  # one a bay


@dataclass(slots=True)
class Effects:
    """Everything one flush changes, except the state."""

    readings: Columns
    windows: Columns
    sessions: Columns
    session_ids: list[str | None]  # the devices' names, one per row of `sessions`
    started: NDArray[np.int64]  # session_key: publish session.started.v1
    completed: NDArray[np.int64]  # session_key: publish session.completed.v1 (revision in `sessions`)
    extra: list[bytes] | None  # JSON of each reading, b"": none; None: no reading has any
    revised: Columns  # REVISED_COLUMNS: stored readings, as a repeated pass found them
    revised_extra: list[bytes]  # JSON of each, b"": none
    remeasured: Columns  # connector_key, bucket_ms: windows whose registers are to be read again from the readings
    emit: Columns  # connector_key, bucket_ms: windows to publish in telemetry.aggregated.v1
    refused: RefusedItems
    sources: list[SourceProgress]
    stored: int  # readings: counts of this flush, for the ledger
    duplicate: int
    quarantined: int  # len(refused), except for unreadable frames, which count their header's items
    touched: NDArray[np.int64]  # slots whose live document changed
    # Of completed sessions with a tariff, by session_key.
    consumption: dict[int, list[ComponentVolume]] = field(default_factory=dict)
    costs: list[CostUpdate] = field(default_factory=list)
    tariffs: dict[int, TariffVersion] = field(default_factory=dict)  # by key, of all in `sessions` and `costs`
    by_station: list[StationReadings] = field(default_factory=list)  # in order; empty unless StepParams.by_station
    status: StatusEffects = field(default_factory=StatusEffects)
    bays: BayEffects = field(default_factory=BayEffects)

    @property
    def any_rows(self) -> bool:
        """Whether a flush without frames has anything to commit."""
        rows = (
            self.sessions["session_key"],
            self.revised["ts_ms"],
            self.windows["connector_key"],
            self.emit["connector_key"],
        )
        return any(map(len, rows)) or bool(self.refused.reason) or self.status.any_rows


@dataclass(frozen=True, slots=True)
class StepParams:
    """What an operator may set about the step."""

    lateness_ms: int = 10_000  # a station's watermark runs this far behind its newest reading
    wall_cap_ms: int = 15_000  # a window of an idle station is emitted this long after its end by the wall clock
    session_timeout_ms: int = 7_200_000  # no reading for this long (by arrival): the session is closed, estimated
    skew_tolerance_ms: int = 60_000  # event time this far ahead of arrival is flagged CLOCK_SKEW
    power_max_mw: int = 500_000_000  # 500 kW: what a connector can deliver that is registered nowhere
    void_ms: int = 120_000  # a session that lasted less, and delivered at most void_mwh, is void
    void_mwh: int = 0
    oldest_ms: int = NULL_I64  # older readings are refused: the lake may have these
    quarantine_unclaimed: bool = False  # whether readings of stations that are not registered are set apart
    silent_after_ms: int = 900_000  # a station that is not heard for so long, by arrival, is silent; 0: none ever is
    by_station: bool = False  # whether the readings of each station are counted, for telemetry.received.v1
