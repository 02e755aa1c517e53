"""The SQL of balances."""

from typing import Final
from uuid import UUID

import asyncpg

from kit.database.postgres import Database

_BALANCE: Final = """
SELECT i.currency, i.minor_digits, count(*) AS documents,
       coalesce(sum(i.payable_minor) FILTER (WHERE i.kind = 'invoice'), 0) AS invoiced,
       coalesce(sum(i.payable_minor) FILTER (WHERE i.kind = 'credit_note'), 0) AS credited,
       coalesce(sum(p.paid), 0) AS paid, coalesce(sum(p.refunded), 0) AS refunded,
       coalesce(sum(i.set_off_minor) FILTER (WHERE i.kind = 'invoice'), 0) AS paid_by_credit_notes,
       coalesce(-sum(i.set_off_minor) FILTER (WHERE i.kind = 'credit_note'), 0) AS set_off
FROM billing.invoice AS i
LEFT JOIN LATERAL (
    SELECT sum(amount_minor) FILTER (WHERE kind = 'charge') AS paid,
           sum(amount_minor) FILTER (WHERE kind = 'refund') AS refunded
    FROM billing.payment WHERE invoice_id = i.id AND status = 'succeeded'
) AS p ON true
WHERE {} GROUP BY i.currency, i.minor_digits ORDER BY i.currency
"""

_OF_CUSTOMER: Final = "i.id IN (SELECT invoice_id FROM billing.document_terms WHERE buyer ->> 'customer_id' = $1)"


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
