"""Reads a document and renders it as PDF."""

import asyncio
from uuid import UUID

from billing.exports.document_pdf import render_pdf
from billing.invoices.service import DocumentReader
from kit.auth.station_filter import EVERY_STATION, StationFilter


class PdfService:
    """PDFs of one database's documents."""

    def __init__(self, documents: DocumentReader) -> None:
        self._documents = documents

    async def pdf(self, invoice_id: UUID, own: str | None, only: StationFilter = EVERY_STATION) -> tuple[str, bytes]:
        """The document's number and its PDF. `own`: only one of that driver; `only`: of these stations. Raises
        NotFound, Unavailable."""
        detail = await self._documents.read(invoice_id, own, only)
        return detail.number, await asyncio.to_thread(render_pdf, detail)
