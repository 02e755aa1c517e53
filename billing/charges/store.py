"""The SQL of charges and of decisions about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from billing.documents import WAITING, CdrStatus
from kit.auth.station_filter import EVERY_STATION, StationFilter, visible
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.paging import Cursor, Micros, from_micros

_COLUMNS: Final = """
c.id, c.status, c.reasons, c.reason, c.kind, CASE WHEN c.kind = 'session' THEN c.subject_id END AS session_id,
c.reservation_id, c.driver_id, c.station_id, c.started_at, c.ended_at, c.energy_uj, c.version, c.revision,
c.tariff_version, c.currency, c.total_excl_micros, c.total_incl_micros, c.stream_excl_micros, c.stream_incl_micros,
c.created_at, c.due_at"""
# Of a filter, the condition; an unused one is left out. That of the status is written out, so that the planner sees
# which partial index serves.
_CONDITIONS: Final = {
    "station_id": "c.station_id = {}",
    "driver_id": "c.driver_id = {}",
    "reason": "{} = ANY (c.reasons)",
    "noted_before": "c.created_at <= {}",
}
_WHOLE: Final = f"""
SELECT c.*, t.tariff, newest.id AS newest_id
FROM billing.cdr AS c
LEFT JOIN billing.tariff_version AS t ON t.version = c.tariff_version
JOIN billing.cdr AS newest ON newest.subject_id = c.subject_id AND newest.current
WHERE (c.id = $1 OR (c.subject_id = $1 AND c.current)) AND {visible("c.station_id", 2)}
"""  # noqa: S608  # our own names
_DETAIL: Final = f"""
SELECT {_COLUMNS}, c.subject_id,
       coalesce((SELECT i.id FROM billing.invoice AS i
                 WHERE i.subject_id = c.subject_id AND i.kind = 'invoice' AND i.status IN ('open', 'paid')),
                (SELECT k.statement_id FROM billing.collected_charge AS k
                 WHERE k.subject_id = c.subject_id AND k.invoiced)) AS invoice_id
FROM billing.cdr AS c WHERE (c.id = $1 OR (c.subject_id = $1 AND c.current)) AND {visible("c.station_id", 2)}
"""  # noqa: S608  # our own names


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The audit of a decision; fields as the columns of billing.charge_decision."""

    id: UUID
    subject_id: UUID
    cdr_id: UUID
    result_cdr_id: UUID
    revision: int
    decision: str
    status_before: str
    reasons_before: list[str]
    who: str
    why: str
    energy_mwh: int | None
    started_at: datetime | None
    ended_at: datetime | None
    decided_at: datetime


_DECISION_COLUMNS: Final = DecisionRecord.__struct_fields__
_DECISIONS: Final = f"""
SELECT {", ".join(_DECISION_COLUMNS)} FROM billing.charge_decision WHERE subject_id = $1 ORDER BY decided_at, revision
"""  # noqa: S608  # our own names


class ChargeCursor(Cursor, frozen=True, tag="c"):
    """The last charge seen."""

    created_us: Micros
    id: UUID


@dataclass(frozen=True, slots=True)
class ChargeFilter:
    """Which charges; None: any, of the status those that wait for a person."""

    status: CdrStatus | None = None
    station_id: str | None = None
    driver_id: str | None = None
    reason: str | None = None
    noted_before: datetime | None = None
    only: StationFilter = EVERY_STATION


class ChargeStore:
    """Reads charges. Raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_charges(
        self, wanted: ChargeFilter, after: ChargeCursor | None, rows_max: int
    ) -> Sequence[asyncpg.Record]:
        """Up to rows_max current CDRs, oldest first."""
        statuses = WAITING if wanted.status is None else (wanted.status,)
        asked = {name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None}
        conditions = [_CONDITIONS[name].format(f"${place}") for place, name in enumerate(asked, 1)]
        arguments: list[object] = list(asked.values())
        if after is not None:
            arguments += [from_micros(after.created_us), after.id]
            conditions.append(f"(c.created_at, c.id) > (${len(arguments) - 1}, ${len(arguments)})")
        if wanted.only.is_limited:
            conditions.append(visible("c.station_id", len(arguments) + 1))
            arguments += wanted.only.values
        listed = ", ".join(f"'{CdrStatus(status)}'" for status in statuses)
        where = " AND ".join(["c.current", f"c.status IN ({listed})", *conditions])
        query = (
            f"SELECT {_COLUMNS} FROM billing.cdr AS c WHERE {where} "  # noqa: S608  # our own names
            f"ORDER BY c.created_at, c.id LIMIT ${len(arguments) + 1}"
        )
        return await self._database.fetch(query, *arguments, rows_max)

    async def detail(
        self, charge_id: UUID, only: StationFilter
    ) -> tuple[asyncpg.Record, Sequence[asyncpg.Record]] | None:
        """A charge at these stations by its id, or a subject's newest, and the decisions on its subject, oldest
        first."""
        async with self._database.transaction() as connection:
            return await detail(connection, charge_id, only)


async def detail(
    connection: Transaction, charge_id: UUID, only: StationFilter = EVERY_STATION
) -> tuple[asyncpg.Record, Sequence[asyncpg.Record]] | None:
    """The same within a transaction."""
    row = await connection.fetchrow(_DETAIL, charge_id, *only.values)
    return None if row is None else (row, await connection.fetch(_DECISIONS, row["subject_id"]))


async def whole(connection: Transaction, charge_id: UUID, only: StationFilter) -> Mapping[str, Any] | None:
    """All columns of a CDR at these stations by its id, or of a subject's newest, its tariff, and `newest_id`, of its
    subject."""
    row: Mapping[str, Any] | None = await connection.fetchrow(_WHOLE, charge_id, *only.values)
    return row


async def add_decision(connection: Transaction, decision: DecisionRecord) -> None:
    """Store a decision."""
    await connection.copy_records_to_table(
        "charge_decision",
        schema_name="billing",
        columns=_DECISION_COLUMNS,
        records=[msgspec.structs.astuple(decision)],
    )
