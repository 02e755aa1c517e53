"""Settings of billing."""

from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from billing.parties import Address, ElectronicAddress, Seller, Terms, country_of
from kit.config.adjustable import adjustable
from kit.settings import SECRET, URL, with_scheme
from schemas.settings import Lake

PAUSED: Final = "billing.paused"
ADDRESS_LINE: Final = "|"
SETTLE_S_MAX: Final = 86_400
# A wrong tariff or meter shows in the amount. A charge of 1,000 is 1,500 kWh at 0.65: no vehicle takes that.
TOTAL_MAX: Final = {"EUR": 1_000, "USD": 1_000, "GBP": 1_000, "CHF": 1_000, "JPY": 150_000, "*": 1_000_000}
Currency = Annotated[str, StringConstraints(pattern=r"^([A-Z]{3}|\*)$")]
Units = Annotated[int, Field(ge=1, le=1_000_000_000)]


class BillingSettings(Lake):
    """Who sells, what is invoiced unseen, and the payment provider."""

    # Payments by Stripe are offered where its key is set.
    stripe_key: str = Field(
        "",
        repr=False,
        description="secret key of Stripe's API, sk_…; empty: no payments by it",
        json_schema_extra=SECRET,
    )
    stripe_webhook_secret: str = Field(
        "", repr=False, description="what Stripe signs its webhooks with, whsec_…", json_schema_extra=SECRET
    )
    stripe_api_base: Annotated[str, with_scheme("http", "https")] = Field(
        "", description="another address of Stripe's API, for a stand-in; empty: Stripe's", json_schema_extra=URL
    )
    invoice_total_max: dict[Currency, Units] = Field(
        TOTAL_MAX,
        description='whole units by currency, as {"EUR": 1000, "*": 1000000} or one number for all; a charge above it '
        "is held; *: all others",
    )
    # Late readings come within seconds of a reconnect, as a rule.
    invoice_settle_s: int = Field(
        60,
        ge=0,
        le=SETTLE_S_MAX,
        description="a charge is invoiced so long after its last revision; 0: at once",
        json_schema_extra=adjustable("billing.settle_time", unit="s", finance=True),
    )
    invoice_settle_max_s: int = Field(
        600,
        ge=0,
        le=SETTLE_S_MAX,
        description="and so long after its first one at the latest, whatever still comes",
        json_schema_extra=adjustable("billing.settle_time_max", unit="s", finance=True),
    )
    billing_paused: bool = Field(
        False,
        description="maintenance: events wait in their queues, and nothing that is due is invoiced, until it ends",
        json_schema_extra=adjustable(PAUSED, finance=True),
    )
    invoice_zero: bool = Field(False, description="whether charges of nothing get an invoice, and so a number")
    invoice_set_off: bool = Field(
        True,
        description="whether what is to be refunded to a driver or a customer pays their next invoice instead",
        json_schema_extra=adjustable("billing.set_off", finance=True),
    )
    # Most states of the EU want invoices kept for ten calendar years or fewer.
    document_retention_years: int = Field(
        10,
        ge=1,
        le=100,
        description="so many calendar years after that of its issue a settled document loses its driver and buyer",
        json_schema_extra=adjustable("billing.document_retention", unit="y", finance=True),
    )
    # Three years: after them nobody can claim anything of a charge, as a rule.
    charge_retention_days: int = Field(
        1_096,
        ge=31,
        le=36_500,
        description="a charge without a document loses its driver after so many days",
        json_schema_extra=adjustable("billing.charge_retention", unit="d", finance=True),
    )

    # Of receipts and of OCPI CDRs.
    seller_name: str = Field("", max_length=100, description="who sells, as receipts name them")
    seller_address: str = Field("", max_length=300, description="the seller's address; its lines are parted by |")
    seller_vat_id: str = Field("", max_length=40, description="the seller's VAT identification number")
    seller_contact: str = Field("", max_length=100, description="where drivers ask about a receipt")
    ocpi_country_code: str = Field("ZZ", pattern=r"^[A-Z]{2}$", description="country_code of OCPI CDRs, ISO 3166-1")
    ocpi_party_id: str = Field("VLT", pattern=r"^[A-Z0-9]{3}$", description="party_id of OCPI CDRs, as eMI3 gave it")

    # Of documents: what EN 16931 wants to know of the seller beyond the name, and the terms of payment.
    seller_postal_code: str = Field("", max_length=20, description="of the seller's address")
    seller_city: str = Field("", max_length=80, description="of the seller's address")
    seller_country: str = Field(
        "", pattern=r"^([A-Z]{2})?$", description="of the seller's address, ISO 3166-1; empty: that of the VAT id"
    )
    seller_tax_number: str = Field("", max_length=40, description="the seller's tax number, where there is no VAT id")
    seller_iban: str = Field(
        "", pattern=r"^([A-Z]{2}[0-9]{2}[A-Z0-9]{10,30})?$", description="the account that customers pay to"
    )
    seller_bic: str = Field("", pattern=r"^([A-Z0-9]{8}([A-Z0-9]{3})?)?$", description="of the account's bank")
    seller_electronic_address: str = Field(
        "",
        pattern=r"^([0-9A-Z]{2,4}:[\x21-\x7e]{1,100})?$",
        description="the seller's address in Peppol: scheme:id, like 0088:4012345000009",
    )
    seller_vat_exemption: str = Field(
        "no VAT applies",
        min_length=1,
        max_length=200,
        description="why, on documents with lines without VAT",
    )
    seller_required: bool = Field(
        False,
        description="start no billing, and so issue no document, without the seller's name, address and VAT id",
    )
    payment_days: int = Field(14, ge=0, le=365, description="days until an invoice is due; a customer may have others")
    payment_terms: str = Field("", max_length=300, description="what invoices say of the payment beside the due date")

    @field_validator("invoice_total_max", mode="before")
    @classmethod
    def _one_for_all(cls, value: object) -> object:
        return {"*": value} if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()) else value

    @model_validator(mode="after")
    def _bound_is_not_below(self) -> Self:
        if self.invoice_settle_s and self.invoice_settle_max_s < self.invoice_settle_s:
            raise ValueError(
                f"VOLTSTREAM_INVOICE_SETTLE_MAX_S={self.invoice_settle_max_s} is below "
                f"VOLTSTREAM_INVOICE_SETTLE_S={self.invoice_settle_s}: give the bound at least as long"
            )
        return self

    @model_validator(mode="after")
    def _stripe_is_whole(self) -> Self:
        if bool(self.stripe_key) != bool(self.stripe_webhook_secret):
            given, missing = ("KEY", "WEBHOOK_SECRET") if self.stripe_key else ("WEBHOOK_SECRET", "KEY")
            raise ValueError(
                f"VOLTSTREAM_STRIPE_{given} is set and VOLTSTREAM_STRIPE_{missing} is not: payments need both. "
                "Set both, or neither"
            )
        return self


def seller_of(settings: BillingSettings) -> Seller:
    """The seller that documents name."""
    lines = tuple(line.strip() for line in settings.seller_address.split(ADDRESS_LINE) if line.strip())
    scheme, _, id_ = settings.seller_electronic_address.partition(":")
    return Seller(
        name=settings.seller_name,
        address=Address(
            lines=lines,
            postal_code=settings.seller_postal_code,
            city=settings.seller_city,
            country=country_of(settings.seller_country, settings.seller_vat_id),
        ),
        vat_id=settings.seller_vat_id.replace(" ", ""),
        tax_number=settings.seller_tax_number,
        contact=settings.seller_contact,
        iban=settings.seller_iban,
        bic=settings.seller_bic,
        electronic_address=ElectronicAddress(scheme, id_) if scheme else None,
        vat_exemption=settings.seller_vat_exemption,
    )


def terms_of(settings: BillingSettings) -> Terms:
    """The terms of payment of customers who have none of their own."""
    return Terms(days=settings.payment_days, text=settings.payment_terms)


GROUP = BillingSettings
