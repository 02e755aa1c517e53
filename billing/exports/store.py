"""The SQL of exports. PostgreSQL writes CSV and JSON itself and sends it row by row (COPY), so memory does not grow.

Everything of one export is read in one snapshot: its totals are of exactly the documents that it holds.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from billing.documents import InvoiceKind, InvoiceStatus
from kit.postgres import Database

EXPORT_S_MAX: Final = 3_600  # of one statement: at 50 k documents/s, 180 M of them
CURSOR_ROWS: Final = 500  # fetched at once for OCPI: ~2 kB each, as are their CDRs

Output = Callable[[bytes], Awaitable[None]]

# A spreadsheet takes a text that begins with one of these for a formula, and runs it (OWASP, CSV injection).
_FORMULA: Final = "[=+@\\t\\r\\n＝＋－＠-]"
_TEXTS: Final = ("driver_id", "station_id", "reservation_id", "reason")  # not ours: anything may be in them


def _moment(column: str, fraction: str = "US") -> str:
    """RFC 3339, to the microsecond or (MS) the millisecond, cut off."""
    return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.{fraction}\"Z\"')"


def _epoch_ms(column: str) -> str:
    return f"floor(extract(epoch FROM {column}) * 1000)"


def _micros(value: str) -> str:
    return f"({value})::numeric * 0.000001"  # a product is exact, a quotient may be rounded


def _minor(value: str) -> str:
    """With as many digits as the currency has."""
    return f"round({value}::numeric * power(10::numeric, -i.minor_digits), i.minor_digits)"


# What a document is exported as: name and expression, in this order.
COLUMNS: Final[Mapping[str, str]] = {
    "number": "i.number",
    "kind": "i.kind",
    "status": "i.status",
    "version": "i.version",
    "issued_at": _moment("i.issued_at"),
    "driver_id": "i.driver_id",
    "station_id": "i.station_id",
    "session_id": "i.session_id",
    "reservation_id": "i.reservation_id",
    "started_at": _moment("c.started_at"),
    "ended_at": _moment("c.ended_at"),
    "energy_kwh": _micros("c.energy_uj / 3600000"),
    "currency": "i.currency",
    "total_excl_vat": _micros("i.total_excl_micros"),
    "total_vat": _micros("i.total_incl_micros - i.total_excl_micros"),
    "total_incl_vat": _micros("i.total_incl_micros"),
    "payable_excl_vat": _minor("i.payable_excl_minor"),
    "payable": _minor("i.payable_minor"),
    "id": "i.id",
    "cdr_id": "i.cdr_id",
    "credits": "i.credits",
    "replaces": "i.replaces",
    "reason": "i.reason",
}
_AMOUNTS: Final = ("total_excl_vat", "total_vat", "total_incl_vat", "payable_excl_vat", "payable", "energy_kwh")

_FROM: Final = "FROM billing.invoice AS i JOIN billing.cdr AS c ON c.id = i.cdr_id"
_ORDER: Final = "ORDER BY i.year, i.sequence"
# Moments and ids come as texts: PostgreSQL writes them faster than they can be read and written here.
_OCPI: Final = f"""
SELECT i.number, i.kind, i.currency, i.session_id::text, i.driver_id, i.station_id, i.cdr_id::text, i.reason,
       i.total_excl_micros, i.total_incl_micros, {_moment("i.issued_at", "MS")} AS issued_at,
       {_moment("c.started_at", "MS")} AS started_at, {_moment("c.ended_at", "MS")} AS ended_at,
       ({_epoch_ms("c.ended_at")} - {_epoch_ms("c.started_at")})::bigint AS duration_ms, c.end_reason, c.estimated,
       c.connector_id, c.energy_uj, c.consumption, c.tariff_version, t.heard_at AS tariff_heard_at,
       (SELECT json_agg(json_build_array(l.dimension, l.excl_micros, l.incl_micros, l.volume) ORDER BY l.line)
        FROM billing.invoice_line AS l WHERE l.invoice_id = i.id) AS lines
FROM billing.invoice AS i
JOIN billing.cdr AS c ON c.id = i.cdr_id
LEFT JOIN billing.tariff_version AS t ON t.version = c.tariff_version
"""  # noqa: S608  # our own names
_TARIFF: Final = "SELECT tariff FROM billing.tariff_version WHERE version = $1"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which documents: those issued in [start, end); None: whichever."""

    start: datetime | None = None
    end: datetime | None = None
    driver_id: str | None = None
    station_id: str | None = None
    status: InvoiceStatus | None = None
    kind: InvoiceKind | None = None


_CONDITIONS: Final = {
    "start": "i.issued_at >= {}",
    "end": "i.issued_at < {}",
    "driver_id": "i.driver_id = {}",
    "station_id": "i.station_id = {}",
    "status": "i.status = {}",
    "kind": "i.kind = {}",
}


class Snapshot:
    """One export's view of the books."""

    def __init__(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", wanted: Wanted) -> None:
        self._connection = connection
        asked = {name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None}
        places = [_CONDITIONS[name].format(f"${place}") for place, name in enumerate(asked, 1)]
        self._where = f"WHERE {' AND '.join(places)}" if places else ""
        self._arguments = list(asked.values())

    async def totals(self) -> list[asyncpg.Record]:
        """A row a currency: documents, and the sums of their amounts."""
        query = (
            "SELECT i.currency, i.minor_digits, count(*) AS documents, "  # noqa: S608  # the conditions above
            "count(*) FILTER (WHERE i.kind = 'credit_note') AS credit_notes, "
            "sum(i.total_excl_micros) AS excl_micros, sum(i.total_incl_micros) AS incl_micros, "
            "sum(i.payable_excl_minor) AS payable_excl_minor, sum(i.payable_minor) AS payable_minor "
            f"FROM billing.invoice AS i {self._where} GROUP BY i.currency, i.minor_digits ORDER BY i.currency"
        )
        rows: list[asyncpg.Record] = await self._connection.fetch(query, *self._arguments, timeout=EXPORT_S_MAX)
        return rows

    async def copy_csv(self, output: Output, *, for_people: bool) -> None:
        """CSV with a header. `for_people`: safe to open in a spreadsheet; else every text as it is."""
        columns = ", ".join(
            f"{_guarded(name, column) if for_people else column} AS {name}" for name, column in COLUMNS.items()
        )
        await self._copy(f"SELECT {columns} {_FROM}", output, format="csv", header=True, force_quote=_TEXTS)

    async def copy_jsonl(self, output: Output) -> None:
        """A JSON object a line; amounts are decimal texts."""
        columns = ", ".join(
            f"({column})::text AS {name}" if name in _AMOUNTS else f"{column} AS {name}"
            for name, column in COLUMNS.items()
        )
        query = f"SELECT row_to_json(r) FROM (SELECT {columns} {_FROM} {self._where} {_ORDER}) AS r"  # noqa: S608
        # As CSV whose quote and delimiter are characters that JSON never has: so nothing in it is quoted or escaped.
        await self._run(query, output, format="csv", quote="\x01", escape="\x01", delimiter="\x02")

    async def cdr_rows(self) -> AsyncIterator[list[asyncpg.Record]]:
        """What OCPI CDRs are made of, by a cursor, CURSOR_ROWS at a time."""
        query = f"{_OCPI} {self._where} {_ORDER}"
        cursor = await self._connection.cursor(query, *self._arguments, timeout=EXPORT_S_MAX)
        while rows := await cursor.fetch(CURSOR_ROWS, timeout=EXPORT_S_MAX):
            yield rows

    async def tariff(self, version: object) -> str:
        """A tariff's JSON."""
        tariff: str = await self._connection.fetchval(_TARIFF, version)
        return tariff

    async def _copy(self, select: str, output: Output, **how: Any) -> None:
        await self._run(f"{select} {self._where} {_ORDER}", output, **how)

    async def _run(self, query: str, output: Output, **how: Any) -> None:
        try:
            await self._connection.copy_from_query(
                query, *self._arguments, output=output, timeout=EXPORT_S_MAX, encoding="utf-8", **how
            )
        except BaseException:
            self._connection.terminate()  # what the server has sent and nobody reads is in the way of all else
            raise


@asynccontextmanager
async def snapshot(database: Database, wanted: Wanted) -> AsyncIterator[Snapshot]:
    """The books as they are at this moment, for as long as the block. Raises Unavailable."""
    async with database.snapshot() as connection:
        yield Snapshot(connection, wanted)


def _guarded(name: str, column: str) -> str:
    if name not in _TEXTS:
        return column
    return f"CASE WHEN {column} ~ '^{_FORMULA}' THEN '''' || {column} ELSE {column} END"
