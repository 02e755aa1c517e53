"""Balances over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query

from billing.balances.models import Balance
from billing.components import Provided
from billing.parameters import Reader
from kit.web.parameters import example
from schemas.identifiers import DriverId

EXAMPLE: Final[dict[str, Any]] = {
    "driver_id": "driver-42",
    "customer_id": None,
    "balances": [
        {
            "currency": "EUR",
            "documents": 3,
            "invoiced": "20.27",
            "credited": "-10.00",
            "paid": "10.00",
            "refunded": "0.00",
            "paid_by_credit_notes": "0.00",
            "set_off": "0.00",
            "open_amount": "0.27",
            "collected": None,
        }
    ],
}

router = APIRouter()


@router.get(
    "/balance",
    operation_id="balance_api_v1_billing_balance_get",
    summary="What a driver or a customer owes, or is owed, by currency",
    responses={200: example(EXAMPLE)},
)
async def get_balance(
    billing: Provided,
    principal: Reader,
    driver_id: Annotated[DriverId | None, Query(description="default: the driver whose token it is")] = None,
    customer_id: Annotated[UUID | None, Query(description="instead: all documents that name the customer")] = None,
) -> Balance:
    """Over all documents and all payments that have succeeded, whatever became of single ones. A collective invoice is
    a customer's, and no driver's. Of another driver, a customer, or an unknown one, a driver gets no balances."""
    return await billing.balances.balance(driver_id, customer_id, principal)
