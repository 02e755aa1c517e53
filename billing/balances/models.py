"""The answer of the operation on balances."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from billing.invoices.models import Micros, Payable


class CurrencyBalance(BaseModel):
    """Sums over documents of one currency and their payments."""

    model_config = ConfigDict(extra="forbid")

    currency: str
    documents: int
    invoiced: Payable = Field(description="all invoices, those that were credited too")
    credited: Payable = Field(description="all credit notes: 0 or below")
    paid: Payable = Field(description="payments that have succeeded")
    refunded: Payable = Field(description="refunds that have succeeded")
    paid_by_credit_notes: Payable = Field(description="of the invoices, when they were issued")
    set_off: Payable = Field(
        description="of the credit notes: what has paid invoices. It is `paid_by_credit_notes`, unless they are of "
        "other drivers of the same customer"
    )
    open_amount: Payable = Field(
        description="invoiced + credited - paid + refunded - paid_by_credit_notes + set_off: above 0 it is owed to the "
        "seller, below 0 by the seller"
    )
    collected: Micros | None = Field(
        description="of a customer: charges on no collective invoice yet, incl. VAT, less what the next one takes "
        "back; below 0 it is carried over until there is more to invoice. Not in open_amount. Null: of a driver"
    )


class Balance(BaseModel):
    """A driver's or a customer's balance. Corrections net against each other in it."""

    model_config = ConfigDict(extra="forbid")

    driver_id: str | None
    customer_id: UUID | None
    balances: list[CurrencyBalance] = Field(
        description="by currency; empty where there is no document and nothing is collected"
    )
