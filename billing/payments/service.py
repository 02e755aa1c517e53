"""The use cases of payments. No HTTP here; the SQL is in the stores.

A provider is called outside of the writer's lock, because a call may take seconds, and before its result is stored.
That is safe: a payment's id is derived from its document and the number of the attempt, and a provider executes an id
once. So a repeated request after a crash or a time-out gets the payment that was begun. The document is checked
again under the lock.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from billing.documents import Document, InvoiceKind, InvoiceStatus
from billing.invoicing import store as invoicing
from billing.invoicing.events import invoice_updated
from billing.payments import store
from billing.payments.models import ChargeRequest
from billing.payments.provider import AcceptedPayment, PaymentOrder, PaymentProvider, PaymentStatus, PaymentUpdate
from billing.payments.store import PaymentRecord
from kit.clock import Clock
from kit.database.postgres import Database
from kit.messaging.consumer import current_event_context
from kit.messaging.inbox import record_new_events
from kit.messaging.outbox import Transaction, insert_async
from kit.observability.logs import get_logger
from kit.web.errors import BadQuery, Conflict, Forbidden, NotFound

SCHEMA: Final = "billing"
# At once: each holds a database connection while the provider is called, and the pool of 8 serves all else as well.
CHARGES_MAX: Final = 3
_NAMESPACE: Final = UUID("a2d3c1b0-7e64-4a52-8c1d-1f2b3c4d5e6f")
_log = get_logger(__name__)


class PaymentService:
    """The use cases, one method each. `own`: the driver to whose documents they are limited; None: all."""

    def __init__(self, database: Database, providers: Mapping[str, PaymentProvider], clock: Clock) -> None:
        """`providers` by name."""
        self._database = database
        self._providers = providers
        self._clock = clock
        self.slots: Final = asyncio.Semaphore(CHARGES_MAX)  # one for each `begin` under way

    async def begin(
        self, connection: Transaction, wanted: ChargeRequest, own: str | None
    ) -> tuple[PaymentRecord, Document]:
        """Charge an open invoice, or refund an open credit note; a payment that is under way already is returned.

        `connection`: of an open transaction. Raises NotFound, BadQuery, Forbidden, Conflict, Declined,
        ProviderFailed, Unavailable.
        """
        provider = self._provider(wanted.provider)
        invoice = await self._open_document(connection, wanted.invoice_id, own)
        if own is not None and (not provider.drivers_may or invoice.kind is not InvoiceKind.INVOICE):
            what = "an invoice" if invoice.kind is InvoiceKind.INVOICE else "a credit note"
            raise Forbidden(f"a driver cannot have {what} settled by {provider.name}; finance can")
        amount_minor = await _left(connection, invoice)
        payments = await store.payments_of(connection, invoice.id)
        pending = next((payment for payment in payments if payment.status is PaymentStatus.PENDING), None)
        if pending is not None and (pending.provider, pending.amount_minor) == (provider.name, amount_minor):
            return pending, invoice
        if pending is not None:
            await self._withdraw(pending)
        attempt = len(payments) + 1
        order = PaymentOrder(
            _payment_id(invoice, attempt, amount_minor),
            invoice.number,
            amount_minor,
            invoice.currency,
            invoice.minor_digits,
        )
        opened = await self._ask(connection, provider, invoice, order)
        return await self._write(connection, invoice, provider.name, order, attempt, opened, pending)

    async def get_payment(
        self, payment_id: UUID, own: str | None, *, may_pay: bool
    ) -> tuple[PaymentRecord, Document, str | None]:
        """A payment, its document, and if it is pending what the payer's application needs, for those who `may_pay`.

        Raises NotFound, and the provider's errors.
        """
        async with self._database.transaction() as connection:
            payment = await store.payment(connection, payment_id)
            invoice = None if payment is None else await store.invoice(connection, payment.invoice_id, own)
        if payment is None or invoice is None:
            raise NotFound(f"no payment {payment_id}" + (" of yours" if own else ""))
        provider = self._providers.get(payment.provider)
        pending = payment.status is PaymentStatus.PENDING and payment.kind == "charge"
        secret = (
            await provider.client_secret(payment.reference) if provider is not None and pending and may_pay else None
        )
        return payment, invoice, secret

    async def receive(self, provider_name: str, headers: Mapping[str, str], body: bytes, *, by_finance: bool) -> str:
        """Apply a provider's webhook message: applied, repeated or ignored.

        Raises NotFound, BadSignature, BadQuery, Conflict, Unavailable: providers send it again then.
        """
        provider = self._providers.get(provider_name)
        if provider is None:
            raise NotFound(f"there is no payment provider {provider_name}")
        update = provider.read_message(headers, body, by_finance=by_finance)
        if update is None:
            return "ignored"
        async with self._database.transaction() as connection:
            await invoicing.lock(connection)
            event_id = uuid5(_NAMESPACE, f"{provider_name}/{update.event_id}")
            if not await record_new_events(connection, SCHEMA, [(f"payments_{provider_name}", event_id)]):
                return "repeated"
            payment = await store.payment(connection, update.payment_id)
            if payment is None or payment.provider != provider_name:
                raise NotFound(f"no payment {update.payment_id} by {provider_name}")
            await self._apply(connection, payment, update)
        return "applied"

    async def refundable(self, connection: Transaction, payment_id: UUID) -> PaymentRecord:
        """A payment that has succeeded. Raises NotFound, Conflict."""
        payment = await store.payment(connection, payment_id)
        if payment is None:
            raise NotFound(f"no payment {payment_id}")
        if payment.kind != "charge" or payment.status is not PaymentStatus.SUCCEEDED:
            raise Conflict(f"{payment.kind} {payment_id} is {payment.status}: only a charge that succeeded is refunded")
        return payment

    async def refund(self, connection: Transaction, payment_id: UUID, note_id: UUID) -> tuple[PaymentRecord, Document]:
        """The refund of a credit note through the provider of that payment; one that was begun before is returned.

        `connection`: of an open transaction. Raises Conflict, Declined, ProviderFailed, Unavailable.
        """
        payment = await self.refundable(connection, payment_id)
        note = await store.invoice(connection, note_id)
        begun = [one for one in await store.payments_of(connection, note_id) if one.status is not PaymentStatus.FAILED]
        if note is not None and begun:
            return begun[-1], note
        return await self.begin(connection, ChargeRequest(invoice_id=note_id, provider=payment.provider), None)

    def _provider(self, name: str) -> PaymentProvider:
        provider = self._providers.get(name)
        if provider is None:
            raise BadQuery(f"there is no payment provider {name}; there are: {', '.join(sorted(self._providers))}")
        return provider

    async def _open_document(self, connection: Transaction, invoice_id: UUID, own: str | None) -> Document:
        invoice = await store.invoice(connection, invoice_id, own)
        if invoice is None:
            raise NotFound(f"no invoice {invoice_id}" + (" of yours" if own else ""))
        if invoice.status is not InvoiceStatus.OPEN:
            raise Conflict(f"{invoice.kind} {invoice.number} is {invoice.status}: only an open one can be settled")
        return invoice

    async def _withdraw(self, payment: PaymentRecord) -> None:
        if payment.kind == "refund":
            raise Conflict(f"a refund by {payment.provider} is under way")
        await self._provider(payment.provider).withdraw(payment.reference)

    async def _ask(
        self, connection: Transaction, provider: PaymentProvider, invoice: Document, order: PaymentOrder
    ) -> AcceptedPayment:
        if invoice.credits is None:
            return await provider.charge(order)
        paid = [
            payment
            for payment in await store.payments_of(connection, invoice.credits)
            if payment.status is PaymentStatus.SUCCEEDED
        ]
        if not paid or (paid[0].provider != provider.name and not provider.refunds_any):
            how = f"was paid by {paid[0].provider}" if paid else "was not paid here"
            raise Conflict(f"what {invoice.number} credits {how}: {provider.name} cannot refund it")
        return await provider.refund(order, paid[0].reference)

    async def _write(
        self,
        connection: Transaction,
        before: Document,
        provider: str,
        order: PaymentOrder,
        attempt: int,
        opened: AcceptedPayment,
        withdrawn: PaymentRecord | None,
    ) -> tuple[PaymentRecord, Document]:
        await invoicing.lock(connection)
        invoice = await self._open_document(connection, before.id, None)
        payments = await store.payments_of(connection, invoice.id)
        if len(payments) >= attempt:
            if payments[attempt - 1].id == order.payment_id and payments[attempt - 1].provider == provider:
                return payments[attempt - 1], invoice  # another request was quicker with the very same
            raise Conflict(f"another payment of {invoice.number} was begun at the same moment")
        now = self._clock.now()
        if withdrawn is not None:
            await store.move(connection, withdrawn.id, PaymentStatus.FAILED, "withdrawn", now)
        payment = PaymentRecord(
            id=order.payment_id,
            invoice_id=invoice.id,
            attempt=attempt,
            kind="charge" if invoice.credits is None else "refund",
            provider=provider,
            reference=opened.reference,
            status=opened.status,
            currency=order.currency,
            amount_minor=order.amount_minor,
            error=opened.error,
            created_at=now,
            changed_at=now,
        )
        await store.add(connection, payment)
        if payment.status is PaymentStatus.SUCCEEDED:
            await self._money_moved(connection, payment, now)
        return payment, invoice

    async def _apply(self, connection: Transaction, payment: PaymentRecord, update: PaymentUpdate) -> None:
        """Raises Conflict if the payment's currency or status rules it out."""
        _check_currency(payment, update)
        now = self._clock.now()
        if update.status is PaymentStatus.PENDING or update.status is payment.status:
            if payment.status is PaymentStatus.PENDING and update.error:
                await store.move(connection, payment.id, payment.status, update.error, now)
            return
        if update.status is PaymentStatus.SUCCEEDED:
            await self._check_amount(connection, payment, update)
            await store.move(connection, payment.id, update.status, "", now)
            await self._money_moved(connection, payment, now)
        elif payment.status is PaymentStatus.PENDING:
            await store.move(connection, payment.id, update.status, update.error, now)
        elif payment.kind == "refund":
            await store.move(connection, payment.id, update.status, update.error, now)
            await self._set_status(connection, payment.invoice_id, InvoiceStatus.OPEN, now)
        else:
            raise Conflict(f"payment {payment.id} has succeeded: a credit note corrects it")

    async def _check_amount(self, connection: Transaction, payment: PaymentRecord, update: PaymentUpdate) -> None:
        if update.amount_minor is not None and update.amount_minor != payment.amount_minor:
            _log.error(
                "payment_amount_differs",
                payment_id=str(payment.id),
                asked_minor=payment.amount_minor,
                moved_minor=update.amount_minor,
            )
            raise Conflict(
                f"payment {payment.id} is of {payment.amount_minor}, not of {update.amount_minor} minor units"
            )
        others = await store.payments_of(connection, payment.invoice_id)
        live = {one.status for one in others if one.id != payment.id} - {PaymentStatus.FAILED}
        if live:
            ids = {"payment_id": str(payment.id), "invoice_id": str(payment.invoice_id)}
            if PaymentStatus.SUCCEEDED in live:
                _log.error("paid_twice", **ids)
            else:
                _log.warning("given_up_payment_succeeded", **ids)  # while another is under way: not paid twice yet
            raise Conflict(f"payment {payment.id} was given up, and another has replaced it")

    async def _money_moved(self, connection: Transaction, payment: PaymentRecord, now: datetime) -> None:
        invoice = await store.invoice(connection, payment.invoice_id)
        if invoice is None:
            raise ValueError(f"payment {payment.id} is of no document")
        if invoice.status is InvoiceStatus.OPEN:
            await self._set_status(connection, invoice.id, InvoiceStatus.PAID, now)
        if payment.kind == "refund":
            return
        # What was credited while the payer was paying must be refunded: the last credit notes.
        overpaid_minor = payment.amount_minor - await _left(connection, invoice)
        for note in reversed((await invoicing.credit_notes(connection, [invoice.id]))[invoice.id]):
            if overpaid_minor > 0 and note.status is InvoiceStatus.SETTLED and note.payable_minor:
                await self._set_status(connection, note.id, InvoiceStatus.OPEN, now)
                overpaid_minor += note.payable_minor

    async def _set_status(
        self, connection: Transaction, invoice_id: UUID, status: InvoiceStatus, now: datetime
    ) -> None:
        context = current_event_context()
        changed = await invoicing.set_status(connection, [invoice_id], status, now)
        await insert_async(connection, SCHEMA, [invoice_updated(invoice, context) for invoice in changed])


def _check_currency(payment: PaymentRecord, update: PaymentUpdate) -> None:
    """Raises Conflict: an amount of another currency is another amount, whatever its number."""
    if update.currency is None or update.currency == payment.currency:
        return
    _log.error(
        "payment_currency_differs",
        payment_id=str(payment.id),
        asked_currency=payment.currency,
        moved_currency=update.currency,
    )
    raise Conflict(f"payment {payment.id} is in {payment.currency}, not in {update.currency}")


async def _left(connection: Transaction, invoice: Document) -> int:
    """Minor units that a document requests, or gives back: of an invoice less what is credited of it."""
    if invoice.kind is InvoiceKind.CREDIT_NOTE:
        return -invoice.payable_minor
    notes = (await invoicing.credit_notes(connection, [invoice.id]))[invoice.id]
    return invoice.payable_minor + sum(note.payable_minor for note in notes)


def _payment_id(invoice: Document, attempt: int, amount_minor: int) -> UUID:
    """The same for the same order. A provider refuses a known id with another amount: hence the amount, where a part of
    the document is credited."""
    whole = amount_minor == abs(invoice.payable_minor)
    return uuid5(_NAMESPACE, f"{invoice.id}/{attempt}" if whole else f"{invoice.id}/{attempt}/{amount_minor}")
