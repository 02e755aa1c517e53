"""The parts of billing, opened for a process."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from billing.balances.service import BalanceService
from billing.balances.store import BalanceStore
from billing.charges.service import ChargeService
from billing.charges.store import ChargeStore
from billing.credits.service import CreditService
from billing.customers.service import CustomerService
from billing.einvoices.service import EInvoiceService
from billing.exports.ocpi import Party
from billing.exports.pdf_service import PdfService
from billing.exports.service import ExportService
from billing.invoices.service import DocumentReader, InvoiceService
from billing.invoices.store import InvoiceStore
from billing.invoicing.metrics import InvoicingMetrics
from billing.invoicing.poster import InvoicePoster
from billing.invoicing.rules import InvoicingRules
from billing.invoicing.service import InvoicingService
from billing.invoicing.tariffs import TariffRegistry
from billing.payments.manual import ManualProvider
from billing.payments.provider import PaymentProvider
from billing.payments.service import PaymentService
from billing.readings_store import ReadingsStore
from billing.settings import BillingSettings, seller_of, terms_of
from billing.statements.service import StatementService
from kit.clock import Clock
from kit.database.postgres import Database
from kit.errors import ConfigError
from kit.lake.reader import LakeReader
from kit.service import Context, provided


@dataclass(frozen=True, slots=True)
class Billing:
    """What handlers and consumers work with."""

    database: Database
    poster: InvoicePoster
    invoicing: InvoicingService
    invoices: InvoiceService
    charges: ChargeService
    credits: CreditService
    balances: BalanceService
    payments: PaymentService
    exports: ExportService
    pdfs: PdfService
    einvoices: EInvoiceService
    customers: CustomerService
    statements: StatementService


Provided = Annotated[Billing, Depends(provided(Billing))]
"""In a handler: the components of the process."""


@asynccontextmanager
async def open_billing(context: Context) -> AsyncIterator[Billing]:
    """All of it on the service's own pool, with the payment providers of the settings.

    Raises ConfigError where documents must name their seller, and the settings do not.
    """
    settings = context.group(BillingSettings)
    if settings.seller_required and (missing := seller_of(settings).missing):
        raise ConfigError(
            f"VOLTSTREAM_SELLER_REQUIRED is set, so no document is issued without its seller: set {', '.join(missing)}"
        )
    async with _open_providers(settings, context.clock) as providers:
        yield billing_of(context, settings, providers)


def billing_of(context: Context, settings: BillingSettings, providers: Mapping[str, PaymentProvider]) -> Billing:
    """The components with these payment providers, by name, which the caller closes."""
    database, clock = context.database, context.clock
    readings, documents = ReadingsStore(database, LakeReader.at(settings.lake_url)), InvoiceStore(database)
    rules, metrics = rules_of(settings), InvoicingMetrics(context.registry)
    seller, terms = seller_of(settings), terms_of(settings)
    config = context.config

    def rules_now() -> InvoicingRules:
        return rules_of(config.group(BillingSettings))

    poster = InvoicePoster(database, clock, metrics, rules_now, seller, terms)
    reader = DocumentReader(documents, seller, terms)
    payments = PaymentService(database, providers, clock)
    statements = StatementService(database, clock, metrics, rules_now, seller, terms)
    return Billing(
        database=database,
        poster=poster,
        invoicing=InvoicingService(TariffRegistry(database), readings, poster, rules),
        invoices=InvoiceService(documents, poster, readings, reader),
        charges=ChargeService(ChargeStore(database), poster, rules, metrics, clock),
        credits=CreditService(poster, payments),
        balances=BalanceService(BalanceStore(database), statements.collected),
        payments=payments,
        exports=ExportService(database, party_of(settings)),
        pdfs=PdfService(reader),
        einvoices=EInvoiceService(reader),
        customers=CustomerService(database, clock),
        statements=statements,
    )


def rules_of(settings: BillingSettings) -> InvoicingRules:
    """The rules of invoicing."""
    return InvoicingRules(
        dict(settings.invoice_total_max),
        settings.invoice_zero,
        settings.invoice_settle_s,
        settings.invoice_settle_max_s,
        settings.invoice_set_off,
    )


def party_of(settings: BillingSettings) -> Party:
    """The party of OCPI CDRs."""
    return Party(settings.ocpi_country_code, settings.ocpi_party_id)


@asynccontextmanager
async def _open_providers(settings: BillingSettings, clock: Clock) -> AsyncIterator[Mapping[str, PaymentProvider]]:
    """The providers by name: manual always, Stripe where its key is set."""
    providers: dict[str, PaymentProvider] = {ManualProvider.name: ManualProvider()}
    if settings.stripe_key:
        # Imported here: the library takes 0.7 s and 12 MB, which only those who use it should pay.
        from billing.payments.stripe_provider import StripeProvider

        providers[StripeProvider.name] = StripeProvider(
            settings.stripe_key, settings.stripe_webhook_secret, clock, api_base=settings.stripe_api_base
        )
    try:
        yield providers
    finally:
        for provider in providers.values():
            await provider.close()
