"""The use cases of credits and refunds. No HTTP and no SQL here.

A refund is the refund of a credit note: so there is no money that moves without a document, and documents and payments
have one balance. The credit note is written first, in the transaction of the request's Idempotency-Key; then the
provider is asked. Where it does not answer, the same request again finds the credit note and asks again.
"""

from dataclasses import dataclass
from uuid import UUID

from billing.credits.models import CreditRequest, RefundRequest
from billing.currency import minor_of
from billing.documents import Document
from billing.invoices.auditing import record_credit
from billing.invoicing.credit import CreditedInvoice, Part
from billing.invoicing.poster import InvoicePoster
from billing.payments.service import PaymentService
from billing.payments.store import PaymentRecord
from kit.messaging.consumer import current_event_context
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery


@dataclass(frozen=True, slots=True)
class _Amount:
    """WantedCredit: so much, or all that is left."""

    amount: str | None

    def of(self, credited: CreditedInvoice) -> Part:
        """See WantedCredit."""
        if self.amount is None:
            return credited.rest()
        return credited.part(_minor(self.amount, credited), credited.left_by_rate())


@dataclass(frozen=True, slots=True)
class _Lines:
    """WantedCredit: of these lines."""

    wanted: CreditRequest

    def of(self, credited: CreditedInvoice) -> Part:
        """See WantedCredit."""
        chosen = {
            one.line: None if one.amount is None else _minor(one.amount, credited) for one in self.wanted.lines or ()
        }
        return credited.part(*credited.of_lines(chosen))


def _minor(amount: str, credited: CreditedInvoice) -> int:
    """Raises BadQuery."""
    try:
        return minor_of(amount, credited.invoice.currency)
    except ValueError as error:
        raise BadQuery(str(error)) from error


class CreditService:
    """The use cases, one method each."""

    def __init__(self, poster: InvoicePoster, payments: PaymentService) -> None:
        self._poster = poster
        self._payments = payments

    async def credit(self, connection: Transaction, invoice_id: UUID, wanted: CreditRequest) -> Document:
        """The credit note. `connection`: of an open transaction. Raises NotFound, Conflict, BadQuery."""
        part = _Amount(wanted.amount) if wanted.lines is None else _Lines(wanted)
        note = await self._poster.credit(connection, invoice_id, part, wanted.reason, current_event_context())
        await record_credit(connection, "invoice.credited", invoice_id, note, wanted.reason)
        return note

    async def credit_for_refund(self, connection: Transaction, payment_id: UUID, wanted: RefundRequest) -> Document:
        """The credit note of a refund, of the payment's invoice. Raises NotFound, Conflict, BadQuery."""
        payment = await self._payments.refundable(connection, payment_id)
        part = _Amount(wanted.amount)
        note = await self._poster.credit(connection, payment.invoice_id, part, wanted.reason, current_event_context())
        await record_credit(connection, "invoice.credited", payment.invoice_id, note, wanted.reason, refunds=payment_id)
        return note

    async def refund(self, connection: Transaction, payment_id: UUID, note_id: UUID) -> tuple[PaymentRecord, Document]:
        """The refund of that credit note through the provider of the payment, begun now or before.

        Raises Conflict, Declined, ProviderFailed, Unavailable."""
        return await self._payments.refund(connection, payment_id, note_id)
