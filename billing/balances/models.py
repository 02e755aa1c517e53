"""The answer of the operation on balances."""

from pydantic import BaseModel, ConfigDict, Field

from billing.invoices.models import Payable


class CurrencyBalance(BaseModel):
    """Sums over a driver's documents and payments of one currency."""

    model_config = ConfigDict(extra="forbid")

    currency: str
    documents: int
    invoiced: Payable = Field(description="all invoices, those that were credited too")
    credited: Payable = Field(description="all credit notes: 0 or below")
    paid: Payable = Field(description="payments that have succeeded")
    refunded: Payable = Field(description="refunds that have succeeded")
    open_amount: Payable = Field(
        description="invoiced + credited - paid + refunded: above 0 the driver owes it, below 0 is owed to the driver"
    )


class Balance(BaseModel):
    """A driver's balance. Corrections net against each other in it."""

    model_config = ConfigDict(extra="forbid")

    driver_id: str
    balances: list[CurrencyBalance] = Field(description="by currency; empty where there is no document")
