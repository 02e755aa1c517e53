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
# each that is replaced or owes nothing any more. One with the same lines cancels itself.
_COLLECTED: Final = f"""
WITH newest AS (
    SELECT DISTINCT ON (subject_id) subject_id, currency, lines FROM billing.collected_charge
    WHERE customer_id = $1 AND statement_id IS NULL ORDER BY subject_id, version DESC
), items AS (
    SELECT n.currency, n.lines, 1 AS sign FROM newest AS n
    JOIN billing.cdr AS r ON r.subject_id = n.subject_id AND r.current AND r.status NOT IN {NOT_OWED_ANY_MORE}
    UNION ALL
    SELECT c.currency, c.lines, -1 FROM billing.collected_charge AS c
    JOIN billing.cdr AS r ON r.subject_id = c.subject_id AND r.current
    WHERE c.customer_id = $1 AND c.invoiced
      AND (r.status IN {NOT_OWED_ANY_MORE} OR c.subject_id IN (SELECT subject_id FROM newest))
)
SELECT currency, sum(sign * (SELECT coalesce(sum((line ->> 'incl_micros')::bigint), 0)
                             FROM jsonb_array_elements(lines) AS line)) AS micros
FROM items GROUP BY currency
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
