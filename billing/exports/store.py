"""The SQL of exports. PostgreSQL writes CSV and JSON itself and sends it row by row (COPY), so memory does not grow.

Everything of one export is read in one snapshot: its totals are of exactly the documents that it holds.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from billing.documents import InvoiceKind, InvoiceStatus
from billing.exports.place_queries import MISSING, PLACE, PLACE_FACTS
from kit.database.postgres import COPY_GATHER_S, Database
from kit.web.paging import Cursor, Int16, Int64

EXPORT_S_MAX: Final = 3_600  # of one statement: at 50 k documents/s, 180 M of them
BATCH_DOCUMENTS: Final = 8_192  # at once, for OCPI: ~1 kB each with the lines, ~10 kB each while they become JSON

Output = Callable[[bytes], Awaitable[None]]

# A spreadsheet takes a text that begins with one of these for a formula and executes it (OWASP, CSV injection).
_FORMULA: Final = "[=+@\\t\\r\\n＝＋－＠-]"
_TEXTS: Final = ("driver_id", "station_id", "reservation_id", "reason")  # from outside: they may contain anything


def _moment(column: str) -> str:
    """RFC 3339, to the microsecond."""
    return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"


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
    "set_off": _minor("i.set_off_minor"),
    "id": "i.id",
    "cdr_id": "i.cdr_id",
    "credits": "i.credits",
    "replaces": "i.replaces",
    "reason": "i.reason",
}
_AMOUNTS: Final = (
    "total_excl_vat",
    "total_vat",
    "total_incl_vat",
    "payable_excl_vat",
    "payable",
    "set_off",
    "energy_kwh",
)

_SUMS: Final[Mapping[str, str]] = {
    "documents": "count(*)",
    "credit_notes": "count(*) FILTER (WHERE i.kind = 'credit_note')",
    "excl_micros": "sum(i.total_excl_micros)",
    "incl_micros": "sum(i.total_incl_micros)",
    "payable_excl_minor": "sum(i.payable_excl_minor)",
    "payable_minor": "sum(i.payable_minor)",
    "set_off_minor": "sum(i.set_off_minor)",
}
_FROM: Final = "FROM billing.invoice AS i JOIN billing.cdr AS c ON c.id = i.cdr_id"
_ORDER: Final = "ORDER BY i.year, i.sequence"
# OCPI's CDRs are assembled by column from what PostgreSQL writes with least work: hence neither to_char nor a sum of
# the lines, and of the consumption only the moments, because the rest is in the lines. In this order.
CDR_COLUMNS: Final[Mapping[str, str]] = {
    "number": "i.number",
    "credit": "i.kind = 'credit_note'",
    "session_id": "i.session_id",
    "driver_id": "i.driver_id",
    "station_id": "i.station_id",
    "currency": "i.currency",
    "total_excl_micros": "i.total_excl_micros",
    "total_incl_micros": "i.total_incl_micros",
    "reason": "i.reason",
    "issued_at": "i.issued_at",
    "cdr_id": "i.cdr_id",
    "connector_id": "i.connector_id",
    "started_at": "c.started_at",
    "ended_at": "c.ended_at",
    "end_reason": "c.end_reason",
    "estimated": "c.estimated",
    "energy_uj": "c.energy_uj",
    "tariff_version": "c.tariff_version",
    "since": "jsonb_path_query_array(c.consumption, '$[*].since')",  # of the component in line n: the nth
    "year": "i.year",  # last, with the sequence: where the next round begins is read off the end
    "sequence": "i.sequence",
}
# Lines of components only: an adjustment to a minimum or maximum price is in a CDR's total and nowhere else. No column
# is null, so that each row has the same length in COPY's binary format.
LINE_COLUMNS: Final[Mapping[str, str]] = {
    "year": "i.year",
    "sequence": "i.sequence",
    "line": "l.line",
    "dimension": 'l.dimension::"char"',  # its first letter
    "volume": "l.volume",
    "excl_micros": "l.excl_micros",
    "incl_micros": "l.incl_micros",
}
QUOTE, DELIMITER = "\x01", "\x02"  # characters that JSON never has: so nothing in it is quoted or escaped
_BARE_CSV: Final = {"format": "csv", "quote": QUOTE, "escape": QUOTE, "delimiter": DELIMITER}

# A batch is some thousand documents of perhaps millions: index lookups are faster than the hash joins and full scans
# that the planner may choose; compiling such a query takes longer than running it.
_BY_KEYS: Final = (
    "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_bitmapscan = off; "
    "SET LOCAL jit = off; SET LOCAL datestyle = ISO"
)
_CDRS: Final = "JOIN billing.cdr AS c ON c.id = i.cdr_id"
_LINES: Final = "JOIN billing.invoice_line AS l ON l.invoice_id = i.id WHERE l.element IS NOT NULL"
_OF_PLACE: Final = "i.station_id, i.connector_id, i.session_id IS NULL AS reserved"
_TARIFFS: Final = "SELECT version, tariff, heard_at FROM billing.tariff_version WHERE version = ANY ($1::uuid[])"


@dataclass(frozen=True, slots=True)
class ExportFilter:
    """Which documents: those issued in [start, end); None: any."""

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


class DocumentCursor(Cursor, frozen=True, tag="x"):
    """The last document seen."""

    year: Int16
    sequence: Int64


class ExportBatch(NamedTuple):
    """Consecutive documents with their lines, as COPY writes them."""

    documents: bytearray  # CDR_COLUMNS as CSV with QUOTE and DELIMITER, without a header
    lines: bytearray  # LINE_COLUMNS as COPY's binary format has them


class Snapshot:
    """One export's view of the documents."""

    def __init__(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", wanted: ExportFilter) -> None:
        self._connection = connection
        asked = {name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None}
        places = [_CONDITIONS[name].format(f"${place}") for place, name in enumerate(asked, 1)]
        self._where = f"WHERE {' AND '.join(places) or 'true'}"
        self._arguments = list(asked.values())

    async def totals(self) -> list[asyncpg.Record]:
        """One row per currency: documents, and the sums of their amounts."""
        query = (
            f"SELECT i.currency, i.minor_digits, {_selected(_SUMS)} "  # noqa: S608  # the conditions above
            f"FROM billing.invoice AS i {self._where} GROUP BY i.currency, i.minor_digits ORDER BY i.currency"
        )
        rows: list[asyncpg.Record] = await self._connection.fetch(query, *self._arguments, timeout=EXPORT_S_MAX)
        return rows

    async def cdr_totals(self) -> list[asyncpg.Record]:
        """As `totals`, with a row more per currency where documents are left out of OCPI's CDRs (`left_out`)."""
        charges = (
            f"SELECT {_OF_PLACE}, i.currency, i.minor_digits, {_selected(_SUMS)} "  # noqa: S608  # the conditions above
            f"FROM billing.invoice AS i {self._where} "
            "GROUP BY i.station_id, i.connector_id, reserved, i.currency, i.minor_digits"
        )
        sums = ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
        query = (
            f"SELECT currency, minor_digits, left_out, {sums} FROM ("  # noqa: S608  # our own names
            f"SELECT charge.*, cardinality({MISSING}) > 0 AS left_out FROM ({charges}) AS charge {PLACE}"
            ") AS of_places GROUP BY currency, minor_digits, left_out ORDER BY currency"
        )
        rows: list[asyncpg.Record] = await self._connection.fetch(query, *self._arguments, timeout=EXPORT_S_MAX)
        return rows

    async def left_out(self, after: DocumentCursor | None, rows_max: int) -> list[asyncpg.Record]:
        """Up to rows_max documents that OCPI's CDRs leave out, behind that one, with what is missing of each."""
        year, sequence, limit = (f"${len(self._arguments) + place}" for place in (1, 2, 3))
        charges = (
            f"SELECT i.year, i.sequence, i.number, i.kind, i.id, i.session_id, i.reservation_id, {_OF_PLACE} "  # noqa: S608  # as above
            f"FROM billing.invoice AS i {self._where} AND (i.year, i.sequence) > ({year}::int, {sequence}::bigint)"
        )
        query = (
            f"SELECT * FROM (SELECT charge.*, {MISSING} AS missing FROM ({charges}) AS charge {PLACE}) AS found "  # noqa: S608  # as above
            f"WHERE cardinality(missing) > 0 ORDER BY year, sequence LIMIT {limit}::bigint"
        )
        key = (0, 0) if after is None else (after.year, after.sequence)
        rows: list[asyncpg.Record] = await self._connection.fetch(
            query, *self._arguments, *key, rows_max, timeout=EXPORT_S_MAX
        )
        return rows

    async def places(self, wanted: Sequence[tuple[str, int | None, bool]]) -> list[asyncpg.Record]:
        """What is known of each place (station, connector, whether it is a reservation's), and what is missing."""
        columns = [list(column) for column in zip(*wanted, strict=True)] or [[], [], []]
        rows: list[asyncpg.Record] = await self._connection.fetch(PLACE_FACTS, *columns, timeout=EXPORT_S_MAX)
        return rows

    async def copy_csv(self, output: Output, *, for_people: bool) -> None:
        """CSV with a header. `for_people`: safe to open in a spreadsheet; else every text as it is."""
        columns = ", ".join(
            f"{_guarded(name, column) if for_people else column} AS {name}" for name, column in COLUMNS.items()
        )
        await self._copy(f"SELECT {columns} {_FROM}", output, format="csv", header=True, force_quote=_TEXTS)

    async def copy_jsonl(self, output: Output) -> None:
        """One JSON object per line; amounts are decimal texts."""
        columns = ", ".join(
            f"({column})::text AS {name}" if name in _AMOUNTS else f"{column} AS {name}"
            for name, column in COLUMNS.items()
        )
        query = f"SELECT row_to_json(r) FROM (SELECT {columns} {_FROM} {self._where} {_ORDER}) AS r"  # noqa: S608  # our own names
        await self._run(query, output, **_BARE_CSV)

    async def batches(self) -> AsyncGenerator[ExportBatch, None]:
        """The columns of OCPI CDRs, at most BATCH_DOCUMENTS at a time."""
        await self._connection.execute(_BY_KEYS)
        year, sequence = (f"${len(self._arguments) + place}" for place in (1, 2))
        following = f"{self._where} AND (i.year, i.sequence) > ({year}, {sequence}) {_ORDER} LIMIT {BATCH_DOCUMENTS}"
        documents = f"(SELECT * FROM billing.invoice AS i {following}) AS i"  # noqa: S608  # the conditions above
        cdrs = f"SELECT {_selected(CDR_COLUMNS)} FROM {documents} {_CDRS} {_ORDER}"  # noqa: S608  # as above
        lines = f"SELECT {_selected(LINE_COLUMNS)} FROM {documents} {_LINES}"  # noqa: S608  # as above
        after, count = (0, 0), BATCH_DOCUMENTS
        while count == BATCH_DOCUMENTS:
            rows, count = await self._taken(cdrs, *after, **_BARE_CSV)
            if count:
                yield ExportBatch(rows, (await self._taken(lines, *after, format="binary"))[0])
                *_, last_year, last_sequence = rows.rsplit(DELIMITER.encode(), 2)
                after = int(last_year), int(last_sequence)

    async def tariffs(self, versions: Sequence[str]) -> list[asyncpg.Record]:
        """Tariffs' JSON, by the versions that there are."""
        rows: list[asyncpg.Record] = await self._connection.fetch(_TARIFFS, versions, timeout=EXPORT_S_MAX)
        return rows

    async def _taken(self, query: str, *after: int, **how: Any) -> tuple[bytearray, int]:
        """The rows that a query returns, and their number."""
        rows = bytearray()

        async def keep(data: bytes) -> None:
            rows.extend(data)

        tag = await self._run(query, keep, *after, **how)
        return rows, int(tag.removeprefix("COPY "))

    async def _copy(self, select: str, output: Output, **how: Any) -> None:
        await self._run(f"{select} {self._where} {_ORDER}", output, **how)

    async def _run(self, query: str, output: Output, *more: int, **how: Any) -> str:
        """The command tag: COPY and a number of rows."""

        async def take(data: bytes) -> None:
            await output(data)
            await asyncio.sleep(COPY_GATHER_S)

        try:
            tag: str = await self._connection.copy_from_query(
                query, *self._arguments, *more, output=take, timeout=EXPORT_S_MAX, encoding="utf-8", **how
            )
        except BaseException:
            self._connection.terminate()  # unread data of the server would block the connection
            raise
        return tag


@asynccontextmanager
async def snapshot(database: Database, wanted: ExportFilter) -> AsyncIterator[Snapshot]:
    """The documents as of this moment, within the block. Raises Unavailable."""
    async with database.snapshot() as connection:
        yield Snapshot(connection, wanted)


def _selected(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{column} AS {name}" for name, column in columns.items())


def _guarded(name: str, column: str) -> str:
    if name not in _TEXTS:
        return column
    return f"CASE WHEN {column} ~ '^{_FORMULA}' THEN '''' || {column} ELSE {column} END"
