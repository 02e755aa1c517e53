"""The tables of a quarter as 23 CFR 680.112(a) wants them: sessions, uptime of three months, outages. Pure.

What of the rule's data voltstream has, and what it does not, is a table of the report itself.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np

from api.reporting.tables import Column, ColumnType, Table, TableShape
from api.reporting.uptime.intervals import Bools
from api.reporting.uptime.loading import PortBatch, spans_of
from api.reporting.uptime.months import to_column_ms
from api.reporting.uptime.outages import outages_of
from api.reporting.uptime.success import (
    ENERGY_MIN_UJ,
    UJ_PER_WH,
    PortStatuses,
    faults_during,
    success_rate_mpct,
    successful,
)
from api.reporting.uptime.uptime_tables import PORT, STATION, milli_minutes
from schemas.session import END_REASON_NAMES

QUARTER_MONTHS: Final = 3
_CODES_MAX: Final = 10  # of a session, the first ones
_MW_PER_KW_MILLI: Final = 1_000  # milliwatts of a thousandth of a kW

SESSIONS: Final = TableShape(
    "sessions",
    "Charging sessions that ended in the quarter",
    (
        STATION,
        PORT,
        Column("session_id", ColumnType.TEXT, "Session"),
        Column("started_at", ColumnType.MOMENT, "Start (UTC)", 32),
        Column("ended_at", ColumnType.MOMENT, "End (UTC)", 32),
        Column("energy_kwh", ColumnType.THOUSANDTHS, "Energy (kWh)", 24),
        Column("peak_power_kw", ColumnType.THOUSANDTHS, "Peak (kW)", 18),
        Column("successful", ColumnType.BOOLEAN, "Success", 16),
        Column(
            "error_codes", ColumnType.TEXT, "Error codes", description="of an unsuccessful one; separated by spaces"
        ),
        Column("end_reason", ColumnType.TEXT, "Ended by"),
        Column("payment_method", ColumnType.TEXT, "Payment", description="not recorded"),
    ),
)
SUCCESS: Final = TableShape(
    "success",
    "Charging success rate",
    (
        STATION,
        PORT,
        Column("sessions", ColumnType.INTEGER, "Sessions", 28),
        Column("successes", ColumnType.INTEGER, "Successful", 28),
        Column("success_rate_pct", ColumnType.THOUSANDTHS, "Rate (%)", 28),
    ),
    f"Successful: at least {ENERGY_MIN_UJ // UJ_PER_WH / 1000:g} kWh, and the port was not Faulted meanwhile. "
    "Attempts that never became a session are not known.",
)
OUTAGES: Final = TableShape(
    "outages",
    "Outages",
    (
        STATION,
        PORT,
        Column("from", ColumnType.MOMENT, "From (UTC)", 34),
        Column(
            "to", ColumnType.MOMENT, "To (UTC)", 34, "empty: it goes on beyond the quarter, or the port was removed"
        ),
        Column("duration_min", ColumnType.THOUSANDTHS, "Duration (min)", 27, "within the quarter"),
        Column("excluded_min", ColumnType.THOUSANDTHS, "Excluded (min)", 27, "of it"),
    ),
)
FIELDS: Final = TableShape(
    "fields",
    "What the rule wants, and what is here",
    (
        Column("paragraph", ColumnType.TEXT, "680.112(a)", 22),
        Column("wanted", ColumnType.TEXT, "Wanted", 62),
        Column("here", ColumnType.TEXT, "Here", 90),
    ),
)
WANTED: Final = (
    ("(1)", "Charging station identifier", "station_id, as in the registry and in OCPI"),
    ("(2)", "Charging port identifier", "connector_id. Connectors that share an EVSE are listed one by one"),
    (
        "(3)",
        "Session start, end, and error codes of an unsuccessful session",
        "sessions, that ended in the quarter; the codes that the port stated while the session lasted. Attempts that "
        "never became a session are missing",
    ),
    ("(4)", "Energy dispensed (kWh) per session", "energy_kwh, to the Wh, rounded down"),
    ("(5)", "Peak session power (kW)", "peak_power_kw: the highest power of the minutes that the session reaches into"),
    ("(6)", "Payment method of each session", "MISSING: voltstream does not record how a driver identified or paid"),
    ("(7)", "Uptime, T_outage and T_excluded of each of the previous 3 months", "uptime"),
    ("(8)", "Duration (minutes) of each outage", "outages, cut to the quarter"),
    ("(b), (c)", "Annual and one-time data: costs, operators, grid, hardware", "MISSING: not voltstream's"),
)


class FoundSessions(NamedTuple):
    """What the store has of sessions that ended in the quarter."""

    rows: Sequence[Mapping[str, Any]]
    notable: Sequence[Mapping[str, Any]]  # status intervals with a fault or an error code, of the whole line's time
    peaks_mw: Mapping[UUID, int | None]


def add_sessions(sessions: Table, success: Table, batch: PortBatch, found: FoundSessions) -> None:
    """A row for each session, and one of success for each port."""
    number = batch.number
    rows = [row for row in found.rows if (row["station_id"], row["connector_id"]) in number]
    spans, statuses = spans_of(rows, number), _statuses(found.notable, number)
    faults = faults_during(batch.times.line, spans, statuses)
    energy_uj = np.array([row["energy_uj"] or 0 for row in rows], np.int64)
    good = successful(energy_uj, faults.faulted)
    for place, row in enumerate(rows):
        peak_mw = found.peaks_mw.get(row["id"])
        sessions.add(
            row["station_id"],
            row["connector_id"],
            str(row["id"]),
            row["start_ms"],
            row["end_ms"],
            int(energy_uj[place]) // UJ_PER_WH,
            None if peak_mw is None else peak_mw // _MW_PER_KW_MILLI,
            bool(good[place]),
            "" if good[place] else " ".join(faults.error_codes[place][:_CODES_MAX]),
            END_REASON_NAMES.get(row["end_reason"]),
            None,
        )
    _add_success(success, batch, spans.port, good)


def _add_success(success: Table, batch: PortBatch, port: Any, good: Bools) -> None:
    counts = np.bincount(port, minlength=len(batch.names))
    successes = np.bincount(port[good], minlength=len(batch.names))
    for place in np.flatnonzero(counts).tolist():
        rate = success_rate_mpct(int(successes[place]), int(counts[place]))
        success.add(*batch.names[place], int(counts[place]), int(successes[place]), rate)


def _statuses(rows: Sequence[Any], number: Mapping[tuple[str, int], int]) -> PortStatuses:
    rows = [row for row in rows if (row["station_id"], row["connector_id"]) in number]
    codes = (np.array([row[name] for row in rows], object) for name in ("error_code", "vendor_error_code"))
    return PortStatuses(spans_of(rows, number), np.array([row["status"] for row in rows], np.int64), *codes)


def add_outages(table: Table, batch: PortBatch, start: datetime, end: datetime) -> None:
    """A row for each outage that reaches into the quarter, cut to it."""
    outages = outages_of(batch.times)
    start_ms, end_ms = to_column_ms([start, end]).tolist()
    begins, ends = np.maximum(outages.spans.start_ms, start_ms), np.minimum(outages.spans.end_ms, end_ms)
    excluded_ms = batch.times.excluded_within(outages.spans.port, begins, np.maximum(begins, ends))
    for place in np.flatnonzero(begins < ends).tolist():
        over = bool(outages.ended[place]) and int(outages.spans.end_ms[place]) < end_ms
        table.add(
            *batch.names[int(outages.spans.port[place])],
            int(begins[place]),
            int(ends[place]) if over else None,
            milli_minutes(ends[place] - begins[place]).item(),
            milli_minutes(excluded_ms[place]).item(),
        )


def fields_table() -> Table:
    """The rule's list."""
    table = Table(FIELDS)
    for row in WANTED:
        table.add(*row)
    return table
