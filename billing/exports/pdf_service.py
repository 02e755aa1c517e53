"""Reads a document and renders it as PDF."""

import asyncio
from uuid import UUID

from billing.exports.document_pdf import render_pdf
from billing.invoices.service import DocumentReader


class PdfService:
    """PDFs of one database's documents."""

    def __init__(self, documents: DocumentReader) -> None:
        self._documents = documents

    async def pdf(self, invoice_id: UUID, own: str | None) -> tuple[str, bytes]:
        """The document's number and its PDF. `own`: only a document of that driver. Raises NotFound, Unavailable."""
        detail = await self._documents.read(invoice_id, own)
        return detail.number, await asyncio.to_thread(render_pdf, detail)
