"""Reads a document and renders it as PDF."""

import asyncio
from uuid import UUID

from billing.exports.document_pdf import Seller, render_pdf
from billing.invoices.service import read_detail
from billing.invoices.store import InvoiceStore


class PdfService:
    """PDFs of one database's documents."""

    def __init__(self, store: InvoiceStore, seller: Seller) -> None:
        self._store = store
        self._seller = seller

    async def pdf(self, invoice_id: UUID, own: str | None) -> tuple[str, bytes]:
        """The document's number and its PDF. `own`: only a document of that driver. Raises NotFound, Unavailable."""
        detail = await read_detail(self._store, invoice_id, own)
        credited = None
        if detail.credits is not None:
            credited = (await read_detail(self._store, detail.credits, None)).number
        return detail.number, await asyncio.to_thread(render_pdf, detail, self._seller, credited)
