"""The physical limit of writing invoices: the same rows by INSERT, with as many per transaction."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import asyncpg

from benchmarks.processes import TimeMeter, TimeSpent

# For each table, in the order of foreign keys: its rows, each preceded by the number of its invoice.
_ROWS: Final = {
    "cdr": "SELECT i.sequence, t.* FROM billing.invoice AS i JOIN billing.cdr AS t ON t.id = i.cdr_id",
    "invoice": "SELECT t.sequence, t.* FROM billing.invoice AS t",
    "invoice_line": "SELECT i.sequence, t.* FROM billing.invoice AS i JOIN billing.invoice_line AS t "
    "ON t.invoice_id = i.id",
    "events_processed": "SELECT row_number() OVER (), t.* FROM billing.events_processed AS t",
    "outbox": "SELECT row_number() OVER (), event_id, exchange, routing_key, body FROM billing.outbox",
}
_TARIFFS: Final = "SELECT * FROM billing.tariff_version"
Rows = Sequence[tuple[Any, ...]]


async def bare_inserts(source: str, target: str, meter: TimeMeter, at_once: int) -> TimeSpent:
    """Insert the rows of all documents into the same, empty tables, `at_once` invoices per transaction."""
    source_connection, connection = await asyncpg.connect(source), await asyncpg.connect(target)
    try:
        tariffs = await source_connection.fetch(_TARIFFS)
        await connection.executemany(
            _insert("tariff_version", [*tariffs[0].keys()]), [tuple(row.values()) for row in tariffs]
        )
        statements, parts = {}, {}
        for table, query in _ROWS.items():
            rows = await source_connection.fetch(f"{query} ORDER BY 1")
            statements[table] = _insert(table, [*rows[0].keys()][1:])
            parts[table] = _parts([tuple(row.values()) for row in rows], at_once)
        meter.begin()
        for number in range(len(parts["invoice"])):
            async with connection.transaction():
                for table, statement in statements.items():
                    await connection.executemany(statement, parts[table][number])
        return meter.end()
    finally:
        await source_connection.close()
        await connection.close()


def _parts(rows: Rows, at_once: int) -> list[Rows]:
    """Rows grouped by invoice number, from 1, which is removed."""
    return [[row[1:] for row in of_part] for _, of_part in groupby(rows, lambda row: (row[0] - 1) // at_once)]


def _insert(table: str, columns: Sequence[str]) -> str:
    values = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    return f"INSERT INTO billing.{table} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608  # our own names
