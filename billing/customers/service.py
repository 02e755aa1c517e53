"""The use cases of customers. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from billing.customers import store
from billing.customers.models import Customer, NetworkAddress, NewCustomer, PostalAddress
from billing.customers.store import CustomerCursor, CustomerStore
from billing.statements.store import any_waiting
from kit.audit.recording import record
from kit.clock import Clock
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.errors import Conflict, NotFound
from kit.web.paging import decode_cursor, encode_cursor, to_micros
from kit.web.versions import check_version

TAKEN_SHOWN: Final = 5  # of drivers who have another customer


class CustomerService:
    """One method a use case. Documents that are issued already keep what they say of a customer."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._store = CustomerStore(database)
        self._clock = clock

    async def list_customers(
        self, driver_id: str | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[Customer], str | None]:
        """A page, oldest first, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, CustomerCursor) if cursor else None
        found = await self._store.customers(driver_id, after, limit + 1)
        page = found[:limit]
        more = len(found) > limit
        key = encode_cursor(CustomerCursor(to_micros(page[-1]["created_at"]), page[-1]["id"])) if more else None
        return [customer_of(row) for row in page], key

    async def get_customer(self, customer_id: UUID) -> Customer:
        """A customer. Raises NotFound."""
        return _known(await self._store.customer(customer_id), customer_id)

    async def add(self, connection: Transaction, wanted: NewCustomer) -> Customer:
        """Store a new customer. `connection`: of an open transaction. Raises Conflict where a driver has another."""
        customer_id = uuid4()
        await store.add(connection, customer_id, _data_of(wanted), self._clock.now())
        await _link(connection, customer_id, wanted.driver_ids)
        added = _known(await store.read(connection, customer_id), customer_id)
        await record(connection, "customer.added", _entity(customer_id), after=_audited(added))
        return added

    async def replace(self, customer_id: UUID, version: int | None, wanted: NewCustomer) -> Customer:
        """Replace what is said of a customer. `version`: as kit.web.versions.version_of has it.

        Raises NotFound, VersionNeeded, VersionChanged, Conflict where a driver has another customer.
        """
        async with self._database.transaction() as connection:
            before = await _lock(connection, customer_id, version)
            await store.change(connection, customer_id, before.version + 1, _data_of(wanted), self._clock.now())
            await _link(connection, customer_id, wanted.driver_ids)
            after = _known(await store.read(connection, customer_id), customer_id)
            entity, was, is_ = _entity(customer_id), _audited(before), _audited(after)
            await record(connection, "customer.changed", entity, before=was, after=is_)
            return after

    async def delete(self, customer_id: UUID, version: int | None) -> None:
        """Delete a customer. Raises NotFound, VersionNeeded, VersionChanged, Conflict where charges wait."""
        async with self._database.transaction() as connection:
            before = await _lock(connection, customer_id, version)
            if await any_waiting(connection, customer_id):
                raise Conflict(
                    f"charges wait for the next collective invoice of customer {customer_id}: "
                    "delete the customer when it is issued"
                )
            await store.delete(connection, customer_id)
            await record(connection, "customer.deleted", _entity(customer_id), before=_audited(before))


def customer_of(row: Mapping[str, Any]) -> Customer:
    """A row of the store as the API has it."""
    same = ("id", "name", "tax_id", "email", "reference", "billing", "time_zone", "payment_days", "payment_terms")
    electronic = row["electronic_address"]
    return Customer(
        **{name: row[name] for name in same},
        **{name: row[name] for name in ("driver_ids", "version", "created_at", "changed_at")},
        address=PostalAddress.model_validate_json(row["address"]),
        electronic_address=None if electronic is None else NetworkAddress.model_validate_json(electronic),
    )


def _entity(customer_id: UUID) -> str:
    return f"customer/{customer_id}"


def _audited(customer: Customer) -> dict[str, Any]:
    return customer.model_dump(mode="json", exclude={"id"})


async def _lock(connection: Transaction, customer_id: UUID, version: int | None) -> Customer:
    current = await store.lock(connection, customer_id)
    if current is None:
        raise NotFound(f"no customer {customer_id}")
    check_version(f"customer {customer_id}", version, current)
    return _known(await store.read(connection, customer_id), customer_id)


async def _link(connection: Transaction, customer_id: UUID, drivers: Sequence[str]) -> None:
    taken = await store.link(connection, customer_id, sorted(drivers))
    if taken:
        shown = ", ".join(f"{driver} is of {other}" for driver, other in taken[:TAKEN_SHOWN])
        raise Conflict(f"a driver has one customer: {shown}. Take the drivers out there first")


def _known(row: Mapping[str, Any] | None, customer_id: UUID) -> Customer:
    if row is None:
        raise NotFound(f"no customer {customer_id}")
    return customer_of(row)


def _data_of(wanted: NewCustomer) -> tuple[Any, ...]:
    """As store.DATA_COLUMNS."""
    electronic = wanted.electronic_address
    return (
        *(wanted.name, wanted.address.model_dump_json(), wanted.tax_id, wanted.email, wanted.reference),
        *(None if electronic is None else electronic.model_dump_json(), wanted.billing, wanted.time_zone),
        *(wanted.payment_days, wanted.payment_terms),
    )
