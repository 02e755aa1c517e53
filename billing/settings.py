"""Settings of billing."""

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from kit.settings import SECRET, URL, with_scheme


class BillingSettings(BaseModel):
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
    # A wrong tariff or meter shows in the amount. In currencies of small units (IDR, VND) a session costs 100,000.
    invoice_total_max: int = Field(
        1_000_000, ge=1, le=1_000_000_000, description="whole units of any currency; more is reviewed, not invoiced"
    )

    # Of receipts and of OCPI CDRs.
    seller_name: str = Field("", max_length=100, description="who sells, as receipts name them")
    seller_address: str = Field("", max_length=300, description="the seller's address; its lines are parted by |")
    seller_vat_id: str = Field("", max_length=40, description="the seller's VAT identification number")
    seller_contact: str = Field("", max_length=100, description="where drivers ask about a receipt")
    ocpi_country_code: str = Field("ZZ", pattern=r"^[A-Z]{2}$", description="country_code of OCPI CDRs, ISO 3166-1")
    ocpi_party_id: str = Field("VLT", pattern=r"^[A-Z0-9]{3}$", description="party_id of OCPI CDRs, as eMI3 gave it")

    @model_validator(mode="after")
    def _stripe_is_whole(self) -> Self:
        if bool(self.stripe_key) != bool(self.stripe_webhook_secret):
            given, missing = ("KEY", "WEBHOOK_SECRET") if self.stripe_key else ("WEBHOOK_SECRET", "KEY")
            raise ValueError(
                f"VOLTSTREAM_STRIPE_{given} is set and VOLTSTREAM_STRIPE_{missing} is not: payments need both. "
                "Set both, or neither"
            )
        return self


GROUP = BillingSettings
