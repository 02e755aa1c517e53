"""Requests and responses of the invoice operations. Amounts are decimal texts, which no client parses as floats."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from billing.documents import InvoiceKind, InvoiceStatus
from kit.patterns import worded

Micros = Annotated[str, StringConstraints(pattern=worded(r"^-?[0-9]+\.[0-9]{6}$", "a decimal with six places"))]
"""An amount of the currency with all six digits: `12.345678`."""
Payable = Annotated[
    str, StringConstraints(pattern=worded(r"^-?[0-9]+(\.[0-9]{1,4})?$", "a decimal with up to four places"))
]
"""An amount that can be paid: `12.35`, of yen `12`."""
Quantity = Annotated[str, StringConstraints(pattern=worded(r"^-?[0-9]+(\.[0-9]+)?$", "a decimal"))]
ComputedFrom = Literal["readings", "reservation", "cdr"]


Why = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=500,
        pattern=worded(r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$", "why, in words, without control characters"),
    ),
]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Invoice(_Answer):
    """An invoice or a credit note."""

    id: UUID
    number: str = Field(description="of its year, without gaps, invoices and credit notes in one")
    kind: InvoiceKind
    status: InvoiceStatus = Field(
        description="open: to be paid, or refunded; paid: that is done, or there was nothing to pay; credited: another "
        "invoice takes its place; cancelled: nothing is asked any more; settled: a credit note of an unpaid invoice"
    )
    version: int = Field(description="of the charge: higher where late readings changed it")
    session_id: UUID | None
    reservation_id: str | None
    driver_id: str | None = Field(description="null while nobody said whose session it is")
    station_id: str
    currency: str
    total_excl_vat: Micros = Field(description="exact; of a credit note negative")
    total_incl_vat: Micros
    payable_excl_vat: Payable = Field(description="rounded as `rounding` says")
    payable: Payable = Field(description="to be paid, incl. VAT, rounded as `rounding` says")
    set_off: Payable = Field(
        description="of an invoice: paid by earlier credit notes of its customer or driver when it was issued; of a "
        "credit note, below 0: what of it has paid later invoices"
    )
    amount_due: Payable | None = Field(
        description="`payable` less `set_off`: what an invoice asked for when it was issued; null: a credit note"
    )
    rounding: str
    credits: UUID | None = Field(description="of a credit note: the invoice that it cancels, or a part of it")
    replaces: UUID | None = Field(description="of an invoice: the credited one before it")
    reason: str = Field(description="of a credit note; of an invoice of a corrected charge, why")
    issued_at: datetime


class Line(_Answer):
    """A component of the tariff that was used; or an adjustment to its least or most price, or a part that is credited
    (by rate of VAT), which have only amounts; or the remark that a person corrected the consumption."""

    dimension: Literal["ENERGY", "FLAT", "TIME", "PARKING_TIME", "MIN_PRICE", "MAX_PRICE", "CORRECTION", "CREDIT"]
    element: int | None = Field(description="of the tariff, from 0; null where it is of no component")
    volume: Quantity | None = Field(description="billed, in `unit`; hours are rounded to six digits")
    unit: Literal["kWh", "h", "session"] | None = Field(description="of the volume, and what the price is per")
    quantity: int | None = Field(description="billed, exactly, in `quantity_unit`")
    quantity_unit: Literal["mWh", "ms", "session"] | None
    quantity_added_by_step: int | None = Field(description="the part of it that the tariff's step_size added")
    price: Quantity | None = Field(description="excl. VAT")
    vat_pct: Quantity | None = Field(description="null: no VAT applies")
    amount_excl_vat: Micros
    vat: Micros
    amount_incl_vat: Micros


class Charge(_Answer):
    """What the document is about."""

    cdr_id: UUID
    started_at: datetime
    ended_at: datetime
    end_reason: str
    connector_id: int | None
    device_session_id: str | None = Field(description="as the device named the session")
    energy_kwh: Quantity
    estimated: bool
    revision: int = Field(description="newest of the session that says exactly this money")
    tariff_version: UUID | None
    time_zone: str | None


class InvoicePayment(_Answer):
    """An attempt to move the document's money."""

    id: UUID
    kind: Literal["charge", "refund"]
    provider: str
    status: Literal["pending", "succeeded", "failed"]
    amount: Payable
    error: str
    created_at: datetime
    changed_at: datetime


class SetOff(_Answer):
    """What a credit note paid of an invoice."""

    id: UUID = Field(description="of the other document: the credit note, or the invoice")
    number: str
    amount: Payable
    set_off_at: datetime


class PayableLine(_Answer):
    """A line as it stands on paper: in the currency's digits, with its rate."""

    kind: Literal["line", "charge", "allowance"] = Field(
        description="charge, allowance: of the whole document, up to a tariff's minimum price or down to its maximum"
    )
    dimension: str
    description: str
    group: str = Field("", description="of a collective invoice: the charge that the line is of")
    volume: Quantity = Field(description="billed, in `unit`")
    unit: Literal["kWh", "h", "session"]
    price: Quantity = Field(description="per unit, excl. VAT")
    vat_pct: Quantity | None
    net: Payable


class VatTotal(_Answer):
    """What is to be paid at one rate: VAT is `net` times the rate, rounded half up."""

    vat_pct: Quantity | None = Field(description="null: no VAT applies")
    net: Payable
    vat: Payable
    gross: Payable


class Place(_Answer):
    """A postal address."""

    lines: list[str]
    postal_code: str
    city: str
    country: str = Field(description="ISO 3166-1 alpha-2; empty: not said")


class NetworkAddress(_Answer):
    """An address for e-invoices."""

    scheme: str
    id: str


class Party(_Answer):
    """Who sells or buys, as the document named them when it was issued."""

    name: str
    address: Place
    vat_id: str = Field(description="of a customer: or another number of a register")
    electronic_address: NetworkAddress | None


class SellingParty(Party):
    """The seller."""

    tax_number: str
    contact: str
    iban: str
    bic: str
    vat_exemption: str = Field(description="why no VAT applies, where none does")


class BuyingParty(Party):
    """The customer of the document's driver."""

    customer_id: UUID
    email: str
    reference: str


class InvoiceDetail(Invoice):
    """A document, whole."""

    issued_on: date = Field(description="in the zone of the charge")
    due_on: date | None = Field(description="null: nothing is to be paid")
    payment_terms: str
    seller: SellingParty
    customer: BuyingParty | None = Field(description="null: the driver has none")
    credits_number: str | None = Field(description="of a credit note: the number of the invoice that it credits")
    credits_issued_on: date | None
    lines: list[Line] = Field(description="exact")
    payable_lines: list[PayableLine] = Field(description="as on paper; those of a rate sum to its net")
    vat: list[VatTotal] = Field(description="by rate; with `payable_rounding` they sum to `payable`")
    payable_vat: Payable
    payable_rounding: Payable = Field(description="what nets and VAT lack to the exact total, rounded once (BT-114)")
    charge: Charge
    payments: list[InvoicePayment]
    set_offs: list[SetOff] = Field(description="of an invoice: by credit notes; of a credit note: of invoices")
    refundable: Payable | None = Field(
        description="of a credit note, below 0: what of it had been paid, and goes back by a refund or `set_offs`"
    )


class InvoicePage(_Answer):
    """A page of documents, newest first."""

    invoices: list[Invoice]
    next: str | None = Field(description="address of the next page; null on the last")


class Cancellation(_Answer):
    """Which invoice is to be cancelled, and why."""

    invoice_id: UUID
    reason: Why = Field(description="stands on the credit note", examples=["meter was found to be faulty"])


class Rounding(_Answer):
    """A value that was not whole, and what became of it."""

    what: str
    numerator: str
    denominator: str
    result: str
    unit: str = Field(description="of the result")
    rule: Literal["up", "half up"]


class Period(_Answer):
    """A stretch between two readings."""

    start: datetime
    end: datetime
    kind: Literal["IDLE", "CHARGING", "PARKING", "RESERVATION", "RESERVATION_EXPIRED"] | None = Field(
        description="of the time; null where only energy is counted"
    )
    power_w: Quantity
    current_a: Quantity
    energy_kwh: Quantity = Field(description="that the reading at its end accounts for")


class LeftOut(_Answer):
    """A reading, or a part of one, that does not count."""

    ts: datetime
    seq: int | None
    reason: str
    energy_kwh: Quantity | None = Field(description="the register, as read")
    power_w: Quantity | None
    flags: list[str] = Field(description="how it looked when it arrived")


class Used(_Answer):
    """What was used of a component of the tariff."""

    element: int
    dimension: str
    volume: int = Field(description="mWh, ms or times")
    since: datetime
    step_size: bool = Field(description="whether step_size applies to it")


class Explanation(_Answer):
    """How the amount follows from what is stored: computed again for this answer."""

    invoice_id: UUID
    number: str
    kind: InvoiceKind
    status: InvoiceStatus = Field(description="of the document")
    remark: str = Field(description="what has become of it since, in words; empty: nothing")
    credits: str | None = Field(description="of a credit note: the number of the invoice that it cancels")
    credited_by: str | None = Field(description="number of the credit note that cancels it")
    superseded_by: str | None = Field(description="number of the invoice that later readings put in its place")
    version: int = Field(description="of the charge: the one that is explained")
    computed_from: ComputedFrom = Field(
        description="cdr: what the document's own CDR says was used; the readings, as they are now, give a newer one"
    )
    agrees: bool = Field(description="what follows is what the document says")
    differences: list[str] = Field(description="where it is not: which figure, stored and computed")
    tariff_version: UUID
    tariff: dict[str, object] = Field(
        description="OCPI Tariff, as it was in force when the charge began; amounts and limits as decimal text"
    )
    time_zone: str
    readings: int
    periods: list[Period]
    periods_left_out: int = Field(description="beyond the bound of what one answer lists")
    left_out: list[LeftOut]
    consumption: list[Used]
    lines: list[Line]
    roundings: list[Rounding] = Field(description="of amounts without sign, also of a credit note")
    currency: str
    total_excl_vat: Micros
    total_incl_vat: Micros
    payable: Payable
