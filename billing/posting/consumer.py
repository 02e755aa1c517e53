"""The events that billing lives by, from the bus to the desk."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Final, Generic, TypeVar

import msgspec
from opentelemetry.trace import SpanKind

from billing.documents import Claim
from billing.errors import BadEvent
from billing.posting.batches import Batches
from billing.posting.claims import reservation_claim, session_claim
from billing.posting.desk import Posting
from billing.posting.events import Told
from billing.posting.rated import rate, rate_reservation
from billing.posting.tariffs import TariffBook
from kit.bus import DIRECT, Bus, Message
from kit.consumer import ConsumerMetrics
from kit.errors import Unprocessable
from kit.observability import correlation_id, get_logger
from kit.tracing import context_from, current_traceparent, span
from schemas.events import Event, ReservationConfirmed, SessionAssigned, SessionCompleted
from schemas.topics import RESERVATION_CONFIRMED, SESSION_ASSIGNED, SESSION_COMPLETED, group_queue, routing_key

GROUP: Final = "billing"
PREFETCH: Final = 128  # of each queue: half of it is the batch at work, the other half the next; one connection in all

P = TypeVar("P")
Read = Callable[[P], Awaitable[Claim | SessionAssigned]]
_log = get_logger(__name__)


class Reader:
    """From a payload to its news, rated."""

    def __init__(self, tariffs: TariffBook, total_max: int) -> None:
        """`total_max`: whole units of a currency; an invoice of more is not sent unseen."""
        self._tariffs = tariffs
        self._total_max = total_max

    async def session(self, payload: SessionCompleted) -> Claim:
        """Raises BadEvent, Unavailable."""
        pricing = payload.pricing
        if pricing is None:
            return session_claim(payload, None, self._total_max)
        tariff = await self._tariffs.tariff(pricing.version, pricing.tariff)
        return session_claim(payload, rate(tariff, pricing.consumption), self._total_max)

    async def reservation(self, payload: ReservationConfirmed) -> Claim:
        """Raises BadEvent, Unavailable."""
        tariff = await self._tariffs.tariff(payload.version, payload.tariff)
        consumption, rated = rate_reservation(tariff, payload)
        return reservation_claim(payload, consumption, rated, self._total_max)

    async def assigned(self, payload: SessionAssigned) -> SessionAssigned:
        """As it is."""
        return payload


class _Handler(Generic[P]):
    """Of one queue. Like kit.consumer's, but for the transaction: that is a whole batch's."""

    def __init__(
        self, queue: str, kind: type[P], read: Read[P], batches: Batches[Posting], metrics: ConsumerMetrics
    ) -> None:
        # Decimal: the numbers of a tariff are money.
        self._decode = msgspec.json.Decoder(Event[kind], float_hook=Decimal).decode  # type: ignore[valid-type]
        self._queue = queue
        self._read = read
        self._batches = batches
        self._metrics = metrics

    async def __call__(self, message: Message) -> None:
        """Returns once it is committed, or was before. Raises Unprocessable, Unavailable."""
        try:
            event = self._decode(message.body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._unprocessable(error) from error
        metadata = event.metadata
        token = correlation_id.set(metadata.correlation_id)
        try:
            with span(
                f"{self._queue} process",
                parent=context_from(metadata.traceparent),
                kind=SpanKind.CONSUMER,
                attributes={"messaging.message.id": str(metadata.event_id), "messaging.event.type": metadata.type},
            ):
                told = Told(metadata.correlation_id, current_traceparent())
                news = await self._read(event.payload)
                await self._batches.submit(Posting(self._queue, metadata.event_id, told, news))
        except BadEvent as error:
            raise self._unprocessable(error) from error
        except Exception as error:
            _log.warning("event_not_handled", queue=self._queue, event_id=str(metadata.event_id), error=repr(error))
            self._count("failed")
            raise
        finally:
            correlation_id.reset(token)
        self._count("handled")

    def _unprocessable(self, error: Exception) -> Unprocessable:
        self._count("unprocessable")
        return Unprocessable(f"not an event of {self._queue}: {type(error).__name__}: {str(error)[:200]}")

    def _count(self, outcome: str) -> None:
        self._metrics.handled.labels(self._queue, outcome).inc()


async def subscribe(bus: Bus, reader: Reader, batches: Batches[Posting], metrics: ConsumerMetrics) -> None:
    """Hear of sessions, reservations and drivers. Raises Unavailable."""

    async def listen(event_type: str, kind: type[P], read: Read[P]) -> None:
        queue = group_queue(GROUP, event_type)
        handler = _Handler(queue, kind, read, batches, metrics)
        await bus.subscribe(queue, DIRECT, routing_key(event_type), handler, prefetch=PREFETCH)

    await listen(SESSION_ASSIGNED, SessionAssigned, reader.assigned)
    await listen(SESSION_COMPLETED, SessionCompleted, reader.session)
    await listen(RESERVATION_CONFIRMED, ReservationConfirmed, reader.reservation)
