"""The declaration of billing."""

from decimal import Decimal
from pathlib import Path
from typing import Final

from fastapi import APIRouter

from billing.balances.routes import router as balances
from billing.charges.routes import router as charges
from billing.components import Billing, open_billing
from billing.credits.routes import router as credits
from billing.customers.routes import router as customers
from billing.einvoices.routes import router as einvoices
from billing.exports.place_queries import LOCATION_READS
from billing.exports.routes import router as exports
from billing.invoices.routes import router as invoices
from billing.invoicing.service import PREFETCH
from billing.invoicing.store import READS as PRICING_READS
from billing.payments.routes import router as payments
from billing.personal_data import PERSONAL_DATA
from billing.readings_store import READS
from billing.retention_store import RETENTION
from billing.settings import PAUSED, BillingSettings
from billing.statements.routes import router as statements
from kit.service import Consumes, Contract, Job, Service
from schemas.events import Event, ReservationConfirmed, SessionAssigned, SessionCompleted
from schemas.topics import (
    INVOICE_CREATED,
    INVOICE_UPDATED,
    RESERVATION_CONFIRMED,
    SESSION_ASSIGNED,
    SESSION_COMPLETED,
)

router: Final = APIRouter(prefix="/api/v1/billing", tags=["billing"])
for _routes in (invoices, charges, credits, balances, payments, exports, customers, einvoices, statements):
    router.include_router(_routes)

DUE_EVERY_S: Final = 1  # one indexed look while nothing is due
_HOUR_S: Final = 3_600


async def _issue_due(billing: Billing) -> None:
    await billing.statements.issue_due()


# Decimal: the numbers of a tariff are money.
SERVICE: Final = Service(
    name="billing",
    summary="charge detail records, invoices, payments and exports",
    open=open_billing,
    components=Billing,
    router=router,
    migrations=Path(__file__).parent / "migrations",
    personal_data=PERSONAL_DATA,
    contracts=(Contract("billing.documented_charges", "what documents charge for each charge, without the drivers"),),
    reads=(*READS, *LOCATION_READS, *PRICING_READS),
    consumes=(
        Consumes(
            SESSION_ASSIGNED,
            Event[SessionAssigned],
            process=lambda billing: billing.invoicing.session_assigned,
            float_hook=Decimal,
            prefetch=PREFETCH,
            paused_by=PAUSED,
        ),
        Consumes(
            SESSION_COMPLETED,
            Event[SessionCompleted],
            process=lambda billing: billing.invoicing.session_completed,
            float_hook=Decimal,
            prefetch=PREFETCH,
            paused_by=PAUSED,
        ),
        Consumes(
            RESERVATION_CONFIRMED,
            Event[ReservationConfirmed],
            process=lambda billing: billing.invoicing.reservation_confirmed,
            float_hook=Decimal,
            prefetch=PREFETCH,
            paused_by=PAUSED,
        ),
    ),
    jobs=(
        Job("invoice what has settled", lambda billing: billing.poster.invoice_due(), DUE_EVERY_S, PAUSED),
        Job("collective invoices that are due", _issue_due, _HOUR_S, PAUSED),
    ),
    publishes=(INVOICE_CREATED, INVOICE_UPDATED),
    offers={"invoice.pdf": lambda billing: billing.pdfs.pdf},
    settings=BillingSettings,
    retention=RETENTION,
)
