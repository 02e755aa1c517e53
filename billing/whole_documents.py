"""SQL: which documents whoever is limited to some stations may see.

A document is of one charge, and so of one station; a collective invoice is of a customer's charges at many. It is seen
whole or not at all: only where each of its charges is at one of the stations, and nothing on it is of no charge (parts
of other documents that are credited or given back).
"""

from billing.exports.charge_queries import NO_CHARGE_LINE
from kit.auth.station_filter import visible


def visible_document(alias: str, first: int) -> str:
    """SQL: that document (billing.invoice, by its alias) passes the filter whose values are $first and $first + 1.

    A credit note has the charges of its invoice.
    """
    charged = f"coalesce({alias}.credits, {alias}.id)"
    return f"""
(CASE WHEN {alias}.station_id <> '' THEN {visible(f"{alias}.station_id", first)}
 ELSE ${first}::text[] IS NULL AND ${first + 1}::text IS NULL OR (
    EXISTS (SELECT FROM billing.statement_item AS wi WHERE wi.invoice_id = {charged})
    AND NOT EXISTS (
        SELECT FROM billing.statement_item AS wi JOIN billing.cdr AS wc ON wc.id = wi.cdr_id
        WHERE wi.invoice_id = {charged} AND NOT {visible("wc.station_id", first)}
    )
    AND NOT EXISTS (SELECT FROM billing.invoice_line AS l WHERE l.invoice_id = {alias}.id AND {NO_CHARGE_LINE})
 ) END)"""  # noqa: S608  # our own names
