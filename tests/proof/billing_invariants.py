"""Invariants of billing after any faults, each as a list of its violations.

The expected figures are from expected_bills; nothing is rated here.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg

from schemas.topics import TELEMETRY_AGGREGATED, routing_key
from tests.proof.expected_bills import Bill, Line
from voltstream.services import all_services

Connection = psycopg.Connection[tuple[Any, ...]]
Bills = Mapping[str, Bill]
"""By the device's id of the session."""

_SHOWN = 3  # violations of one kind
OUTBOXES = [service.owned_schema for service in all_services() if service.migrations]
_VALID = ("open", "paid")
_DOCUMENTS = """
SELECT i.subject_id, c.device_session_id, i.id, i.kind, i.status, i.version, i.credits, i.total_excl_micros,
    i.total_incl_micros, i.payable_minor,
    array(SELECT row_to_json(l) FROM (
        SELECT element, dimension, volume, billed, price_micros, vat_ppm, excl_micros, incl_micros
        FROM billing.invoice_line WHERE invoice_id = i.id ORDER BY line) AS l)
FROM billing.invoice AS i JOIN billing.cdr AS c ON c.id = i.cdr_id ORDER BY i.year, i.sequence
"""


def by_component(line: Line) -> tuple[bool, int, str]:
    """Sort key: the order of lines on the document does not matter."""
    return line.element is None, line.element or 0, line.dimension


def billed(lines: Sequence[Line]) -> list[Line]:
    """Lines without the volume before step_size: later readings that change only that are in the CDR alone."""
    return [line._replace(volume=line.billed) for line in lines]


class Document:
    """An invoice or a credit note as stored."""

    def __init__(self, row: Sequence[Any]) -> None:
        self.subject, self.name, self.id, self.kind, self.status, self.version, self.credits = row[:7]
        self.excl_micros, self.incl_micros, self.payable_fen = row[7:10]
        self.lines = tuple(sorted((Line(**line) for line in row[10]), key=by_component))

    @property
    def is_valid(self) -> bool:
        """Whether it is an invoice without a credit note."""
        return self.kind == "invoice" and self.status in _VALID

    @property
    def money(self) -> tuple[object, ...]:
        """Its billed lines, totals and amount to pay."""
        return billed(self.lines), self.excl_micros, self.incl_micros, self.payable_fen


def violations(url: str, bills: Bills) -> list[str]:
    """Violations of all invariants, in one snapshot of the database."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        documents = [Document(row) for row in connection.execute(_DOCUMENTS).fetchall()]
        checks: list[Callable[[], list[str]]] = [
            lambda: one_charge_a_session(connection, bills),
            lambda: session_costs_are_exact(connection, bills),
            lambda: one_invoice_is_valid(documents, bills),
            lambda: documents_are_consistent(documents),
            lambda: documents_sum_to_the_bill(documents, bills),
            lambda: numbers_have_no_gaps(connection),
            lambda: no_event_is_pending(connection),
        ]
        return [violation for check in checks for violation in check()]


def settled(url: str, bills: Bills) -> bool:
    """Whether all readings are stored, all sessions completed and billed, and all outboxes empty."""
    with psycopg.connect(url) as connection:
        waiting = " + ".join(f"(SELECT count(*) FROM {schema}.outbox)" for schema in OUTBOXES)
        row = connection.execute(
            f"SELECT {waiting}, (SELECT sum(stored)::bigint FROM telemetry.ledger),"
            " (SELECT count(*) FROM telemetry.session WHERE ended_at IS NOT NULL),"
            " (SELECT count(*) FROM telemetry.session s JOIN billing.cdr c ON c.subject_id = s.id AND c.current"
            "  AND c.revision = s.revision)"
        ).fetchone()
    return row == (0, sum(bill.readings for bill in bills.values()), len(bills), len(bills))


def counted(url: str, table: str) -> int:
    """Number of rows of a table."""
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def invoiced_once(url: str) -> set[str]:
    """Sessions with exactly one document."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT device_session_id FROM billing.cdr AS c JOIN billing.invoice AS i USING (subject_id)"
            " WHERE c.current GROUP BY 1 HAVING count(*) = 1"
        ).fetchall()
    return {name for (name,) in rows}


def documents(url: str) -> set[tuple[str, str, int]]:
    """Id, number and total incl. VAT of every document."""
    with psycopg.connect(url) as connection:
        return set(connection.execute("SELECT id::text, number, total_incl_micros FROM billing.invoice").fetchall())


def one_charge_a_session(connection: Connection, bills: Bills) -> list[str]:
    """One current CDR per session, with its amounts and consumption; all earlier versions are kept."""
    rows = connection.execute(
        "SELECT device_session_id, status, energy_uj, readings, total_excl_micros, total_incl_micros,"
        " stream_excl_micros, stream_incl_micros, consumption::text FROM billing.cdr WHERE current"
    ).fetchall()
    wrong = []
    for name, *stored, consumption in rows:
        bill = bills[name]
        money = (bill.excl_micros, bill.incl_micros)
        used = {(line.element, line.dimension): line.volume for line in bill.lines if line.element is not None}
        volumes = {(one["element"], one["dimension"]): one["volume"] for one in msgspec.json.decode(consumption)}
        if (stored, volumes) != (["invoiced", bill.energy_uj, bill.readings, *money, *money], used):
            wrong.append((name, stored, volumes, bill))
    gaps = connection.execute(
        "SELECT subject_id, count(*), max(version) FROM billing.cdr GROUP BY 1 HAVING count(*) <> max(version)"
    ).fetchall()
    return [
        *_violations("sessions without exactly one CDR", _not_once(bills, [name for name, *_ in rows])),
        *_violations("CDRs that differ from the expected bill", wrong),
        *_violations("CDRs with missing versions", gaps),
    ]


def session_costs_are_exact(connection: Connection, bills: Bills) -> list[str]:
    """The stream's own costs and their parts are those of the expected bill."""
    rows = connection.execute(
        "SELECT session_id, energy_uj, readings, cost_excl_micros, cost_incl_micros, cost_energy_micros,"
        " cost_time_micros, cost_parking_micros, cost_flat_micros FROM telemetry.session"
    ).fetchall()
    wrong = []
    for name, *stored in rows:
        bill = bills[name]
        parts = [
            sum(line.excl_micros for line in bill.lines if line.dimension == dimension)
            for dimension in ("ENERGY", "TIME", "PARKING_TIME", "FLAT")
        ]
        if stored != [bill.energy_uj, bill.readings, bill.excl_micros, bill.incl_micros, *parts]:
            wrong.append((name, stored, bill))
    return [
        *_violations("sessions without exactly one row", _not_once(bills, [name for name, *_ in rows])),
        *_violations("sessions with another cost", wrong),
    ]


def one_invoice_is_valid(documents: Sequence[Document], bills: Bills) -> list[str]:
    """Each session has one uncredited invoice, equal to the expected bill line by line."""
    valid = [document for document in documents if document.is_valid]
    wrong = [
        (document.name, document.money, bills[document.name])
        for document in valid
        if document.money != (billed(bills[document.name].lines), *bills[document.name][3:])
    ]
    return [
        *_violations("sessions without exactly one uncredited invoice", _not_once(bills, [one.name for one in valid])),
        *_violations("invoices that differ from the expected bill", wrong),
    ]


def documents_are_consistent(documents: Sequence[Document]) -> list[str]:
    """Lines sum to totals; every superseded invoice, and no other, is credited once, to the last unit."""
    unsummed = [
        (one.name, one.id)
        for one in documents
        if (one.excl_micros, one.incl_micros)
        != (sum(line.excl_micros for line in one.lines), sum(line.incl_micros for line in one.lines))
    ]
    notes = [one for one in documents if one.kind == "credit_note"]
    invoices = {one.id: one for one in documents if one.kind == "invoice"}
    unequal = [
        (note.name, note.id)
        for note in notes
        if [(line.excl_micros, line.incl_micros) for line in note.lines]
        != [(-line.excl_micros, -line.incl_micros) for line in invoices[note.credits].lines]
        or note.payable_fen != -invoices[note.credits].payable_fen
    ]
    superseded = Counter(one.id for one in invoices.values() if not one.is_valid)
    return [
        *_violations("documents whose lines do not sum to the total", unsummed),
        *_violations("credit notes that differ from their invoice", unequal),
        *_violations(
            "invoices whose credit notes contradict their status",
            list((superseded - credited_by(notes)) + (credited_by(notes) - superseded)),
        ),
        *_violations("versions invoiced twice", _several([(one.subject, one.version) for one in invoices.values()])),
    ]


def credited_by(notes: Sequence[Document]) -> Counter[Any]:
    """The number of credit notes of each invoice."""
    return Counter(note.credits for note in notes)


def documents_sum_to_the_bill(documents: Sequence[Document], bills: Bills) -> list[str]:
    """All documents of a session sum to the expected bill."""
    total = {name: [0, 0, 0] for name in bills}
    for one in documents:
        for index, amount in enumerate((one.excl_micros, one.incl_micros, one.payable_fen)):
            total[one.name][index] += amount
    wrong = [(name, sums, bills[name]) for name, sums in total.items() if tuple(sums) != bills[name][3:]]
    return _violations("sessions whose documents do not sum to the expected bill", wrong)


def numbers_have_no_gaps(connection: Connection) -> list[str]:
    """Numbers of a year are 1, 2, 3, … in the order of issue."""
    rows = connection.execute(
        "SELECT year, sequence FROM billing.invoice ORDER BY issued_at, year, sequence"
    ).fetchall()
    seen: Counter[int] = Counter()
    wrong = []
    for year, sequence in rows:
        seen[year] += 1
        if sequence != seen[year]:
            wrong.append((year, sequence, seen[year]))
    return _violations("numbers (year, number, expected number)", wrong)


def no_event_is_pending(connection: Connection) -> list[str]:
    """No event in an outbox, no dead letters. Windows are published by the clock, so theirs do not count."""
    wanted = f"routing_key <> '{routing_key(TELEMETRY_AGGREGATED)}'"
    waiting = {
        schema: connection.execute(f"SELECT count(*) FROM {schema}.outbox WHERE {wanted}".encode()).fetchall()
        for schema in OUTBOXES
    }
    letters = connection.execute("SELECT queue, error FROM events.dead_letter").fetchall()
    return [
        *_violations("events in the outbox", [(schema, rows) for schema, rows in waiting.items() if rows != [(0,)]]),
        *_violations("dead letters", letters),
    ]


def _not_once(bills: Bills, names: Sequence[str]) -> list[tuple[str, int]]:
    seen = Counter(names)
    return [(name, seen[name]) for name in {*bills, *seen} if seen[name] != (name in bills)]


def _several(keys: Sequence[Any]) -> list[Any]:
    return [key for key, times in Counter(keys).items() if times > 1]


def _violations(what: str, found: Sequence[Any]) -> list[str]:
    return [f"{what}: {len(found)}, as {list(found[:_SHOWN])}"] if found else []
