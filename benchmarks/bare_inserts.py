"""The limit of everything that writes invoices: the same rows by INSERT, as many in a transaction, nothing else."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import asyncpg

from benchmarks.processes import Meter, Spent

# Of each table, in an order that its references allow: the rows, each after the number of its invoice.
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


async def bare_inserts(source: str, target: str, meter: Meter, at_once: int) -> Spent:
    """The rows of all documents into equal empty tables, those of `at_once` invoices in a transaction."""
    have, want = await asyncpg.connect(source), await asyncpg.connect(target)
    try:
        tariffs = await have.fetch(_TARIFFS)
        await want.executemany(
            _insert("tariff_version", [*tariffs[0].keys()]), [tuple(row.values()) for row in tariffs]
        )
        statements, parts = {}, {}
        for table, query in _ROWS.items():
            rows = await have.fetch(f"{query} ORDER BY 1")
            statements[table] = _insert(table, [*rows[0].keys()][1:])
            parts[table] = _parts([tuple(row.values()) for row in rows], at_once)
        meter.begin()
        for number in range(len(parts["invoice"])):
            async with want.transaction():
                for table, statement in statements.items():
                    await want.executemany(statement, parts[table][number])
        return meter.end()
    finally:
        await have.close()
        await want.close()


def _parts(rows: Rows, at_once: int) -> list[Rows]:
    """By number, which is taken off; numbers begin with 1."""
    return [[row[1:] for row in of_part] for _, of_part in groupby(rows, lambda row: (row[0] - 1) // at_once)]


def _insert(table: str, columns: Sequence[str]) -> str:
    values = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    return f"INSERT INTO billing.{table} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608  # our own names
