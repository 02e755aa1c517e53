"""The tables of an uptime report: each port at the end of each month, what was excluded and why, and repairs. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np

from api.reporting.tables import Column, ColumnType, Table, TableShape
from api.reporting.uptime.intervals import Ints
from api.reporting.uptime.loading import PortBatch
from api.reporting.uptime.months import YEAR_MONTHS, months_between, shifted, to_column_ms
from api.reporting.uptime.outages import excluded_by_each
from api.reporting.uptime.repairs import ended_outages
from api.reporting.uptime.uptime import (
    MINUTE_MS,
    MonthlyTimes,
    meets_minimum,
    monthly,
    of_twelve_months,
    share_up_mpct,
    uptime_mpct,
)

DEFINITION: Final = (
    "23 CFR 680.116(b): ((525,600 - (T_outage - T_excluded)) / 525,600) x 100 over the twelve months that end with "
    "each month. A port is a connector. Outage: in service and not Available, Preparing, Charging, Suspended, "
    "Finishing or Reserved; silence, and the time before the first status, are outage. Rounded down."
)
STATION: Final = Column("station_id", ColumnType.TEXT, "Station", 40)
PORT: Final = Column("connector_id", ColumnType.INTEGER, "Port", 12)
_MONTH: Final = Column("month", ColumnType.TEXT, "Month", 18, "UTC")

UPTIME: Final = TableShape(
    "uptime",
    "Uptime by port and month",
    (
        STATION,
        PORT,
        _MONTH,
        Column("outage_min", ColumnType.THOUSANDTHS, "T_outage (min)", 28, "of the twelve months"),
        Column("excluded_min", ColumnType.THOUSANDTHS, "T_excluded (min)", 28, "of the twelve months"),
        Column("uptime_pct", ColumnType.THOUSANDTHS, "Uptime (%)", 24),
        Column("above_97_pct", ColumnType.BOOLEAN, "> 97 %", 18),
        Column("service_min", ColumnType.THOUSANDTHS, "In service (min)", description="of the twelve months"),
        Column("up_in_service_pct", ColumnType.THOUSANDTHS, "Up in service (%)", description="not the rule's figure"),
        Column("month_outage_min", ColumnType.THOUSANDTHS, "Outage of the month (min)"),
        Column("month_excluded_min", ColumnType.THOUSANDTHS, "Excluded of the month (min)"),
    ),
)
EXCLUSIONS: Final = TableShape(
    "exclusions",
    "Exclusions",
    (
        Column("station_id", ColumnType.TEXT, "Station", 34),
        PORT,
        Column("from", ColumnType.MOMENT, "From (UTC)", 31),
        Column("to", ColumnType.MOMENT, "To (UTC)", 31),
        Column("reason", ColumnType.TEXT, "Reason", 42),
        Column("excluded_min", ColumnType.THOUSANDTHS, "Outage (min)", 24, "of the report's whole time"),
        Column("note", ColumnType.TEXT, "Note"),
        Column("made_by", ColumnType.TEXT, "Entered by"),
        Column("exclusion_id", ColumnType.TEXT, "Exclusion"),
    ),
    "Outage that several exclusions cover stands with each of them, and counts once.",
)
REPAIRS: Final = TableShape(
    "repairs",
    "Mean time to repair",
    (
        STATION,
        PORT,
        Column("repairs", ColumnType.INTEGER, "Repairs", 24),
        Column("mean_min", ColumnType.THOUSANDTHS, "Mean (min)", 34),
        Column("total_min", ColumnType.THOUSANDTHS, "Total (min)", 34),
    ),
    "Outages that ended by the port being up again in the report's time, without what was excluded of them.",
)


def milli_minutes(milliseconds: Ints | int) -> Ints:
    """Thousandths of minutes, rounded down."""
    return np.asarray(milliseconds) * 1_000 // MINUTE_MS


def window_start(start: datetime) -> datetime:
    """From when on the statuses of a report that begins with this month are wanted: eleven months earlier."""
    return shifted(start, 1 - YEAR_MONTHS)


def counted_months(batch: PortBatch, start: datetime, end: datetime) -> tuple[MonthlyTimes, MonthlyTimes]:
    """Of each month from `start` to `end` (beginnings of months): its own times, and those of its twelve months. The
    batch reaches back to window_start."""
    first = window_start(start)
    bounds = to_column_ms([*months_between(first, end), end])
    own = monthly(batch.times, bounds)
    return (
        MonthlyTimes(*(values[:, YEAR_MONTHS - 1 :] for values in own)),
        MonthlyTimes(*(of_twelve_months(values) for values in own)),
    )


def add_uptime(table: Table, batch: PortBatch, start: datetime, end: datetime) -> None:
    """A row for each port and month in whose twelve months it was in service."""
    own, year = counted_months(batch, start, end)
    labels = [f"{month:%Y-%m}" for month in months_between(start, end)]
    figures = (
        milli_minutes(year.outage_ms),
        milli_minutes(year.excluded_ms),
        uptime_mpct(year.outage_ms, year.excluded_ms),
        meets_minimum(year.outage_ms, year.excluded_ms),
        milli_minutes(year.service_ms),
        share_up_mpct(*year),
        milli_minutes(own.outage_ms),
        milli_minutes(own.excluded_ms),
    )
    for port, (station_id, connector_id) in enumerate(batch.names):
        for place in np.flatnonzero(year.service_ms[port] > 0).tolist():
            table.add(station_id, connector_id, labels[place], *(values[port, place].item() for values in figures))


def add_exclusions(table: Table, batch: PortBatch) -> None:
    """A row for each exclusion and port that it takes outage from."""
    taken_ms = excluded_by_each(batch.times, batch.exclusion_spans)
    for place in np.flatnonzero(taken_ms > 0).tolist():
        one = batch.exclusions[batch.exclusion_of_span[place]]
        station_id, connector_id = batch.names[int(batch.exclusion_spans.port[place])]
        times = to_column_ms([one.start, one.end]).tolist()
        excluded_min = milli_minutes(taken_ms[place]).item()
        made = (one.note, one.made_by, str(one.id))
        table.add(station_id, connector_id, *times, one.reason.value, excluded_min, *made)


def add_repairs(table: Table, batch: PortBatch, start: datetime, end: datetime) -> None:
    """A row for each port that was repaired from `start` to `end`."""
    start_ms, end_ms = to_column_ms([start, end]).tolist()
    repairs = ended_outages(batch.times, start_ms, end_ms).repairs()
    ports, first, numbers = np.unique(repairs.port, return_index=True, return_counts=True)
    totals_ms = np.add.reduceat(repairs.counted_ms, first) if len(ports) else repairs.counted_ms
    rows = (ports, numbers, milli_minutes(totals_ms // numbers), milli_minutes(totals_ms))
    for port, number, mean, total in zip(*(column.tolist() for column in rows), strict=True):
        table.add(*batch.names[port], number, mean, total)


def tables() -> Sequence[Table]:
    """Empty ones."""
    return [Table(UPTIME), Table(EXCLUSIONS), Table(REPAIRS)]
