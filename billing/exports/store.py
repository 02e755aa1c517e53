"""The SQL of exports. PostgreSQL writes CSV and JSON itself and sends it row by row (COPY), so memory does not grow.

Everything of one export is read in one snapshot: its totals are of exactly the documents that it holds.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from billing.documents import InvoiceKind, InvoiceStatus
from billing.exports.charge_queries import (
    CHARGES,
    IS_CREDIT,
    LINES_OF_CHARGES,
    NO_CHARGE,
    NO_CHARGE_ITEM,
    SESSION_ID,
)
from billing.exports.place_queries import MISSING, PLACE, PLACE_FACTS
from billing.whole_documents import visible_document
from kit.auth.station_filter import EVERY_STATION, StationFilter
from kit.database.postgres import COPY_GATHER_S, Database
from kit.spreadsheets import FORMULA
from kit.web.paging import Cursor, Int16, Int64

EXPORT_S_MAX: Final = 3_600  # of one statement: at 50 k documents/s, 180 M of them
BATCH_DOCUMENTS: Final = 8_192  # at once, for OCPI: ~1 kB each with the lines, ~10 kB each while they become JSON

Output = Callable[[bytes], Awaitable[None]]

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
    "year": "i.year",  # last, with sequence and item: where the next round begins is read off the end
    "sequence": "i.sequence",
    "item": "0::smallint",
}
# The same of a charge on a collective invoice: `item` is its first line there.
CHARGE_COLUMNS: Final[Mapping[str, str]] = {
    **CDR_COLUMNS,
    **{"credit": IS_CREDIT, "session_id": SESSION_ID, "cdr_id": "c.id", "item": "s.item"},
    **{name: f"c.{name}" for name in ("driver_id", "station_id", "connector_id")},
    **{"total_excl_micros": "t.excl_micros", "total_incl_micros": "t.incl_micros"},
}
# Lines of components only: an adjustment to a minimum or maximum price is in a CDR's total and nowhere else. No column
# is null, so that each row has the same length in COPY's binary format.
LINE_COLUMNS: Final[Mapping[str, str]] = {
    "year": "i.year",
    "sequence": "i.sequence",
    "item": "0::smallint",
    "line": "l.line",
    "dimension": 'l.dimension::"char"',  # its first letter
    "volume": "l.volume",
    "excl_micros": "l.excl_micros",
    "incl_micros": "l.incl_micros",
}
CHARGE_LINE_COLUMNS: Final[Mapping[str, str]] = {
    **LINE_COLUMNS,
    **{"year": "s.year", "sequence": "s.sequence", "item": "s.item", "line": "(l.line - s.item + 1)::smallint"},
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
_OF_DOCUMENT: Final = tuple(
    f"i.{name}" for name in ("currency", "minor_digits", "kind", "payable_excl_minor", "payable_minor", "set_off_minor")
)
_OF_PLACE: Final = "i.station_id, i.connector_id, i.session_id IS NULL AS reserved"
# What may be left out: the columns of a document, a charge on a collective invoice, or what of one is of no charge; and
# what each is joined with.
_LEFT_OUT: Final[Mapping[str, str]] = {
    f"0::smallint AS item, i.number, i.kind, i.id, i.session_id, i.reservation_id, {_OF_PLACE}": (
        "JOIN (SELECT) AS single ON i.station_id <> ''"
    ),
    f"s.item, i.number, i.kind, i.id, {SESSION_ID}, c.reservation_id, c.station_id, c.connector_id, "
    "c.kind = 'reservation'": CHARGES,
    f"{NO_CHARGE_ITEM}, i.number, i.kind, i.id, NULL, NULL, '', NULL, false": NO_CHARGE,
}
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
    only: StationFilter = EVERY_STATION


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
    item: Int16 = 0  # of a collective invoice: the charge


class ExportBatch(NamedTuple):
    """Consecutive documents, or charges on collective invoices, with their lines, as COPY writes them."""

    documents: bytearray  # CDR_COLUMNS as CSV with QUOTE and DELIMITER, without a header
    lines: bytearray  # LINE_COLUMNS as COPY's binary format has them


class Snapshot:
    """One export's view of the documents."""

    def __init__(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", wanted: ExportFilter) -> None:
        self._connection = connection
        asked = {name: value for name in _CONDITIONS if (value := getattr(wanted, name)) is not None}
        places = [_CONDITIONS[name].format(f"${place}") for place, name in enumerate(asked, 1)]
        self._arguments = list(asked.values())
        if wanted.only.is_limited:
            places.append(visible_document("i", len(asked) + 1))
            self._arguments += wanted.only.values
        self._where = f"WHERE {' AND '.join(places) or 'true'}"

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
            f"FROM billing.invoice AS i {self._where} AND i.station_id <> '' "
            "GROUP BY i.station_id, i.connector_id, reserved, i.currency, i.minor_digits"
        )
        sums = ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
        of_singles = (
            f"SELECT currency, minor_digits, left_out, {', '.join(_SUMS)} FROM ("  # noqa: S608  # our own names
            f"SELECT charge.*, cardinality({MISSING}) > 0 AS left_out FROM ({charges}) AS charge {PLACE}) AS one"
        )
        query = (
            f"{_collective_totals(self._where)} SELECT currency, minor_digits, left_out, {sums} "  # noqa: S608  # as above
            f"FROM ({of_singles} UNION ALL SELECT * FROM of_amounts UNION ALL SELECT * FROM of_documents) AS found "
            "GROUP BY currency, minor_digits, left_out ORDER BY currency"
        )
        rows: list[asyncpg.Record] = await self._connection.fetch(query, *self._arguments, timeout=EXPORT_S_MAX)
        return rows

    async def left_out(self, after: DocumentCursor | None, rows_max: int) -> list[asyncpg.Record]:
        """Up to rows_max documents that OCPI's CDRs leave out, behind that one, with what is missing of each; of a
        collective invoice its charges of which something is missing, and what on it is of no charge."""
        year, sequence, item, limit = (f"${len(self._arguments) + place}" for place in (1, 2, 3, 4))
        where = f"{self._where} AND (i.year, i.sequence) >= ({year}::int, {sequence}::bigint)"
        charges = " UNION ALL ".join(
            f"SELECT i.year, i.sequence, {columns} FROM billing.invoice AS i {joined} {where}"  # noqa: S608  # as above
            for columns, joined in _LEFT_OUT.items()
        )
        query = (
            f"SELECT * FROM (SELECT charge.*, {MISSING} AS missing FROM ({charges}) AS charge {PLACE}) AS found "  # noqa: S608  # as above
            f"WHERE cardinality(missing) > 0 AND (year, sequence, item) > ({year}, {sequence}, {item}::smallint) "
            f"ORDER BY year, sequence, item LIMIT {limit}::bigint"
        )
        key = (0, 0, 0) if after is None else (after.year, after.sequence, after.item)
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
        """The columns of OCPI CDRs, at most BATCH_DOCUMENTS at a time: those of documents of one charge, then those of
        the charges on collective invoices."""
        await self._connection.execute(_BY_KEYS)
        async with aclosing(self._singles()) as singles, aclosing(self._charges()) as charges:
            async for batch in singles:
                yield batch
            async for batch in charges:
                yield batch

    async def _singles(self) -> AsyncGenerator[ExportBatch, None]:
        year, sequence = (f"${len(self._arguments) + place}" for place in (1, 2))
        behind = f"i.station_id <> '' AND (i.year, i.sequence) > ({year}, {sequence})"
        following = f"{self._where} AND {behind} {_ORDER} LIMIT {BATCH_DOCUMENTS}"
        documents = f"(SELECT * FROM billing.invoice AS i {following}) AS i"  # noqa: S608  # the conditions above
        cdrs = f"SELECT {_selected(CDR_COLUMNS)} FROM {documents} {_CDRS} {_ORDER}"  # noqa: S608  # as above
        lines = f"SELECT {_selected(LINE_COLUMNS)} FROM {documents} {_LINES}"  # noqa: S608  # as above
        after, count = (0, 0), BATCH_DOCUMENTS
        while count == BATCH_DOCUMENTS:
            rows, count = await self._taken(cdrs, *after, **_BARE_CSV)
            if count:
                yield ExportBatch(rows, (await self._taken(lines, *after, format="binary"))[0])
                *_, last_year, last_sequence, _ = rows.rsplit(DELIMITER.encode(), 3)
                after = int(last_year), int(last_sequence)

    async def _charges(self) -> AsyncGenerator[ExportBatch, None]:
        year, sequence, item = (f"${len(self._arguments) + place}" for place in (1, 2, 3))
        following = (
            f"FROM billing.invoice AS i {CHARGES} {self._where} AND (i.year, i.sequence) >= ({year}, {sequence}) "
            f"AND (i.year, i.sequence, s.item) > ({year}, {sequence}, {item}::smallint) "
            f"ORDER BY i.year, i.sequence, s.item LIMIT {BATCH_DOCUMENTS}"
        )
        charges = f"SELECT {_selected(CHARGE_COLUMNS)} {following}"
        places = f"SELECT i.id, i.year, i.sequence, s.item, s.next_item {following}"
        lines = f"SELECT {_selected(CHARGE_LINE_COLUMNS)} FROM ({places}) AS s {LINES_OF_CHARGES}"  # noqa: S608  # as above
        after, count = (0, 0, 0), BATCH_DOCUMENTS
        while count == BATCH_DOCUMENTS:
            rows, count = await self._taken(charges, *after, **_BARE_CSV)
            if count:
                yield ExportBatch(rows, (await self._taken(lines, *after, format="binary"))[0])
                *_, last_year, last_sequence, last_item = rows.rsplit(DELIMITER.encode(), 3)
                after = int(last_year), int(last_sequence), int(last_item)

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
    async with database.snapshot(download=True) as connection:
        yield Snapshot(connection, wanted)


def _collective_totals(where: str) -> str:
    """The sums of collective invoices, as WITH: amounts by charge (of_amounts), and what is of whole documents
    (of_documents), which are left out if anything of them is."""
    of_charges = ", ".join(("i.id", *_OF_DOCUMENT, "t.excl_micros", "t.incl_micros"))
    return f"""
WITH charge AS MATERIALIZED (
    SELECT {of_charges}, c.station_id, c.connector_id, c.kind = 'reservation' AS reserved
    FROM billing.invoice AS i {CHARGES} {where}
    UNION ALL SELECT {of_charges}, '' AS station_id, NULL, false FROM billing.invoice AS i {NO_CHARGE} {where}
), place AS (
    SELECT charge.*, cardinality({MISSING}) > 0 AS left_out
    FROM (SELECT DISTINCT station_id, connector_id, reserved FROM charge) AS charge {PLACE}
), found AS (
    SELECT charge.*, p.left_out FROM charge JOIN place AS p ON p.station_id = charge.station_id
     AND p.reserved = charge.reserved AND coalesce(p.connector_id, -1) = coalesce(charge.connector_id, -1)
), of_amounts AS (
    SELECT currency, minor_digits, left_out, count(*) FILTER (WHERE left_out) AS documents,
           count(*) FILTER (WHERE left_out AND kind = 'credit_note') AS credit_notes, sum(excl_micros) AS excl_micros,
           sum(incl_micros) AS incl_micros, 0 AS payable_excl_minor, 0 AS payable_minor, 0 AS set_off_minor
    FROM found GROUP BY currency, minor_digits, left_out
), of_documents AS (
    SELECT currency, minor_digits, left_out, (NOT left_out)::int AS documents,
           (NOT left_out AND kind = 'credit_note')::int AS credit_notes, 0 AS excl_micros, 0 AS incl_micros,
           payable_excl_minor, payable_minor, set_off_minor
    FROM (
        SELECT id, currency, minor_digits, kind, payable_excl_minor, payable_minor, set_off_minor,
               bool_or(left_out) AS left_out
        FROM found GROUP BY id, currency, minor_digits, kind, payable_excl_minor, payable_minor, set_off_minor
    ) AS document
)"""  # noqa: S608  # our own names


def _selected(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{column} AS {name}" for name, column in columns.items())


def _guarded(name: str, column: str) -> str:
    if name not in _TEXTS:
        return column
    formula = FORMULA.replace("'", "''")
    return f"CASE WHEN {column} ~ '^{formula}' THEN '''' || {column} ELSE {column} END"
