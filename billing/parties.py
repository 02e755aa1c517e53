"""Who sells and who buys, as documents name them, and the terms of payment. Pure."""

from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

GREECE: Final = "EL"  # its VAT ids begin with this, its addresses say GR


class Address(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A postal address (EN 16931, BG-5 and BG-8)."""

    lines: tuple[str, ...] = ()
    postal_code: str = ""
    city: str = ""
    country: str = ""  # ISO 3166-1 alpha-2

    @property
    def printed(self) -> tuple[str, ...]:
        """As on paper."""
        place = " ".join(filter(None, (self.postal_code, self.city)))
        return tuple(filter(None, (*self.lines, place, self.country)))


class ElectronicAddress(msgspec.Struct, frozen=True):
    """Where e-invoices are sent (BT-34, BT-49), as in Peppol."""

    scheme: str  # EAS code: 0088, 9930, EM
    id: str


class Seller(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The seller (BG-4)."""

    name: str = ""
    address: Address = Address()
    vat_id: str = ""  # BT-31
    tax_number: str = ""  # BT-32, where there is no VAT id
    contact: str = ""
    iban: str = ""
    bic: str = ""
    electronic_address: ElectronicAddress | None = None
    vat_exemption: str = ""  # why no VAT applies, where none does (BT-120)

    @property
    def missing(self) -> tuple[str, ...]:
        """Settings without which a document does not name its seller as the law wants it."""
        present = {
            "SELLER_NAME": self.name,
            "SELLER_ADDRESS": self.address.lines,
            "SELLER_VAT_ID": self.vat_id or self.tax_number,
        }
        return tuple(f"VOLTSTREAM_{name}" for name, value in present.items() if not value)


class Buyer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A customer as a document names them (BG-7)."""

    customer_id: str
    name: str
    address: Address
    tax_id: str = ""
    email: str = ""
    reference: str = ""  # BT-10: what the customer wants to be said on their invoices
    electronic_address: ElectronicAddress | None = None


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When an invoice is to be paid."""

    days: int
    text: str = ""

    def due_on(self, issued_at: datetime, zone: str | None) -> date:
        """The last day, by the calendar of the charge's zone."""
        return local_date(issued_at, zone) + timedelta(days=self.days)


def local_date(moment: datetime, zone: str | None) -> date:
    """The date at a moment in that zone; in UTC where there is none of the name."""
    try:
        return moment.astimezone(ZoneInfo(zone or "UTC")).date()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return moment.date()


def country_of(country: str, vat_id: str) -> str:
    """The country as configured, else that of the VAT id; empty: not known."""
    if country or not vat_id[:2].isalpha():
        return country
    prefix = vat_id[:2].upper()
    return "GR" if prefix == GREECE else prefix
