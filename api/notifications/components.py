"""The parts of the notifications service, opened for a process."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends

from api.notifications.channels.channel import SendingChannel
from api.notifications.channels.opening import open_channels
from api.notifications.deliveries.invoice_pdf import InvoicePdfs
from api.notifications.deliveries.sender import CLOSE_S, Sender, SenderMetrics, SenderRules
from api.notifications.deliveries.service import NotificationService
from api.notifications.deliveries.store import DeliveryStore
from api.notifications.kinds import Channel
from api.notifications.notices import store
from api.notifications.notices.buckets import Buckets, InProcessBuckets, RedisBuckets
from api.notifications.notices.consumers import REMEMBERED, NoticeConsumers
from api.notifications.notices.preparation import PreparationMetrics, Preparer
from api.notifications.preferences.service import PreferenceService
from api.notifications.settings import PAUSED, NotificationSettings
from api.notifications.templates.service import TemplateService
from kit.clock import Clock
from kit.database.postgres import Database
from kit.service import Context, provided

PREFIX: Final = "/api/v1/notifications"
INVOICE_PDF: Final = "invoice.pdf"
_BUCKET_PREFIX: Final = "notifications:bucket:"


@dataclass(frozen=True, slots=True)
class NotificationComponents:
    """The objects that handlers, consumers and jobs use."""

    database: Database
    service: NotificationService
    preferences: PreferenceService
    templates: TemplateService
    consumers: NoticeConsumers
    preparer: Preparer
    sender: Sender
    deliveries: DeliveryStore
    clock: Clock

    async def forget(self) -> None:
        """Delete what events said and nobody needs any more."""
        await store.forget(self.database, self.clock.now() - REMEMBERED)


Provided = Annotated[NotificationComponents, Depends(provided(NotificationComponents))]


@asynccontextmanager
async def open_notifications(context: Context) -> AsyncIterator[NotificationComponents]:
    """Open the components on the service's own connection pool, and send unless the settings say otherwise.

    Raises ConfigError where a channel cannot be opened.
    """
    settings = context.group(NotificationSettings)
    async with AsyncExitStack() as stack:
        channels = await stack.enter_async_context(open_channels(settings, context.clock))
        buckets = _buckets(context)
        stack.push_async_callback(buckets.close)
        pdfs = InvoicePdfs(settings, lambda: context.offered(INVOICE_PDF))
        stack.push_async_callback(pdfs.close)
        components = notifications_of(context, channels, buckets, pdfs)
        if settings.notification_sending:
            sending = context.spawn(components.sender.run(), "sending of notifications")
            stack.push_async_callback(_finished, components.sender, sending)
        yield components


def notifications_of(
    context: Context, channels: Mapping[Channel, SendingChannel], buckets: Buckets, pdfs: InvoicePdfs
) -> NotificationComponents:
    """The components with these channels, buckets and PDFs, which the caller closes."""
    settings, database, clock = context.group(NotificationSettings), context.database, context.clock
    deliveries, config = DeliveryStore(database), context.config
    preparer = Preparer(config, channels, buckets, clock, PreparationMetrics(context.registry))
    rules = SenderRules(settings.notification_attempts_max, settings.notification_timeout_s)
    metrics = SenderMetrics(context.registry)
    return NotificationComponents(
        database=database,
        service=NotificationService(deliveries, preparer, clock),
        preferences=PreferenceService(database, preparer, clock),
        templates=TemplateService(database, clock),
        consumers=NoticeConsumers(preparer, clock),
        preparer=preparer,
        sender=Sender(deliveries, channels, pdfs, preparer, clock, rules, config.gate(PAUSED), metrics),
        deliveries=deliveries,
        clock=clock,
    )


def _buckets(context: Context) -> Buckets:
    """On a Redis that several platforms share, each database has keys of its own."""
    url = context.settings.redis_url
    if not url:
        return InProcessBuckets()
    database = urlsplit(context.database_url)
    name = f"{database.hostname}:{database.port}{database.path}"
    return RedisBuckets(url, f"{_BUCKET_PREFIX}{hashlib.sha256(name.encode()).hexdigest()[:16]}:")


async def _finished(sender: Sender, sending: "asyncio.Task[None]") -> None:
    """Let attempts under way end: whose are cut off would be sent again."""
    sender.close()
    await asyncio.wait([sending], timeout=CLOSE_S)
    sending.cancel()
    with suppress(asyncio.CancelledError, Exception):  # its failure has ended the process already
        await sending
