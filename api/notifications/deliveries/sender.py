"""Sends what is due: takes deliveries under a lease, sends them outside of any transaction, records what came of it.

Towards the outside it is at least once: a process that dies between a send and its record sends the same message again
when the lease has ended, under the same id (Message-ID, webhook-id, Idempotency-Key).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from uuid import uuid4

import msgspec
from prometheus_client import CollectorRegistry, Counter

from api.notifications.channels.channel import (
    Attachment,
    Gone,
    Outcome,
    OutgoingMessage,
    Receipt,
    Rejected,
    RetryAfter,
    SendingChannel,
    reason_of,
)
from api.notifications.deliveries.events import delivery_ended
from api.notifications.deliveries.invoice_pdf import InvoicePdfs
from api.notifications.deliveries.store import (
    SCHEMA,
    Attempted,
    DeliveryStore,
    NewDelivery,
    NewNotification,
    digest_items,
    finish,
    insert,
    put_into_digest,
)
from api.notifications.kinds import KINDS, Channel
from api.notifications.notices.preparation import Preparer, Rendering, delivery_id
from api.notifications.preferences.store import address_is_gone, recipients
from api.notifications.templates.store import edited_templates
from kit.clock import Clock, format_rfc3339
from kit.errors import Unavailable
from kit.masking import mask_secrets
from kit.messaging.gate import Gate
from kit.messaging.outbox import Transaction, insert_async
from kit.observability.logs import get_logger

AT_ONCE: Final = 16  # of a channel: a mail server takes tens of connections of a client
LEASE: Final = timedelta(seconds=180)  # three times the longest attempt: 60 s, and the PDF before it
POLL_S: Final = 1.0  # between looks while nothing is due; one indexed look
PAUSE_FIRST_S: Final = 30.0
PAUSE_MAX_S: Final = 6 * 3_600.0  # with eight attempts the last one is after an hour
RETRY_AFTER_S_MAX: Final = 86_400.0
DIGEST_ITEMS_MAX: Final = 1_000  # of a channel in one transaction
DIGEST_SHOWN_MAX: Final = 50
ITEM_CHARS_MAX: Final = 500
CLOSE_S: Final = 30.0  # for attempts under way when the process stops; later ones are repeated after their lease

_log = get_logger(__name__)


class SenderMetrics:
    """Metrics of attempts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "notifications_attempts",
            "Attempts to send, by channel and outcome: sent, postponed, failed",
            ("channel", "outcome"),
            registry=registry,
        )


@dataclass(frozen=True, slots=True)
class SenderRules:
    """Bounds of attempts."""

    attempts_max: int
    timeout_s: float


class Sender:
    """Sends by all channels. Any number of processes may do so at once."""

    def __init__(
        self,
        deliveries: DeliveryStore,
        channels: Mapping[Channel, SendingChannel],
        pdfs: InvoicePdfs,
        preparer: Preparer,
        clock: Clock,
        rules: SenderRules,
        gate: Gate,
        metrics: SenderMetrics,
    ) -> None:
        """`gate`: closed while nothing is to be sent. Owns none of them."""
        self._deliveries = deliveries
        self._channels = channels
        self._pdfs = pdfs
        self._preparer = preparer
        self._clock = clock
        self._rules = rules
        self._gate = gate
        self._metrics = metrics
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Send what is due by every channel, until `close`. Through outages of the database."""
        await asyncio.gather(*(self._run(channel) for channel in self._channels))

    def close(self) -> None:
        """Have `run` finish what is under way and return."""
        self._closing.set()

    async def _run(self, channel: Channel) -> None:
        while not self._closing.is_set():
            try:
                busy = self._gate.is_open and await self.send_due(channel)
            except Unavailable as error:
                _log.warning("sending_postponed", channel=channel, error=str(error))
                busy = False
            if not busy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._closing.wait()

    async def send_due(self, channel: Channel) -> int:
        """Collect the digests that are due, and attempt up to AT_ONCE deliveries. Returns how many. Raises
        Unavailable."""
        now = self._clock.now()
        async with self._deliveries.database.transaction() as connection:
            await self._collect_digests(connection, channel, now)
        taken = await self._deliveries.take(channel, now, AT_ONCE, LEASE)
        results = await asyncio.gather(*(self.attempt(one) for one in taken), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(taken)

    async def attempt(self, delivery: Attempted) -> None:
        """Send what was taken, once, and record what came of it. Raises Unavailable."""
        outcome = await self._outcome(delivery)
        channel = delivery.channel
        if isinstance(outcome, RetryAfter) and delivery.attempts < self._rules.attempts_max:
            pause_s = pause_after_s(delivery.attempts, outcome.seconds)
            await self._deliveries.postpone(
                delivery, self._clock.now() + timedelta(seconds=pause_s), reason_of(outcome.reason)
            )
            self._metrics.attempts.labels(channel, "postponed").inc()
            return
        error = None if isinstance(outcome, Receipt) else reason_of(outcome.reason) or "no reason given"
        receipt = outcome.id if isinstance(outcome, Receipt) else ""
        now = self._clock.now()
        async with self._deliveries.database.transaction() as connection:
            ended = await finish(connection, delivery, now, failed=error, receipt=receipt)
            if isinstance(outcome, Gone):
                reason = reason_of(outcome.reason)
                await address_is_gone(connection, delivery.subject, channel, delivery.address, reason)
            await insert_async(connection, SCHEMA, [delivery_ended(one, error, now) for one in ended])
        self._metrics.attempts.labels(channel, "sent" if error is None else "failed").inc()
        if error is not None:
            _log.warning("notification_failed", delivery=str(delivery.id), channel=channel, error=error)

    async def _outcome(self, delivery: Attempted) -> Outcome:
        """Of one attempt, whatever happens."""
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                attachment = await self._pdfs.fetch(delivery.invoice_id) if delivery.invoice_id is not None else None
            async with asyncio.timeout(self._rules.timeout_s):
                return await self._channels[delivery.channel].send(_message(delivery, attachment))
        except (TimeoutError, OSError, Unavailable) as error:
            return RetryAfter(None, mask_secrets(str(error) or "no answer in time"))
        except Exception as error:  # a fault of ours, or of a library: it must not stop the other deliveries
            _log.exception("channel_failed", channel=delivery.channel, delivery=str(delivery.id))
            return Rejected(f"an error on our side: {type(error).__name__}")

    async def _collect_digests(self, connection: Transaction, channel: Channel, now: datetime) -> None:
        """Make deliveries of the due items of digests: one for each recipient."""
        items = await digest_items(connection, channel, now, DIGEST_ITEMS_MAX)
        if not items:
            return

        def address(item: Any) -> tuple[str, str]:
            return item["subject"], item["address"]

        subjects = await recipients(connection, {item["subject"] for item in items})
        rendering = Rendering(await edited_templates(connection, ["digest"]))
        for (subject, to), group in groupby(sorted(items, key=address), key=address):
            own = sorted(group, key=lambda item: (item["created_at"], item["id"]))
            recipient = self._preparer.recipient(subject, subjects.get(subject))
            context = _digest_context(own)
            rendered = rendering.render("digest", context, channel, recipient.language, recipient.zone)
            category, variables = KINDS["digest"].category, msgspec.json.encode(context).decode()
            new = NewNotification(uuid4(), uuid4(), None, "digest", category, subject, variables)
            delivery = NewDelivery(
                delivery_id(new.id, channel), new.id, channel, to, recipient.language, rendered.title, rendered.body,
                rendered.html, None, None, False, now,
            )  # fmt: skip
            await insert(connection, [new], [delivery], now)
            await put_into_digest(connection, delivery.id, [item["id"] for item in own])
        await self._preparer.record_broken(connection, rendering)


def pause_after_s(attempts: int, asked_s: float | None) -> float:
    """Seconds until the next attempt after so many: doubled each time, and never less than was asked for."""
    own_s = min(PAUSE_FIRST_S * 2.0 ** min(attempts - 1, 20), PAUSE_MAX_S)
    return own_s if asked_s is None else min(max(asked_s, 1.0), RETRY_AFTER_S_MAX)


def _message(delivery: Attempted, attachment: Attachment | None) -> OutgoingMessage:
    return OutgoingMessage(
        id=delivery.id,
        kind=delivery.kind,
        subject=delivery.subject,
        address=delivery.address,
        title=delivery.title,
        body=delivery.body,
        html=delivery.html,
        language=delivery.language,
        created_at=delivery.created_at,
        context=delivery.context,
        attachment=attachment,
    )


def _digest_context(items: Sequence[Any]) -> dict[str, Any]:
    shown = [
        {
            "title": item["title"],
            "text": item["body"][:ITEM_CHARS_MAX],
            "created_at": format_rfc3339(item["created_at"]),
        }
        for item in items[:DIGEST_SHOWN_MAX]
    ]
    return {"count": len(items), "more": len(items) - len(shown), "items": shown}
