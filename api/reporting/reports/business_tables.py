"""The tables of reports of operations and of revenue. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from api.reporting.analytics.figures import SummedFigures
from api.reporting.tables import Column, ColumnType, Table, TableShape
from api.reporting.uptime.loading import PortBatch
from api.reporting.uptime.uptime import PCT_MILLI, monthly, share_up_mpct
from api.reporting.uptime.uptime_tables import STATION, milli_minutes
from kit.clock import to_ms

_GROUP: Final = Column("group", ColumnType.TEXT, "Group", 40, "empty: of no group")
_MILLI: Final = 1_000

GroupCurrency = tuple[str, str]
TimeCurrency = tuple[datetime, str]
_Key = TypeVar("_Key", GroupCurrency, TimeCurrency)


class OperationsColumn(NamedTuple):
    """A column of the table of operations: a metric, and by what its sums are divided for the column's unit."""

    metric: str
    column: Column
    times: int = 1
    over: int = 1


_MEAN_REPAIR: Final = OperationsColumn(
    "mttr", Column("repair_min_mean", ColumnType.THOUSANDTHS, "Mean repair (min)"), over=60
)
OPERATIONS_COLUMNS: Final = (
    OperationsColumn("energy_delivered", Column("energy_kwh", ColumnType.THOUSANDTHS, "Energy (kWh)", 28), over=_MILLI),
    OperationsColumn("co2", Column("co2e_kg", ColumnType.THOUSANDTHS, "CO2e (kg)", 24), over=_MILLI),
    OperationsColumn("sessions", Column("sessions", ColumnType.INTEGER, "Sessions", 18)),
    OperationsColumn("occupancy", Column("occupied_pct", ColumnType.THOUSANDTHS, "Occupied (%)", 24), times=PCT_MILLI),
    OperationsColumn(
        "delivering", Column("delivering_pct", ColumnType.THOUSANDTHS, "Delivering (%)", 26), times=PCT_MILLI
    ),
    OperationsColumn("peak_power", Column("peak_power_kw", ColumnType.THOUSANDTHS, "Peak (kW)", 24), over=_MILLI),
    OperationsColumn("faulted", Column("faulted_pct", ColumnType.THOUSANDTHS, "Faulted (%)"), times=PCT_MILLI),
    OperationsColumn("silent", Column("silent_pct", ColumnType.THOUSANDTHS, "Silent (%)"), times=PCT_MILLI),
    _MEAN_REPAIR,
    OperationsColumn("session_duration", Column("session_s_mean", ColumnType.THOUSANDTHS, "Mean session (s)"), times=1),
)
REPAIRS_METRIC: Final = _MEAN_REPAIR.metric
OPERATIONS: Final = TableShape(
    "operations",
    "Energy, sessions and utilisation",
    (_GROUP, *(one.column for one in OPERATIONS_COLUMNS)),
)
AVAILABILITY: Final = TableShape(
    "availability",
    "Availability and repairs by station",
    (
        STATION,
        Column("ports", ColumnType.INTEGER, "Ports", 14),
        Column("outage_min", ColumnType.THOUSANDTHS, "Outage (min)", 30, "summed over ports"),
        Column("excluded_min", ColumnType.THOUSANDTHS, "Excluded (min)", 30, "of it"),
        Column("up_in_service_pct", ColumnType.THOUSANDTHS, "Up (%)", 20, "of the time in service, less exclusions"),
        Column("repairs", ColumnType.INTEGER, "Repairs", 18),
        Column("repair_min_mean", ColumnType.THOUSANDTHS, "Mean repair (min)", 34),
        Column("service_min", ColumnType.THOUSANDTHS, "In service (min)"),
    ),
)
REVENUE_METRICS: Final = ("revenue", "revenue_incl_vat", "demand_margin")
_MARGIN: Final = (
    Column(
        "demand_margin",
        ColumnType.MICROS,
        "Demand margin",
        40,
        "excl. VAT; the part of the revenue that demand pricing added",
    ),
    Column("margins_unknown", ColumnType.INTEGER, "Unknown", 20, "documents of charges of which that is not known"),
)
REVENUE: Final = TableShape(
    "revenue",
    "Revenue",
    (
        _GROUP,
        Column("currency", ColumnType.TEXT, "Currency", 24),
        Column("excl_vat", ColumnType.MICROS, "Excl. VAT", 40),
        Column("incl_vat", ColumnType.MICROS, "Incl. VAT", 40),
        *_MARGIN,
    ),
    "Charges of invoices less those of credit notes, by the hour in which the charge ended.",
)
REVENUE_BY_TIME: Final = TableShape(
    "revenue_by_time",
    "Revenue by time, all groups together",
    (
        Column("from", ColumnType.MOMENT, "From (UTC)", 40),
        Column("currency", ColumnType.TEXT, "Currency", 24),
        Column("excl_vat", ColumnType.MICROS, "Excl. VAT", 40),
        Column("incl_vat", ColumnType.MICROS, "Incl. VAT", 40),
        *_MARGIN,
    ),
)
SOURCES: Final = TableShape(
    "sources",
    "What the figures are",
    (
        Column("metric", ColumnType.TEXT, "Metric", 30),
        Column("definition", ColumnType.TEXT, "Definition", 86),
        Column("source", ColumnType.TEXT, "Source", 40),
        Column(
            "pending_hours", ColumnType.INTEGER, "Pending (h)", 18, "hours of stations that are still to be computed"
        ),
        Column("as_of", ColumnType.MOMENT, "As of (UTC)"),
    ),
)


def operations_table(figures: Mapping[str, SummedFigures[GroupCurrency]]) -> Table:
    """A row for each group that has a figure of any metric, by name."""
    table = Table(OPERATIONS)
    for group in sorted({group for found in figures.values() for group, _ in found.sums}):
        table.add(group, *(_value(figures[one.metric], group, one) for one in OPERATIONS_COLUMNS))
    return table


def _value(figures: SummedFigures[GroupCurrency], group: str, column: OperationsColumn) -> int | None:
    """In the column's thousandths, rounded down. A sum of nothing is 0, a quotient of nothing is none."""
    sums = figures.sums.get((group, ""))
    if sums is None:
        return None if figures.metric.divided_by else 0
    numerator, denominator = figures.metric.fraction(sums)
    return numerator * column.times // (denominator * column.over) if denominator else None


def revenue_table(*figures: SummedFigures[GroupCurrency]) -> Table:
    """A row for each group and currency, by name. `figures`: of the metrics REVENUE_METRICS."""
    table = Table(REVENUE)
    for key in _keys(figures):
        table.add(*key, *_amounts(figures, key))
    return table


def revenue_by_time_table(*figures: SummedFigures[TimeCurrency]) -> Table:
    """A row for each time and currency, in order. `figures`: of the metrics REVENUE_METRICS."""
    table = Table(REVENUE_BY_TIME)
    for start, currency in _keys(figures):
        table.add(to_ms(start), currency, *_amounts(figures, (start, currency)))
    return table


def _keys(figures: Sequence[SummedFigures[_Key]]) -> list[_Key]:
    return sorted({key for found in figures for key in found.sums})


def _amounts(figures: Sequence[SummedFigures[_Key]], key: _Key) -> list[int]:
    """The sums of these metrics, in their order; 0 where there is none."""
    return [found.sums.get(key, {}).get(name, 0) for found in figures for name in found.metric.sum_names]


def sources_table(figures: Sequence[SummedFigures[GroupCurrency]]) -> Table:
    """A row for each metric."""
    table = Table(SOURCES)
    for one in figures:
        metric = one.metric
        table.add(metric.name, metric.definition, one.source, one.pending_hours, to_ms(one.as_of))
    return table


def add_availability(table: Table, batch: PortBatch, repairs: SummedFigures[GroupCurrency]) -> None:
    """A row for each station. The batch is of the report's time; `repairs`: metric REPAIRS_METRIC by station."""
    line = batch.times.line
    counted = monthly(batch.times, np.array([line.start_ms, line.end_ms], np.int64))
    ports: dict[str, list[int]] = {}
    for port, (station_id, _) in enumerate(batch.names):
        ports.setdefault(station_id, []).append(port)
    for station_id, own in ports.items():
        service, outage, excluded = (values[own].sum(keepdims=True) for values in counted)
        share: Any = share_up_mpct(service, outage, excluded).item()
        table.add(
            station_id,
            len(own),
            milli_minutes(outage.item()).item(),
            milli_minutes(excluded.item()).item(),
            None if share < 0 else share,
            repairs.sums.get((station_id, ""), {}).get("repairs", 0),
            _value(repairs, station_id, _MEAN_REPAIR),
            milli_minutes(service.item()).item(),
        )
