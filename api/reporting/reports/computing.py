"""Computes the tables of a report."""

from collections.abc import Callable, Sequence
from typing import Final

from api.reporting.analytics.figures import (
    FigureQuery,
    FigureReader,
    Key,
    SummedFigures,
    group_and_currency,
    time_and_currency,
)
from api.reporting.analytics.models import Figure, Group
from api.reporting.errors import TooMany
from api.reporting.reports import business_tables
from api.reporting.reports.kinds import ReportKind, width_of
from api.reporting.reports.store import StoredReport
from api.reporting.tables import Table
from api.reporting.uptime import quarterly, uptime_tables
from api.reporting.uptime.loading import PortBatch, PortLoader

ROWS_MAX: Final = 500_000  # of a report: of a session 11 values, so ~500 MB while it is made
_NOTABLE_MAX: Final = 200_000  # of a batch of stations


class ReportComputation:
    """One method a kind."""

    def __init__(self, loader: PortLoader, figures: FigureReader) -> None:
        self._loader = loader
        self._figures = figures

    async def tables(self, report: StoredReport) -> Sequence[Table]:
        """All tables. Raises TooMany, Unavailable."""
        compute = {
            ReportKind.OPERATIONS: self._operations,
            ReportKind.REVENUE: self._revenue,
            ReportKind.UPTIME: self._uptime,
            ReportKind.QUARTERLY: self._quarterly,
        }[report.kind]
        return await compute(report)

    async def _operations(self, report: StoredReport) -> Sequence[Table]:
        figures = {
            one.metric: await self._summed(one.metric, report, report.group, group_and_currency)
            for one in business_tables.OPERATIONS_COLUMNS
        }
        if report.group == "station":
            repairs = figures[business_tables.REPAIRS_METRIC]
        else:
            repairs = await self._summed(business_tables.REPAIRS_METRIC, report, "station", group_and_currency)
        availability = Table(business_tables.AVAILABILITY)
        async for stations in self._loader.stations(report.stations, report.only):
            ports = await self._loader.ports(stations, report.start, report.end)
            business_tables.add_availability(availability, ports, repairs)
        operations = business_tables.operations_table(figures)
        return operations, availability, business_tables.sources_table(list(figures.values()))

    async def _revenue(self, report: StoredReport) -> Sequence[Table]:
        metrics = business_tables.REVENUE_METRICS
        figures = [await self._summed(one, report, report.group, group_and_currency) for one in metrics]
        by_time = [await self._summed(one, report, None, time_and_currency) for one in metrics]
        return (
            business_tables.revenue_table(*figures),
            business_tables.revenue_by_time_table(*by_time),
            business_tables.sources_table(figures),
        )

    async def _summed(
        self,
        metric: str,
        report: StoredReport,
        group: Group | None,
        key: Callable[[Figure], Key],
    ) -> SummedFigures[Key]:
        """Of the report's stations, where they are grouped by station; else of all that it is limited to."""
        if group is None and report.only.is_limited:
            group = "station"  # the total is of all; a sum over stations is the same
        names = tuple(report.stations or ()) if group == "station" else ()
        by = width_of(report.start, report.end)
        return await self._figures.summed(
            FigureQuery(metric, report.start, report.end, by, group, names, report.only), key
        )

    async def _uptime(self, report: StoredReport) -> Sequence[Table]:
        uptime, exclusions, repairs = tables = uptime_tables.tables()
        async for stations in self._loader.stations(report.stations, report.only):
            batch = await self._ports(stations, report)
            uptime_tables.add_uptime(uptime, batch, report.start, report.end)
            uptime_tables.add_exclusions(exclusions, batch)
            uptime_tables.add_repairs(repairs, batch, report.start, report.end)
            _check_rows(tables)
        return tables

    async def _quarterly(self, report: StoredReport) -> Sequence[Table]:
        sessions, success = Table(quarterly.SESSIONS), Table(quarterly.SUCCESS)
        uptime, outages = Table(uptime_tables.UPTIME), Table(quarterly.OUTAGES)
        exclusions = Table(uptime_tables.EXCLUSIONS)
        tables = (sessions, uptime, outages, exclusions, success, quarterly.fields_table())
        async for stations in self._loader.stations(report.stations, report.only):
            batch = await self._ports(stations, report)
            uptime_tables.add_uptime(uptime, batch, report.start, report.end)
            uptime_tables.add_exclusions(exclusions, batch)
            quarterly.add_outages(outages, batch, report.start, report.end)
            await self._add_sessions(stations, report, batch, sessions, success)
            _check_rows(tables)
        return tables

    async def _ports(self, stations: Sequence[str], report: StoredReport) -> PortBatch:
        return await self._loader.ports(stations, uptime_tables.window_start(report.start), report.end)

    async def _add_sessions(
        self, stations: Sequence[str], report: StoredReport, batch: PortBatch, sessions: Table, success: Table
    ) -> None:
        store = self._loader.store
        rows = await store.sessions(stations, report.start, report.end, ROWS_MAX + 1 - sessions.rows)
        _check(sessions.rows + len(rows))
        # A session may have begun before the quarter; its faults then count, too.
        since = uptime_tables.window_start(report.start)
        notable = await store.notable(stations, since, report.end, _NOTABLE_MAX + 1)
        if len(notable) > _NOTABLE_MAX:
            raise TooMany(f"{len(stations)} stations have more than {_NOTABLE_MAX} faults; name fewer stations")
        peaks = await store.peaks([row["id"] for row in rows])
        quarterly.add_sessions(sessions, success, batch, quarterly.FoundSessions(rows, notable, peaks))


def _check_rows(tables: Sequence[Table]) -> None:
    _check(sum(table.rows for table in tables))


def _check(rows: int) -> None:
    if rows > ROWS_MAX:
        raise TooMany(f"it has more than {ROWS_MAX} rows: ask for less time, or for some of the stations")
