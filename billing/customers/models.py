"""Requests and responses of the customer operations."""

from collections import Counter
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from kit.patterns import worded
from schemas.identifiers import PRINTABLE, DriverId

ADDRESS_LINES_MAX: Final = 3  # BT-50, BT-51 and BT-163
DRIVERS_MAX: Final = 1_000  # of one customer: 65 kB of a request

Billing = Literal["single", "monthly"]


def _checked_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone: write a name of the IANA list, like Europe/Berlin") from None
    return name


def _distinct(drivers: list[str]) -> list[str]:
    twice = [driver for driver, count in Counter(drivers).items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(sorted(twice)[:5])} stands here more than once")
    return drivers


def _line(chars_max: int, chars_min: int = 1) -> StringConstraints:
    return StringConstraints(min_length=chars_min, max_length=chars_max, pattern=PRINTABLE, strip_whitespace=True)


TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_checked_zone)]
OptionalText = worded(r"^[^\x00-\x1f\x7f]*$", "text without control characters")


class PostalAddress(BaseModel):
    """A postal address."""

    model_config = ConfigDict(extra="forbid")

    lines: Annotated[list[Annotated[str, _line(100)]], Field(min_length=1, max_length=ADDRESS_LINES_MAX)]
    postal_code: Annotated[str, StringConstraints(max_length=20, pattern=OptionalText)] = ""
    city: Annotated[str, _line(80)]
    country: Annotated[
        str, StringConstraints(pattern=worded(r"^[A-Z]{2}$", "a country of ISO 3166-1 alpha-2, like DE"))
    ] = Field(description="ISO 3166-1 alpha-2")


class NetworkAddress(BaseModel):
    """An address for e-invoices."""

    model_config = ConfigDict(extra="forbid")

    scheme: Annotated[str, StringConstraints(pattern=worded(r"^[0-9A-Z]{2,4}$", "an EAS code, like 0088"))] = Field(
        description="EAS code, like 0088"
    )
    id: Annotated[
        str,
        StringConstraints(
            min_length=1, max_length=100, pattern=worded(r"^[\x21-\x7e]+$", "printable ASCII characters without spaces")
        ),
    ]


class NewCustomer(BaseModel):
    """What is said of a customer. A change replaces all of it."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, _line(200)]
    address: PostalAddress
    tax_id: Annotated[
        str,
        StringConstraints(
            max_length=40,
            pattern=worded(r"^([A-Z0-9][A-Za-z0-9 ./+*-]*)?$", "the id as it stands on documents, like DE123456789"),
        ),
    ] = Field("", description="VAT id with its country's letters, or another number of a register")
    email: Annotated[
        str,
        StringConstraints(
            max_length=200, pattern=worded(r"^([^\s@]+@[^\s@]+)?$", "an address like accounts@example.com")
        ),
    ] = ""
    reference: Annotated[str, StringConstraints(max_length=100, pattern=OptionalText)] = Field(
        "", description="what the customer wants to read on their documents: a cost centre, an order"
    )
    electronic_address: NetworkAddress | None = Field(None, description="in Peppol")
    driver_ids: Annotated[list[DriverId], Field(max_length=DRIVERS_MAX), AfterValidator(_distinct)] = Field(
        default_factory=list, description="whose charging the customer pays; a driver has one customer"
    )
    billing: Billing = Field(
        "single", description="single: an invoice for each charge; monthly: one for all charges of a month"
    )
    time_zone: TimeZone = Field("UTC", description="in which a month begins")
    payment_days: Annotated[int, Field(ge=0, le=365)] | None = Field(None, description="null: the seller's")
    payment_terms: Annotated[str, StringConstraints(max_length=300, pattern=OptionalText)] | None = Field(
        None, description="what invoices say of the payment beside the due date; null: the seller's"
    )


class Customer(NewCustomer):
    """A customer."""

    id: UUID
    version: int = Field(description="rises with each change; as ETag, for If-Match")
    created_at: datetime
    changed_at: datetime


class CustomerPage(BaseModel):
    """A page of customers, the oldest first."""

    model_config = ConfigDict(extra="forbid")

    customers: list[Customer]
    next: str | None = Field(description="address of the next page; null on the last")
