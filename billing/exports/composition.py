"""Exports put together: what a process that serves billing mounts beside it."""

from typing import Final

from fastapi import FastAPI

from billing.exports.ocpi import Party
from billing.exports.receipt import Seller
from billing.exports.receipts import Receipts
from billing.exports.routes import ExportRoutes
from billing.exports.service import ExportService
from billing.invoices.store import InvoiceStore
from kit.database.postgres import Database
from kit.settings import Settings

ADDRESS_LINE: Final = "|"


def mount_exports(app: FastAPI, database: Database, settings: Settings) -> None:
    """Add the routes to `app`, after `mount_billing`. `database` works as billing's ROLE."""
    receipts = Receipts(InvoiceStore(database), seller_of(settings))
    app.include_router(ExportRoutes(ExportService(database, party_of(settings)), receipts).router())


def seller_of(settings: Settings) -> Seller:
    """As it is set."""
    address = tuple(line.strip() for line in settings.seller_address.split(ADDRESS_LINE) if line.strip())
    return Seller(settings.seller_name, address, settings.seller_vat_id, settings.seller_contact)


def party_of(settings: Settings) -> Party:
    """As it is set."""
    return Party(settings.ocpi_country_code, settings.ocpi_party_id)
