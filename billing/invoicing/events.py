"""From documents to the events that publish them. Pure.

Event ids are derived from the content, so that the same change has the same id however often it is published.
"""

from typing import Final
from uuid import UUID, uuid5

from billing.documents import Document
from kit.clock import format_rfc3339
from kit.messaging.consumer import EventContext
from kit.messaging.outbox import OutboxEvent
from schemas.events import InvoiceChanged, envelope_of
from schemas.topics import INVOICE_CREATED, INVOICE_UPDATED

SOURCE: Final = "billing"
_NAMESPACE: Final = UUID("5f0b1f0e-2a55-4d0c-8f0e-6f3f6a0b9c11")


def invoice_created(invoice: Document, context: EventContext) -> OutboxEvent:
    """invoice.created.v1, of an invoice or a credit note."""
    return _event(INVOICE_CREATED, f"{invoice.id}", invoice, context)


def invoice_updated(invoice: Document, context: EventContext) -> OutboxEvent:
    """invoice.updated.v1, of the invoice as it is now."""
    return _event(INVOICE_UPDATED, f"{invoice.id}/{invoice.changes}", invoice, context)


def _event(type_: str, name: str, invoice: Document, context: EventContext) -> OutboxEvent:
    event_id = uuid5(_NAMESPACE, f"{type_}/{name}")
    payload = InvoiceChanged(
        invoice_id=invoice.id,
        number=invoice.number,
        kind=invoice.kind,
        session_id=invoice.session_id,
        reservation_id=invoice.reservation_id,
        driver_id=invoice.driver_id,
        version=invoice.version,
        status=invoice.status,
        currency=invoice.currency,
        total_excl_micros=invoice.total_excl_micros,
        total_incl_micros=invoice.total_incl_micros,
        payable_minor=invoice.payable_minor,
        set_off_minor=invoice.set_off_minor,
        replaces=invoice.replaces or invoice.credits,
    )
    envelope = envelope_of(
        type_,
        event_id,
        payload,
        source=SOURCE,
        timestamp=format_rfc3339(invoice.changed_at),
        correlation_id=context.correlation_id,
        traceparent=context.traceparent,
    )
    return OutboxEvent(event_id, envelope.exchange, envelope.routing_key, envelope.encoded())
