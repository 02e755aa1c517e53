"""Reads a document and writes it as an e-invoice."""

import asyncio
from enum import StrEnum
from uuid import UUID

from billing.einvoices.cii import to_cii
from billing.einvoices.content import einvoice_of
from billing.einvoices.ubl import to_ubl
from billing.exports.document_pdf import render_pdf
from billing.invoices.models import InvoiceDetail
from billing.invoices.service import DocumentReader
from kit.auth.station_filter import EVERY_STATION, StationFilter


class XmlFormat(StrEnum):
    """The syntax of an e-invoice."""

    UBL = "ubl"
    CII = "cii"


class EInvoiceService:
    """E-invoices of one database's documents. Raises NotFound, Unavailable; Conflict where a document cannot be one.

    `own`: only a document of that driver; `only`: of these stations.
    """

    def __init__(self, documents: DocumentReader) -> None:
        self._documents = documents

    async def xml(
        self, invoice_id: UUID, own: str | None, format_: XmlFormat, only: StationFilter = EVERY_STATION
    ) -> tuple[str, bytes]:
        """The document's number and its XML."""
        detail = await self._documents.read(invoice_id, own, only)
        invoice = einvoice_of(detail)
        return detail.number, to_ubl(invoice) if format_ is XmlFormat.UBL else to_cii(invoice)

    async def facturx(
        self, invoice_id: UUID, own: str | None, only: StationFilter = EVERY_STATION
    ) -> tuple[str, bytes]:
        """The document's number and its PDF, with the XML inside."""
        detail = await self._documents.read(invoice_id, own, only)
        return detail.number, await asyncio.to_thread(render_facturx, detail)


def render_facturx(document: InvoiceDetail) -> bytes:
    """A PDF/A-3 that embeds the document as CII. Raises Conflict where it cannot be an e-invoice."""
    return render_pdf(document, to_cii(einvoice_of(document)))
