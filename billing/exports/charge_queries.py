"""SQL of the charges on collective invoices: a CDR is of one charge, whatever document invoices it."""

from typing import Final

# The charges on a collective invoice `i`, or on its credit note, which has the same lines: `s` the place of each, by
# its first line, `t` its amounts there, `c` its CDR. Lines of parts that are credited, or given back, are of no charge.
NO_CHARGE_LINE: Final = "l.dimension = 'CREDIT'"
_OF_CHARGE: Final = f"l.line >= s.item AND (s.next_item IS NULL OR l.line < s.next_item) AND NOT {NO_CHARGE_LINE}"
CHARGES: Final = f"""
JOIN LATERAL (
    SELECT o.line AS item, lead(o.line) OVER (ORDER BY o.line) AS next_item, o.cdr_id, o.taken_back
    FROM billing.statement_item AS o WHERE o.invoice_id = coalesce(i.credits, i.id)
) AS s ON i.station_id = ''
JOIN LATERAL (
    SELECT sum(l.excl_micros)::bigint AS excl_micros, sum(l.incl_micros)::bigint AS incl_micros
    FROM billing.invoice_line AS l WHERE l.invoice_id = i.id AND {_OF_CHARGE} HAVING count(*) > 0
) AS t ON true
JOIN billing.cdr AS c ON c.id = s.cdr_id
"""  # noqa: S608  # our own names
LINES_OF_CHARGES: Final = f"""
JOIN billing.invoice_line AS l ON l.invoice_id = s.id AND {_OF_CHARGE} WHERE l.element IS NOT NULL
"""
NO_CHARGE: Final = f"""
JOIN LATERAL (
    SELECT sum(l.excl_micros)::bigint AS excl_micros, sum(l.incl_micros)::bigint AS incl_micros
    FROM billing.invoice_line AS l WHERE l.invoice_id = i.id AND {NO_CHARGE_LINE} HAVING count(*) > 0
) AS t ON i.station_id = ''
"""  # noqa: S608  # our own names
# Taken back on an invoice, or invoiced by a credit note: the sign of one reverses that of the other.
IS_CREDIT: Final = "(i.kind = 'credit_note') <> s.taken_back"
SESSION_ID: Final = "CASE WHEN c.kind = 'session' THEN c.subject_id END"
NO_CHARGE_ITEM: Final = 32_767  # behind all charges of the document: a line's number is a smallint
