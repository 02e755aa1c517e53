"""The SQL of customers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.paging import Cursor, Micros, from_micros

DATA_COLUMNS: Final = (
    *("name", "address", "tax_id", "email", "reference", "electronic_address", "billing", "time_zone"),
    *("payment_days", "payment_terms"),
)
_SET: Final = ", ".join(f"{name} = ${place}" for place, name in enumerate(DATA_COLUMNS, 4))
_VALUES: Final = ", ".join(f"${place}" for place in range(3, 3 + len(DATA_COLUMNS)))
_WHOLE: Final = """
SELECT k.*, ARRAY(SELECT driver_id FROM billing.customer_driver AS d WHERE d.customer_id = k.id ORDER BY driver_id)
       AS driver_ids
FROM billing.customer AS k
"""
_ONE: Final = f"{_WHOLE} WHERE k.id = $1"
_MANY: Final = f"""{_WHOLE}
WHERE ($1::text IS NULL OR k.id = (SELECT customer_id FROM billing.customer_driver WHERE driver_id = $1))
  AND ($2::timestamptz IS NULL OR (k.created_at, k.id) > ($2, $3::uuid))
ORDER BY k.created_at, k.id LIMIT $4
"""  # noqa: S608  # our own names
_ADD: Final = f"""
INSERT INTO billing.customer (id, version, created_at, changed_at, {", ".join(DATA_COLUMNS)})
VALUES ($1, 1, $2, $2, {_VALUES})
"""  # noqa: S608  # our own names
_LOCK: Final = "SELECT version FROM billing.customer WHERE id = $1 FOR UPDATE"
_CHANGE: Final = f"UPDATE billing.customer SET version = $2, changed_at = $3, {_SET} WHERE id = $1"  # noqa: S608  # our own names
_UNLINK: Final = "DELETE FROM billing.customer_driver WHERE customer_id = $1 AND driver_id <> ALL ($2::text[])"
_LINK: Final = """
INSERT INTO billing.customer_driver (driver_id, customer_id) SELECT unnest($2::text[]), $1 ON CONFLICT DO NOTHING
"""
_TAKEN: Final = """
SELECT d.driver_id, d.customer_id FROM billing.customer_driver AS d
WHERE d.driver_id = ANY ($2::text[]) AND d.customer_id <> $1 ORDER BY d.driver_id
"""
_DELETE: Final = "DELETE FROM billing.customer WHERE id = $1"


class CustomerCursor(Cursor, frozen=True, tag="k"):
    """The last customer seen."""

    created_us: Micros
    id: UUID


class CustomerStore:
    """Reads customers. Raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def customer(self, customer_id: UUID) -> asyncpg.Record | None:
        """A customer with `driver_ids`."""
        return await self._database.fetchrow(_ONE, customer_id)

    async def customers(
        self, driver_id: str | None, after: CustomerCursor | None, rows_max: int
    ) -> Sequence[asyncpg.Record]:
        """Up to rows_max customers, oldest first; only that driver's, if given."""
        key = (None, None) if after is None else (from_micros(after.created_us), after.id)
        return await self._database.fetch(_MANY, driver_id, *key, rows_max)


async def read(connection: Transaction, customer_id: UUID) -> asyncpg.Record | None:
    """A customer with `driver_ids`, as this transaction sees it."""
    return await connection.fetchrow(_ONE, customer_id)


async def add(connection: Transaction, customer_id: UUID, data: Sequence[Any], now: datetime) -> None:
    """Store a customer. `data`: as DATA_COLUMNS."""
    await connection.execute(_ADD, customer_id, now, *data)


async def lock(connection: Transaction, customer_id: UUID) -> int | None:
    """The customer's version; nobody else changes it until the transaction ends. None: there is none."""
    version: int | None = await connection.fetchval(_LOCK, customer_id)
    return version


async def change(connection: Transaction, customer_id: UUID, version: int, data: Sequence[Any], now: datetime) -> None:
    """Replace what is stored of a customer. `data`: as DATA_COLUMNS."""
    await connection.execute(_CHANGE, customer_id, version, now, *data)


async def link(connection: Transaction, customer_id: UUID, drivers: Sequence[str]) -> list[tuple[str, UUID]]:
    """These drivers, and no others, are the customer's; those that another customer has already, with its id.

    `drivers`: sorted, so that two who link the same ones wait for each other in one order.
    """
    await connection.execute(_UNLINK, customer_id, drivers)
    await connection.execute(_LINK, customer_id, drivers)  # waits for another transaction that links one of them
    return [(row["driver_id"], row["customer_id"]) for row in await connection.fetch(_TAKEN, customer_id, drivers)]


async def delete(connection: Transaction, customer_id: UUID) -> None:
    """Delete a customer and its links to drivers."""
    await connection.execute(_DELETE, customer_id)
