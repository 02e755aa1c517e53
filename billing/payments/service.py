"""The use cases of payments. No HTTP here; the SQL is in the stores.

A provider is called outside of the writer's lock, because a call may take seconds, and before its result is stored.
That is safe: a payment's id is derived from its document and the number of the attempt, and a provider executes an id
once. So a repeated request after a crash or a time-out gets the payment that was begun. The document is checked
again under the lock.

A refund moves money at once, and what a credit note owes may pay an invoice meanwhile (billing/setoffs). So a refund is
recorded before the provider is asked, in a transaction of its own: from then on nothing of the note is set off. Its
reference is empty until the provider has answered; where it did not, the same request again asks again.
"""

import asyncio
from collections.abc import Mapping
from typing import Final
from uuid import UUID, uuid5

from billing.documents import Document, InvoiceKind, InvoiceStatus
from billing.errors import Declined, ProviderFailed
from billing.invoicing import store as invoicing
from billing.invoicing.events import invoice_updated
from billing.payments import store
from billing.payments.models import ChargeRequest
from billing.payments.provider import AcceptedPayment, PaymentOrder, PaymentProvider, PaymentStatus, PaymentUpdate
from billing.payments.store import PaymentRecord
from billing.setoffs.service import position_of, refresh
from kit.audit.recording import record
from kit.clock import Clock
from kit.database.postgres import Database
from kit.messaging.consumer import current_event_context
from kit.messaging.inbox import record_new_events
from kit.messaging.outbox import Transaction, insert_async
from kit.observability.logs import get_logger
from kit.web.errors import BadQuery, Conflict, Forbidden, NotFound

SCHEMA: Final = "billing"
# At once: each holds a database connection while the provider is called, a refund two for a moment, and the pool of 8
# serves all else as well.
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
            if pending.reference:
                return pending, invoice
        elif pending is not None:
            await self._withdraw(pending)
        if invoice.kind is InvoiceKind.CREDIT_NOTE:
            return await self._refund(connection, provider, invoice.id)
        attempt = len(payments) + 1
        order = _order(invoice, attempt, amount_minor)
        opened = await provider.charge(order)
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
            if by_finance:
                await record(
                    connection,
                    "payment.reported",
                    f"payment/{payment.id}",
                    before={"status": payment.status, "invoice": str(payment.invoice_id)},
                    after={"status": update.status},
                    reason=update.error or None,
                )
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
        if note is not None and begun and begun[-1].reference:
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

    async def _refund(
        self, connection: Transaction, provider: PaymentProvider, note_id: UUID
    ) -> tuple[PaymentRecord, Document]:
        charged, asked, order = await self._record_refund(provider, note_id)
        try:
            opened = await provider.refund(order, charged)
        except (Declined, ProviderFailed):
            async with self._database.transaction() as own:
                await invoicing.lock(own)
                await store.forget_unanswered(own, asked.id)
            raise
        await invoicing.lock(connection)
        note = await store.invoice(connection, note_id)
        payment = await store.answered(connection, asked.id, opened.reference, opened.error, self._clock.now())
        if note is None or payment is None:
            raise Conflict(f"refund {asked.id} was refused to another request")
        if opened.status is not PaymentStatus.PENDING and payment.status is PaymentStatus.PENDING:
            payment = await store.move(connection, payment.id, opened.status, opened.error, self._clock.now())
            await self._refresh(connection, payment)
        return payment, note

    async def _record_refund(self, provider: PaymentProvider, note_id: UUID) -> tuple[str, PaymentRecord, PaymentOrder]:
        """A refund that no provider knows yet, in a transaction of its own, which is committed on return: the reference
        of the charge, the payment, and what to ask the provider for."""
        async with self._database.transaction() as connection:
            await invoicing.lock(connection)
            note = await self._open_document(connection, note_id, None)
            charged = await self._charge_of(connection, provider, note)
            amount_minor = await _left(connection, note)
            payments = await store.payments_of(connection, note.id)
            pending = next((one for one in payments if one.status is PaymentStatus.PENDING), None)
            if pending is not None:
                if pending.provider != provider.name or pending.reference:
                    raise Conflict(f"another payment of {note.number} was begun at the same moment")
                return charged, pending, _order(note, pending.attempt, pending.amount_minor)
            order = _order(note, len(payments) + 1, amount_minor)
            new = self._record(note, provider.name, order, len(payments) + 1, AcceptedPayment(""))
            await store.add(connection, new)
        return charged, new, order

    async def _charge_of(self, connection: Transaction, provider: PaymentProvider, note: Document) -> str:
        """The reference of the charge that a credit note gives back; empty where the provider needs none. What was paid
        by an earlier credit note goes back as that one would. Raises Conflict."""
        invoice_id, seen = note.credits, set[UUID]()
        how = "was not paid here"
        while invoice_id is not None and invoice_id not in seen:
            seen.add(invoice_id)
            for payment in await store.payments_of(connection, invoice_id):
                if payment.status is PaymentStatus.SUCCEEDED and payment.kind == "charge":
                    if payment.provider == provider.name or provider.refunds_any:
                        return payment.reference
                    how = f"was paid by {payment.provider}"
            invoice_id = await store.set_off_from(connection, invoice_id)
        if len(seen) > 1 and provider.refunds_any:
            return ""
        raise Conflict(f"what {note.number} credits {how}: {provider.name} cannot refund it")

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
        payment = self._record(invoice, provider, order, attempt, opened)
        await store.add(connection, payment)
        if payment.status is PaymentStatus.SUCCEEDED:
            await self._refresh(connection, payment)
        return payment, invoice

    def _record(
        self, document: Document, provider: str, order: PaymentOrder, attempt: int, opened: AcceptedPayment
    ) -> PaymentRecord:
        now = self._clock.now()
        return PaymentRecord(
            id=order.payment_id,
            invoice_id=document.id,
            attempt=attempt,
            kind="charge" if document.credits is None else "refund",
            provider=provider,
            reference=opened.reference,
            status=opened.status,
            currency=order.currency,
            amount_minor=order.amount_minor,
            error=opened.error,
            created_at=now,
            changed_at=now,
        )

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
            await self._refresh(connection, payment)
        elif payment.status is PaymentStatus.PENDING:
            await store.move(connection, payment.id, update.status, update.error, now)
        elif payment.kind == "refund":
            await store.move(connection, payment.id, update.status, update.error, now)
            await self._refresh(connection, payment)
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
        if payment.kind == "refund" and not live:
            await _check_unused(connection, payment)
        if live:
            ids = {"payment_id": str(payment.id), "invoice_id": str(payment.invoice_id)}
            if PaymentStatus.SUCCEEDED in live:
                _log.error("paid_twice", **ids)
            else:
                _log.warning("given_up_payment_succeeded", **ids)  # while another is under way: not paid twice yet
            raise Conflict(f"payment {payment.id} was given up, and another has replaced it")

    async def _refresh(self, connection: Transaction, payment: PaymentRecord) -> None:
        """The statuses that follow from a payment that has succeeded, or failed after that. What was credited while
        the payer was paying must be given back."""
        document = await store.invoice(connection, payment.invoice_id)
        if document is None:
            raise ValueError(f"payment {payment.id} is of no document")
        changed = await refresh(connection, document.credits or document.id, self._clock.now())
        context = current_event_context()
        await insert_async(connection, SCHEMA, [invoice_updated(one, context) for one in changed])


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


async def _check_unused(connection: Transaction, refund: PaymentRecord) -> None:
    """Raises Conflict where a refund that had failed succeeds after all, and its credit note has paid an invoice."""
    note = await store.invoice(connection, refund.invoice_id)
    if note is not None and await _left(connection, note) < refund.amount_minor:
        _log.error("refunded_and_set_off", payment_id=str(refund.id), invoice_id=str(note.id))
        raise Conflict(
            f"refund {refund.id} had failed, and {note.number} has paid an invoice since: what was refunded is owed"
        )


async def _left(connection: Transaction, document: Document) -> int:
    """Minor units that a document still requests, or gives back: neither credited, nor paid by credit notes or payments
    that have succeeded."""
    return (await position_of(connection, document)).left_minor


def _order(document: Document, attempt: int, amount_minor: int) -> PaymentOrder:
    return PaymentOrder(
        _payment_id(document, attempt, amount_minor),
        document.number,
        amount_minor,
        document.currency,
        document.minor_digits,
    )


def _payment_id(invoice: Document, attempt: int, amount_minor: int) -> UUID:
    """The same for the same order. A provider refuses a known id with another amount: hence the amount, where a part of
    the document is credited."""
    whole = amount_minor == abs(invoice.payable_minor)
    return uuid5(_NAMESPACE, f"{invoice.id}/{attempt}" if whole else f"{invoice.id}/{attempt}/{amount_minor}")
