"""The response of the operation on documents that an OCPI export leaves out."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from billing.documents import InvoiceKind

MissingFact = Literal[
    "single_charge",
    "station",
    "station_id",
    "address",
    "city",
    "country",
    "coordinates",
    "connector",
    "standard",
    "format",
    "power_type",
    "evse_id",
]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LeftOutDocument(_Answer):
    """A document, or a charge on a collective invoice, whose station or connector lacks what an OCPI CDR has to have;
    or what on a collective invoice is of no charge."""

    number: str
    kind: InvoiceKind
    id: UUID
    session_id: UUID | None
    reservation_id: str | None
    station_id: str
    connector_id: int | None
    missing: list[MissingFact] = Field(
        description="single_charge: a part credited of a collective invoice, and a CDR is of one charge; station, "
        "connector: it is not registered; station_id: not ASCII, as OCPI demands; else the fact"
    )


class LeftOutPage(_Answer):
    """A page of documents, by their numbers."""

    documents: list[LeftOutDocument]
    next: str | None = Field(description="address of the next page; null on the last")
