"""Computes the tables of a report."""

from collections.abc import Sequence
from typing import Final

from api.reporting.reports.kinds import ReportKind
from api.reporting.reports.store import StoredReport
from api.reporting.tables import Table
from api.reporting.uptime import quarterly, uptime_tables
from api.reporting.uptime.loading import PortBatch, PortLoader, TooMany

ROWS_MAX: Final = 500_000  # of a report: of a session 11 values, so ~500 MB while it is made
_NOTABLE_MAX: Final = 200_000  # of a batch of stations


class ReportComputation:
    """One method a kind."""

    def __init__(self, loader: PortLoader) -> None:
        self._loader = loader

    async def tables(self, report: StoredReport) -> Sequence[Table]:
        """All tables. Raises TooMany, Unavailable."""
        if report.kind is ReportKind.QUARTERLY:
            return await self._quarterly(report)
        return await self._uptime(report)

    async def _uptime(self, report: StoredReport) -> Sequence[Table]:
        uptime, exclusions, repairs = tables = uptime_tables.tables()
        async for stations in self._loader.stations(report.stations):
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
        async for stations in self._loader.stations(report.stations):
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
        quarterly.add_sessions(sessions, success, batch, rows, notable)


def _check_rows(tables: Sequence[Table]) -> None:
    _check(sum(table.rows for table in tables))


def _check(rows: int) -> None:
    if rows > ROWS_MAX:
        raise TooMany(f"it has more than {ROWS_MAX} rows: ask for less time, or for some of the stations")
