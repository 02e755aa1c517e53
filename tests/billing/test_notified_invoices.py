"""The PDF of an invoice on its way to the driver's mail: from billing in the same process, and over HTTP."""

from email.message import EmailMessage
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from api.notifications.declaration import SERVICE as NOTIFICATIONS
from api.notifications.deliveries.invoice_pdf import InvoicePdfs
from api.notifications.settings import NotificationSettings
from billing.declaration import SERVICE as BILLING
from kit.clock import SystemClock
from kit.errors import Unavailable
from kit.messaging.bus import DIRECT, EVENT_ID, Message
from schemas.topics import INVOICE_CREATED, routing_key
from tests.api.smtp_server import smtp_server
from tests.billing.making import assigned, session
from tests.billing.serving import Service
from tests.waiting import eventually
from voltstream.runtime.composition import Composition
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web
from voltstream.settings import load_settings

ENOUGH_S = 60.0


def _settings(**given: str) -> NotificationSettings:
    return NotificationSettings.model_validate(given)


async def _invoiced(service: Service) -> tuple[UUID, str, bytes]:
    """Id and number of a driver's invoice, and its event."""
    charged = session()
    await service.billing.deliver(assigned(charged.id, "ann"), charged)
    (document,) = service.billing.documents(charged.id)
    (event,) = service.billing.rows("SELECT body FROM billing.outbox WHERE routing_key = 'invoice.created'")
    return document["id"], document["number"], event["body"]


async def test_the_pdf_is_the_same_from_this_process_and_over_http(service: Service) -> None:
    invoice_id, number, _ = await _invoiced(service)
    token = service.tokens["operator"]
    own = InvoicePdfs(_settings(), lambda: BILLING.offers["invoice.pdf"](service.billing.components))
    other = InvoicePdfs(_settings(billing_url=service.server.url, billing_token=token), lambda: None)
    try:
        here, there = await own.fetch(invoice_id), await other.fetch(invoice_id)
        assert here is not None
        assert here == there
        assert (here.name, here.content[:5]) == (f"{number}.pdf", b"%PDF-")
        assert await own.fetch(uuid4()) is None
        assert await other.fetch(uuid4()) is None
        assert await InvoicePdfs(_settings(), lambda: None).fetch(invoice_id) is None
    finally:
        await other.close()


async def test_billing_that_refuses_or_is_away_is_asked_again_later(service: Service, unused_port: int) -> None:
    for url, token in ((service.server.url, "vso_wrong"), (f"http://127.0.0.1:{unused_port}", "vso_any")):
        pdfs = InvoicePdfs(_settings(billing_url=url, billing_token=token), lambda: None)
        with pytest.raises(Unavailable) as caught:
            await pdfs.fetch(uuid4())
        assert token not in str(caught.value)
        await pdfs.close()


async def test_in_one_process_an_invoice_becomes_a_mail_with_its_pdf(service: Service, tmp_path: Path) -> None:
    invoice_id, number, event = await _invoiced(service)
    service.billing.rows(
        "INSERT INTO notifications.recipient"
        " (subject, language, digest_at_min, addresses, modes, updated_at, updated_by)"
        " VALUES ('driver/ann', 'de', 480, %s::jsonb, '{}', now(), 'test') RETURNING subject",
        '{"email": "ann@example.com"}',
    )
    async with smtp_server(tmp_path, login=False) as smtp:
        settings = load_settings(
            data_dir=tmp_path / "data", smtp_host="127.0.0.1", smtp_port=smtp.port, smtp_ca_file=str(smtp.ca_file),
            mail_from="no-reply@example.com",
        )  # fmt: skip
        web = Web("test", SystemClock())
        composition = Composition(settings, service.billing.url, Lifespan(), web, "test")
        async with composition.running([NOTIFICATIONS, BILLING]):
            assert composition.bus is not None
            web.accepting.set(is_open=True)
            for _ in "ab":
                headers = {EVENT_ID: str(uuid4())}  # whatever the bus calls it
                await composition.bus.publish(Message(DIRECT, routing_key(INVOICE_CREATED), event, headers))
            mail: EmailMessage = (await eventually(lambda: smtp.mails, ENOUGH_S))[0]
            sent = "SELECT FROM notifications.delivery WHERE state = 'sent'"
            await eventually(lambda: len(service.billing.rows(sent)) == 1, ENOUGH_S)
    assert len(smtp.mails) == 1
    assert mail["Subject"] == f"Ihr Beleg {number}"
    (attached,) = mail.iter_attachments()
    pdf = await service.ask("GET", f"/api/v1/billing/invoices/{invoice_id}/pdf", 200)
    assert (attached.get_filename(), attached.get_content()) == (f"{number}.pdf", pdf.content)
