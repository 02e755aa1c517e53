"""The SQL of balances."""

from typing import Final
from uuid import UUID

import asyncpg

from billing.statements.store import NOT_OWED_ANY_MORE
from kit.database.postgres import Database

_BALANCE: Final = """
SELECT i.currency, i.minor_digits, count(*) AS documents,
       coalesce(sum(i.payable_minor) FILTER (WHERE i.kind = 'invoice'), 0) AS invoiced,
       coalesce(sum(i.payable_minor) FILTER (WHERE i.kind = 'credit_note'), 0) AS credited,
       coalesce(sum(p.paid), 0) AS paid, coalesce(sum(p.refunded), 0) AS refunded
FROM billing.invoice AS i
LEFT JOIN LATERAL (
    SELECT sum(amount_minor) FILTER (WHERE kind = 'charge') AS paid,
           sum(amount_minor) FILTER (WHERE kind = 'refund') AS refunded
    FROM billing.payment WHERE invoice_id = i.id AND status = 'succeeded'
) AS p ON true
WHERE {} GROUP BY i.currency, i.minor_digits ORDER BY i.currency
"""

_OF_CUSTOMER: Final = "i.id IN (SELECT invoice_id FROM billing.document_terms WHERE buyer ->> 'customer_id' = $1)"

# As statements.composition.items_of: the newest waiting version of each subject that owes, less the invoiced version of
# each that is replaced or owes nothing any more; and as statements.given_back what was credited of charges before that
# are taken back.
_COLLECTED: Final = f"""
WITH newest AS (
    SELECT DISTINCT ON (subject_id) cdr_id, subject_id, lines FROM billing.collected_charge
    WHERE customer_id = $1 AND statement_id IS NULL ORDER BY subject_id, version DESC
), charges AS (
    SELECT c.currency, c.statement_id, c.invoiced, n.cdr_id IS NOT NULL AS newest,
           r.status IN {NOT_OWED_ANY_MORE} AS not_owed,
           c.invoiced AND (r.status IN {NOT_OWED_ANY_MORE} OR w.cdr_id IS NOT NULL) AS replaced,
           c.invoiced AND (r.status IN {NOT_OWED_ANY_MORE} OR coalesce(w.lines <> c.lines, false)) AS taken_back,
           (SELECT coalesce(sum((line ->> 'incl_micros')::bigint), 0)
            FROM jsonb_array_elements(c.lines) AS line) AS micros
    FROM billing.collected_charge AS c
    JOIN billing.cdr AS r ON r.subject_id = c.subject_id AND r.current
    LEFT JOIN newest AS n ON n.cdr_id = c.cdr_id
    LEFT JOIN newest AS w ON w.subject_id = c.subject_id
    WHERE c.customer_id = $1 AND (c.invoiced OR n.cdr_id IS NOT NULL)
), standing AS (
    SELECT currency, statement_id, sum(micros) AS micros,
           coalesce(sum(micros) FILTER (WHERE taken_back), 0) AS taken_back
    FROM charges WHERE invoiced GROUP BY currency, statement_id
), items AS (
    SELECT currency, micros FROM charges WHERE newest AND NOT not_owed
    UNION ALL
    SELECT currency, -micros FROM charges WHERE replaced  -- also by one with the same lines, which are above
    UNION ALL
    SELECT s.currency, greatest(n.micros - s.micros + s.taken_back, 0) - greatest(n.micros - s.micros, 0)
    FROM standing AS s
    CROSS JOIN LATERAL (SELECT -coalesce(sum(total_incl_micros), 0) AS micros
                        FROM billing.invoice WHERE credits = s.statement_id) AS n
)
SELECT currency, sum(micros) AS micros FROM items GROUP BY currency
"""  # noqa: S608  # our own names


class BalanceStore:
    """Raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_driver(self, driver_id: str) -> list[asyncpg.Record]:
        """A row for each currency."""
        return await self._database.fetch(_BALANCE.format("i.driver_id = $1"), driver_id)

    async def of_customer(self, customer_id: UUID) -> list[asyncpg.Record]:
        """The same, over the documents that name the customer as the buyer."""
        return await self._database.fetch(_BALANCE.format(_OF_CUSTOMER), str(customer_id))

    async def collected(self, customer_id: UUID) -> dict[str, int]:
        """By currency, in micro-units incl. VAT: what the next collective invoices add up to."""
        rows = await self._database.fetch(_COLLECTED, customer_id)
        return {row["currency"]: int(row["micros"]) for row in rows}
