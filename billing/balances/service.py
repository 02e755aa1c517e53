"""The use case of balances. No HTTP and no SQL here."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

from billing.balances.models import Balance, CurrencyBalance
from billing.balances.store import BalanceStore
from billing.currency import format_micros, format_minor, minor_digits
from kit.auth.token_store import Principal
from kit.web.errors import BadQuery

_SUMS: Final = {
    **{"invoiced": 1, "credited": 1, "paid": -1, "refunded": 1},
    **{"paid_by_credit_notes": -1, "set_off": 1},
}
"""Columns, and the sign of each in what is open."""


class BalanceService:
    """Reads balances."""

    def __init__(self, store: BalanceStore, collected: Callable[[UUID], Awaitable[Mapping[str, int]]]) -> None:
        """`collected`: what a customer's next collective invoices add up to, by currency, in micro-units."""
        self._store = store
        self._collected = collected

    async def balance(self, driver_id: str | None, customer_id: UUID | None, principal: Principal) -> Balance:
        """Of that driver or customer; a driver has no other balance than their own. Raises BadQuery."""
        own = principal.driver_id if principal.kind == "driver" else None
        if customer_id is not None:
            if driver_id is not None:
                raise BadQuery("driver_id, customer_id: give one of them")
            balances = [] if own is not None else await self._of_customer(customer_id)
            return Balance(driver_id=None, customer_id=customer_id, balances=balances)
        wanted = driver_id or own
        if wanted is None:
            raise BadQuery("driver_id or customer_id: say whose balance")
        rows = [] if own is not None and own != wanted else await self._store.of_driver(wanted)
        return Balance(driver_id=wanted, customer_id=None, balances=[_balance(row) for row in rows])

    async def _of_customer(self, customer_id: UUID) -> list[CurrencyBalance]:
        collected = await self._collected(customer_id)
        documents = {row["currency"]: row for row in await self._store.of_customer(customer_id)}
        return [
            _balance(documents.get(currency, _none(currency)), collected.get(currency, 0))
            for currency in sorted(documents.keys() | collected.keys())
        ]


def _none(currency: str) -> dict[str, Any]:
    sums = dict.fromkeys(("documents", *_SUMS), 0)
    return {"currency": currency, "minor_digits": minor_digits(currency), **sums}


def _balance(row: Mapping[str, Any], collected_micros: int | None = None) -> CurrencyBalance:
    sums = {name: int(row[name]) for name in _SUMS}
    open_minor = sum(sign * sums[name] for name, sign in _SUMS.items())
    amounts = {**sums, "open_amount": open_minor}
    return CurrencyBalance(
        currency=row["currency"],
        documents=row["documents"],
        collected=None if collected_micros is None else format_micros(collected_micros),
        **{name: format_minor(minor, row["minor_digits"]) for name, minor in amounts.items()},
    )
