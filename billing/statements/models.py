"""The answer of the operation on collective invoices."""

from pydantic import BaseModel, ConfigDict, Field

from billing.invoices.models import Invoice


class IssuedStatements(BaseModel):
    """The collective invoices that were due."""

    model_config = ConfigDict(extra="forbid")

    invoices: list[Invoice] = Field(description="issued by this request, in order of their numbers")
    more: bool = Field(description="others are due as well: ask again")
