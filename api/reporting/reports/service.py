"""Asking for reports, and reading them. No HTTP and no SQL here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from api.reporting.reports.content import ReportContent
from api.reporting.reports.kinds import FACTS, ReportFormat, check_period
from api.reporting.reports.models import GROUPED, NewReport, Report, ReportColumn, ReportTable
from api.reporting.reports.renderings import ParquetFile, csv_header, csv_rows
from api.reporting.reports.report_pdf import ROWS_MAX as PDF_ROWS_MAX
from api.reporting.reports.report_pdf import render_pdf
from api.reporting.reports.store import ReportCursor, ReportStore, StoredReport, add, waiting
from api.reporting.tables import TableShape, Values, shape_of
from kit.auth.station_filter import StationFilter
from kit.clock import Clock, format_rfc3339
from kit.errors import Overloaded
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery, Conflict, Forbidden, NotFound
from kit.web.paging import decode_cursor, encode_cursor, to_micros

_STATIONS_CHARS: Final = 200  # of their names; more of them are counted
WAITING_MAX: Final = 50  # queued or running: at a minute each the last one waits an hour


class ReportService:
    """The use cases, one method each."""

    def __init__(
        self, store: ReportStore, content: ReportContent, clock: Clock, statuses_kept: Callable[[], timedelta]
    ) -> None:
        """`statuses_kept`: for how long."""
        self._store = store
        self._content = content
        self._clock = clock
        self._statuses_kept = statuses_kept

    async def request(self, connection: Transaction, new: NewReport, by: str, only: StationFilter) -> Report:
        """Queue a report of these stations, in the open transaction. Raises BadQuery, Forbidden, Overloaded."""
        if only.is_limited and new.group != "station":
            raise Forbidden(f"figures by {new.group} are of stations that your token is not for, too: leave group out")
        now = self._clock.now()
        try:
            check_period(new.kind, new.start, new.end, now, now - self._statuses_kept())
        except ValueError as error:
            raise BadQuery(str(error)) from None
        if await waiting(connection) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} reports wait; ask again when some are done", retry_after_s=60)
        stations = None if new.stations is None else sorted(set(new.stations))
        named, organisation = only.values
        selection = {"group": new.group, "stations": stations, "named": named, "organisation": organisation}
        period, formats = (new.start, new.end), list(dict.fromkeys(new.formats))
        return report_of(await add(connection, uuid4(), new.kind, period, selection, formats, (now, by)))

    async def page(
        self, kind: str | None, state: str | None, only: StationFilter, limit: int, cursor: str | None
    ) -> tuple[Sequence[Report], str | None]:
        """A page of the reports that were asked for with this limit or a narrower one, newest first, and the next
        page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, ReportCursor) if cursor else None
        rows = await self._store.page(kind, state, only, after, limit + 1)
        page = [report_of(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return page, None
        return page, encode_cursor(ReportCursor(to_micros(page[-1].requested_at), page[-1].id))

    async def get(self, report_id: UUID, only: StationFilter) -> Report:
        """A report. Raises NotFound."""
        return report_of(await self._stored(report_id, only))

    async def file(self, report_id: UUID, wanted: ReportFormat, table: str | None, only: StationFilter) -> "ReportFile":
        """The report, or one of its tables, as a file. Raises NotFound, Conflict, BadQuery."""
        report = await self._stored(report_id, only)
        if report.tables is None:
            raise Conflict(_not_done(report))
        if wanted not in report.formats:
            raise BadQuery(f"this report was asked for as {', '.join(report.formats)}, not as {wanted}")
        shapes = {one["name"]: shape_of(one) for one in report.tables}
        if table is not None and table not in shapes:
            raise NotFound(f"this report has no table {table!r}: it has {', '.join(shapes)}")
        return ReportFile(report, wanted, table or next(iter(shapes)), shapes, self._content)

    async def _stored(self, report_id: UUID, only: StationFilter) -> StoredReport:
        found = await self._store.get(report_id, only)
        if found is None:
            raise NotFound("there is no such report: it is deleted some time after it was made")
        return found


class ReportFile:
    """A report in one format."""

    def __init__(
        self,
        report: StoredReport,
        wanted: ReportFormat,
        table: str,
        shapes: Mapping[str, TableShape],
        content: ReportContent,
    ) -> None:
        self._report = report
        self._wanted = wanted
        self._table = table
        self._shapes = shapes
        self._content = content

    @property
    def name(self) -> str:
        """For whoever saves it."""
        report = self._report
        table = "" if self._wanted is ReportFormat.PDF else f"-{self._table}"
        return f"{report.kind}-{report.start:%Y-%m-%d}-{report.end:%Y-%m-%d}{table}.{self._wanted}"

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes. Raises Unavailable, where the store is away before the first of them."""
        make: Callable[[], AsyncIterator[bytes]] = {
            ReportFormat.CSV: self._csv,
            ReportFormat.PARQUET: self._parquet,
            ReportFormat.PDF: self._pdf,
        }[self._wanted]
        async for chunk in make():
            yield chunk

    async def _csv(self) -> AsyncIterator[bytes]:
        shape = self._shapes[self._table]
        head = csv_header(shape, about(self._report))
        async for columns in self._parts(self._table):
            yield head + await asyncio.to_thread(csv_rows, shape, columns)
            head = b""
        if head:
            yield head

    async def _parquet(self) -> AsyncIterator[bytes]:
        file = ParquetFile(self._shapes[self._table], about(self._report))
        async for columns in self._parts(self._table):
            await asyncio.to_thread(file.write, columns)
        yield await asyncio.to_thread(file.finish)

    async def _pdf(self) -> AsyncIterator[bytes]:
        report, tables = self._report, []
        for stored in report.tables or ():
            columns: list[Values] = [[] for _ in stored["columns"]]
            async for part in self._parts(stored["name"]):
                room = PDF_ROWS_MAX - len(columns[0])
                columns = [one + other[:room] for one, other in zip(columns, part, strict=True)]
                if len(columns[0]) >= PDF_ROWS_MAX:
                    break
            tables.append((self._shapes[stored["name"]], stored["rows"], columns))
        facts = FACTS[report.kind]
        computed_at = report.computed_at or report.requested_at
        yield await asyncio.to_thread(render_pdf, facts.title, about(report), facts.definition, tables, computed_at)

    def _parts(self, table: str) -> AsyncIterator[list[Values]]:
        return self._content.parts(self._report.id, self._report.attempts, table)


def about(report: StoredReport) -> dict[str, str]:
    """From what and when it was computed, in every format."""
    facts = FACTS[report.kind]
    stations = "all" if report.stations is None else ", ".join(report.stations)
    organisation = report.only.organisation
    return {
        "Report": facts.title,
        "From": format_rfc3339(report.start),
        "To": f"{format_rfc3339(report.end)} (exclusive)",
        **({"By": report.group} if report.kind in GROUPED else {}),
        "Stations": stations if len(stations) <= _STATIONS_CHARS else f"{len(report.stations or ())} stations",
        **({} if organisation is None else {"Organisation": organisation}),
        "Computed at": "" if report.computed_at is None else format_rfc3339(report.computed_at),
        "Computed from": "; ".join(facts.sources),
        "Requested by": report.requested_by,
        "Id": str(report.id),
    }


def report_of(row: StoredReport) -> Report:
    """The response of a stored report."""
    facts = FACTS[row.kind]
    same = ("id", "kind", "state", "reason", "group", "stations", "formats")
    moments = ("requested_at", "requested_by", "computed_at")
    period: dict[str, Any] = {"from": row.start, "to": row.end}
    return Report(
        **{name: getattr(row, name) for name in (*same, *moments)},
        **period,
        title=facts.title,
        definition=facts.definition,
        sources=list(facts.sources),
        tables=None if row.tables is None else [_table_of(one) for one in row.tables],
    )


def _table_of(stored: Mapping[str, Any]) -> ReportTable:
    columns = [
        ReportColumn(name=one["name"], type=one["type"], description=one["description"]) for one in stored["columns"]
    ]
    return ReportTable(
        name=stored["name"],
        title=stored["title"],
        description=stored["description"],
        rows=stored["rows"],
        columns=columns,
    )


def _not_done(report: StoredReport) -> str:
    if report.state == "failed":
        return f"the report could not be made: {report.reason}"
    return f"the report is {report.state}: ask again when its state is done"
