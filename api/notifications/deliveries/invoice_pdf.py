"""The PDF of an invoice, from billing: of the same process where it runs there, else over its HTTP route."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from uuid import UUID

from api.notifications.channels.channel import Attachment
from api.notifications.settings import NotificationSettings
from kit.errors import Unavailable
from kit.observability.tracing import pass_trace_on
from kit.web.errors import NotFound

if TYPE_CHECKING:  # at run time only where billing is another process
    import httpx

PDF_BYTES_MAX: Final = 8 * 1024 * 1024  # mail servers take 10 MB and more; an invoice of a month has 100 kB
_MEDIA_TYPE: Final = "application/pdf"

InProcess = Callable[[UUID, str | None], Awaitable[tuple[str, bytes]]]
"""Billing's function: an invoice's id and the driver who asks (None: nobody in particular) to its number and PDF."""


class InvoicePdfs:
    """Fetches PDFs."""

    def __init__(self, settings: NotificationSettings, in_process: Callable[[], InProcess | None]) -> None:
        """`in_process`: billing's function where it runs in this process, once all services are open."""
        self._in_process = in_process
        self._client = _client(settings) if settings.billing_url else None

    async def fetch(self, invoice_id: UUID) -> Attachment | None:
        """None: it is not to be had, and the message goes without. Raises Unavailable where billing does not answer."""
        own = self._in_process()
        if own is not None:
            try:
                number, content = await own(invoice_id, None)
            except NotFound:
                return None
        elif self._client is not None:
            fetched = await self._fetch(self._client, invoice_id)
            if fetched is None:
                return None
            number, content = fetched
        else:
            return None
        return Attachment(f"{number}.pdf", _MEDIA_TYPE, content) if len(content) <= PDF_BYTES_MAX else None

    async def _fetch(self, client: "httpx.AsyncClient", invoice_id: UUID) -> tuple[str, bytes] | None:
        import httpx

        try:
            async with client.stream("GET", f"/api/v1/billing/invoices/{invoice_id}/pdf") as response:
                if response.status_code == 404:
                    return None
                if response.status_code != 200:
                    raise Unavailable(f"billing answers {response.status_code} for the PDF of an invoice")
                content = b""
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > PDF_BYTES_MAX:
                        break
        except httpx.HTTPError as error:
            raise Unavailable(f"billing does not answer: {type(error).__name__}") from error
        _, _, name = response.headers.get("content-disposition", "").partition('filename="')
        return name.removesuffix('"').removesuffix(".pdf") or str(invoice_id), content

    async def close(self) -> None:
        """Release connections."""
        if self._client is not None:
            await self._client.aclose()


def _client(settings: NotificationSettings) -> "httpx.AsyncClient":
    import httpx

    return httpx.AsyncClient(
        base_url=settings.billing_url,
        headers={"Authorization": f"Bearer {settings.billing_token}"},
        timeout=settings.notification_timeout_s,
        trust_env=False,
        event_hooks={"request": [pass_trace_on]},
    )
