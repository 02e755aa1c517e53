"""The events that billing lives by, from the bus to the desk."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from billing.documents import ChargeDraft
from billing.errors import BadEvent
from billing.invoicing.drafts import reservation_claim, session_claim
from billing.invoicing.poster import Posting
from billing.invoicing.rated import rate, rate_reservation
from billing.invoicing.tariffs import TariffBook
from kit.errors import Unprocessable
from kit.messaging.batches import Batches
from kit.messaging.bus import Bus
from kit.messaging.consumer import ConsumerMetrics, Source, current_event_context, listen
from schemas.events import Event, ReservationConfirmed, SessionAssigned, SessionCompleted
from schemas.topics import RESERVATION_CONFIRMED, SESSION_ASSIGNED, SESSION_COMPLETED, group_queue, routing_key

GROUP: Final = "billing"
PREFETCH: Final = 128  # of each queue: half of it is the batch at work, the other half the next; one connection in all

P = TypeVar("P")
Read = Callable[[P], Awaitable[ChargeDraft | SessionAssigned]]


class Reader:
    """From a payload to its news, rated."""

    def __init__(self, tariffs: TariffBook, total_max: int) -> None:
        """`total_max`: whole units of a currency; an invoice of more is not sent unseen."""
        self._tariffs = tariffs
        self._total_max = total_max

    async def session(self, payload: SessionCompleted) -> ChargeDraft:
        """Raises BadEvent, Unavailable."""
        pricing = payload.pricing
        if pricing is None:
            return session_claim(payload, None, self._total_max)
        tariff = await self._tariffs.tariff(pricing.version, pricing.tariff)
        return session_claim(payload, rate(tariff, pricing.consumption), self._total_max)

    async def reservation(self, payload: ReservationConfirmed) -> ChargeDraft:
        """Raises BadEvent, Unavailable."""
        tariff = await self._tariffs.tariff(payload.version, payload.tariff)
        consumption, rated = rate_reservation(tariff, payload)
        return reservation_claim(payload, consumption, rated, self._total_max)

    async def assigned(self, payload: SessionAssigned) -> SessionAssigned:
        """As it is."""
        return payload


async def subscribe(bus: Bus, reader: Reader, batches: Batches[Posting], metrics: ConsumerMetrics) -> None:
    """Hear of sessions, reservations and drivers. Raises Unavailable."""

    async def hear(event_type: str, kind: type[P], read: Read[P]) -> None:
        queue = group_queue(GROUP, event_type)

        async def process(event: Event[P]) -> bool:
            try:
                news = await read(event.payload)
            except BadEvent as error:
                raise Unprocessable(f"{type(error).__name__}: {error}") from error
            # What was handled before, the desk finds out: its transaction is a whole batch's, of all three queues.
            await batches.submit(Posting(queue, event.metadata.event_id, current_event_context(), news))
            return True

        # Decimal: the numbers of a tariff are money.
        decode = msgspec.json.Decoder(Event[kind], float_hook=Decimal).decode  # type: ignore[valid-type]  # a class
        source = Source(queue, routing_key(event_type), prefetch=PREFETCH)
        await listen(bus, source, decode=decode, process=process, metrics=metrics)

    await hear(SESSION_ASSIGNED, SessionAssigned, reader.assigned)
    await hear(SESSION_COMPLETED, SessionCompleted, reader.session)
    await hear(RESERVATION_CONFIRMED, ReservationConfirmed, reader.reservation)
