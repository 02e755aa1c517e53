"""The SQL of reports: what is asked for, and how far it is. Their content is in the document store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from api.reporting.analytics.models import Group
from api.reporting.reports.kinds import ReportFormat, ReportKind
from kit.auth.station_filter import StationFilter
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.paging import Cursor, Micros, from_micros

_COLUMNS: Final = (
    "id, kind, state, from_moment, to_moment, selection, formats, requested_at, requested_by, attempts, lost, "
    "computed_at, reason, tables"
)
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('reporting.report', 0))"
_WAITING: Final = "SELECT count(*) FROM reporting.report WHERE state IN ('queued', 'running')"
_ADD: Final = f"""
INSERT INTO reporting.report (id, kind, state, from_moment, to_moment, selection, formats, requested_at, requested_by)
VALUES ($1, $2, 'queued', $3, $4, $5::jsonb, $6, $7, $8) RETURNING {_COLUMNS}
"""  # noqa: S608 - constants


def _asked_within(first: int) -> str:
    """SQL: a report was asked for with the limit whose values are $first and $first + 1, or a narrower one."""
    names, organisation = f"${first}::text[]", f"${first + 1}::text"
    return (
        f"({names} IS NULL OR coalesce(jsonb_typeof(selection -> 'named') = 'array', false) "
        f"AND to_jsonb({names}) @> (selection -> 'named')) "
        f"AND ({organisation} IS NULL OR selection ->> 'organisation' = {organisation})"
    )


_GET: Final = f"SELECT {_COLUMNS} FROM reporting.report WHERE id = $1 AND {_asked_within(2)}"  # noqa: S608  # our own names
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM reporting.report
WHERE ($1::text IS NULL OR kind = $1) AND ($2::text IS NULL OR state = $2)
  AND ($3::timestamptz IS NULL OR (requested_at, id) < ($3, $4::uuid)) AND {_asked_within(6)}
ORDER BY requested_at DESC, id DESC LIMIT $5
"""  # noqa: S608  # our own names
_CLAIM: Final = f"""
UPDATE reporting.report
SET state = 'running', attempts = attempts + 1, lost = lost + (state = 'running')::int, leased_until = $2
WHERE id = (
    SELECT id FROM reporting.report
    WHERE state = 'queued' OR (state = 'running' AND leased_until < $1)
    ORDER BY requested_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING {_COLUMNS}
"""  # noqa: S608  # our own names
# Only by whoever still holds it: after a lease another attempt may be under way.
_DONE: Final = """
UPDATE reporting.report
SET state = 'done', tables = $3::jsonb, computed_at = $4, finished_at = $5, leased_until = NULL, reason = NULL
WHERE id = $1 AND attempts = $2 AND state = 'running' RETURNING true
"""
_FAILED: Final = """
UPDATE reporting.report SET state = 'failed', reason = $3, finished_at = $4, leased_until = NULL
WHERE id = $1 AND attempts = $2 AND state = 'running'
"""
_AGAIN: Final = """
UPDATE reporting.report SET state = 'queued', leased_until = NULL WHERE id = $1 AND attempts = $2 AND state = 'running'
"""
_OLD: Final = """
SELECT id FROM reporting.report WHERE finished_at < $1 ORDER BY finished_at LIMIT $2
"""
_DELETE: Final = "DELETE FROM reporting.report WHERE id = ANY ($1)"


class ReportCursor(Cursor, frozen=True, tag="rp"):
    """The last report seen."""

    requested_us: Micros
    id: UUID


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report as it is stored."""

    id: UUID
    kind: ReportKind
    state: str
    start: datetime
    end: datetime
    group: Group
    stations: list[str] | None
    only: StationFilter  # of the token that it was asked for with
    formats: list[ReportFormat]
    requested_at: datetime
    requested_by: str
    attempts: int
    lost: int  # attempts whose process died
    computed_at: datetime | None
    reason: str | None
    tables: list[dict[str, Any]] | None


class ReportStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get(self, report_id: UUID, only: StationFilter) -> StoredReport | None:
        """A report that was asked for with this limit or a narrower one."""
        row = await self.database.fetchrow(_GET, report_id, *only.values)
        return None if row is None else _report(row)

    async def page(
        self, kind: str | None, state: str | None, only: StationFilter, after: ReportCursor | None, rows_max: int
    ) -> list[StoredReport]:
        """Up to rows_max reports that were asked for with this limit or a narrower one, newest first."""
        key = (from_micros(after.requested_us), after.id) if after else (None, None)
        rows = await self.database.fetch(_PAGE, kind, state, *key, rows_max, *only.values)
        return [_report(row) for row in rows]

    async def claim(self, now: datetime, lease: timedelta) -> StoredReport | None:
        """The next report to be computed, running from now on; None: there is none."""
        row = await self.database.fetchrow(_CLAIM, now, now + lease)
        return None if row is None else _report(row)

    async def fail(self, report: StoredReport, reason: str, now: datetime) -> None:
        """It cannot be made."""
        await self.database.execute(_FAILED, report.id, report.attempts, reason, now)

    async def queue_again(self, report: StoredReport) -> None:
        """Something did not answer: another attempt."""
        await self.database.execute(_AGAIN, report.id, report.attempts)

    async def finished_before(self, moment: datetime, rows_max: int) -> list[UUID]:
        """Reports that were finished earlier, oldest first."""
        return [row["id"] for row in await self.database.fetch(_OLD, moment, rows_max)]

    async def delete(self, reports: Sequence[UUID]) -> None:
        """Forget them."""
        await self.database.execute(_DELETE, list(reports))


async def waiting(connection: Transaction) -> int:
    """How many reports are queued or running. Until the transaction ends nobody else queues one."""
    await connection.execute(_LOCK)
    return int(await connection.fetchval(_WAITING))


async def add(
    connection: Transaction,
    report_id: UUID,
    kind: ReportKind,
    period: tuple[datetime, datetime],
    selection: Mapping[str, Any],
    formats: Sequence[ReportFormat],
    requested: tuple[datetime, str],
) -> StoredReport:
    """Queue a report: (from, to), {group, stations, named, organisation}, formats, (when, by whom) it was asked for."""
    chosen = msgspec.json.encode(selection).decode()
    row = await connection.fetchrow(_ADD, report_id, kind, *period, chosen, list(formats), *requested)
    assert row is not None  # noqa: S101 - RETURNING
    return _report(row)


async def finish(
    connection: Transaction,
    report: StoredReport,
    tables: Sequence[Mapping[str, Any]],
    computed_at: datetime,
    now: datetime,
) -> bool:
    """It is done; False: another attempt holds it."""
    body = msgspec.json.encode(tables).decode()
    return bool(await connection.fetchval(_DONE, report.id, report.attempts, body, computed_at, now))


def _report(row: asyncpg.Record) -> StoredReport:
    selection = msgspec.json.decode(row["selection"])
    return StoredReport(
        id=row["id"],
        kind=ReportKind(row["kind"]),
        state=row["state"],
        start=row["from_moment"],
        end=row["to_moment"],
        group=selection["group"],
        stations=selection["stations"],
        only=StationFilter(
            None if (named := selection.get("named")) is None else frozenset(named), selection.get("organisation")
        ),
        formats=[ReportFormat(one) for one in row["formats"]],
        requested_at=row["requested_at"],
        requested_by=row["requested_by"],
        attempts=row["attempts"],
        lost=row["lost"],
        computed_at=row["computed_at"],
        reason=row["reason"],
        tables=None if row["tables"] is None else msgspec.json.decode(row["tables"]),
    )
