"""Requests of the operations on credits."""

import re
from collections import Counter
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from billing.invoices.models import Why

_AMOUNT: Final = r"^[0-9]{1,12}(\.[0-9]{1,4})?$"


def _checked_amount(text: str) -> str:
    if not re.fullmatch(_AMOUNT, text):
        raise ValueError("write an amount in digits with a point and without sign or currency, like 2.50")
    return text


Amount = Annotated[str, AfterValidator(_checked_amount), Field(json_schema_extra={"pattern": _AMOUNT})]
"""Of money, above 0, with at most as many digits as the currency has."""
LINES_MAX = 1_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LineCredit(_Model):
    """How much of a line is credited."""

    line: int = Field(ge=1, le=32_767, description="of the invoice, from 1")
    amount: Amount | None = Field(None, description="incl. VAT; default: all of the line")


class CreditRequest(_Model):
    """Which part of an invoice is credited, and why. Either an amount, or lines."""

    amount: Amount | None = Field(None, description="incl. VAT, in the currency of the invoice", examples=["2.50"])
    lines: list[LineCredit] | None = Field(
        None,
        min_length=1,
        max_length=LINES_MAX,
        description="each at most once; together rounded down to what can be paid",
    )
    reason: Why = Field(description="stands on the credit note", examples=["the charger was blocked for an hour"])

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.amount is None) == (self.lines is None):
            raise ValueError("give either an amount or lines")
        twice = [line for line, count in Counter(one.line for one in self.lines or ()).items() if count > 1]
        if twice:
            raise ValueError(f"line {twice[0]} is listed twice")
        return self


class RefundRequest(_Model):
    """How much of a payment goes back, and why."""

    amount: Amount | None = Field(
        None, description="in the currency of the payment; default: all that is left of its invoice", examples=["2.50"]
    )
    reason: Why = Field(description="stands on the credit note", examples=["the charger was blocked for an hour"])
