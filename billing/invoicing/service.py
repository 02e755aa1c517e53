"""From events to what the poster writes: read, check against the stored readings, in batches."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from billing.documents import ChargeDraft
from billing.errors import BadEvent
from billing.invoicing.amounts import rate_reservation
from billing.invoicing.cross_check import PricedSession, check_session
from billing.invoicing.drafts import reservation_draft, unpriced_draft
from billing.invoicing.poster import InvoicePoster, Posting, Superseded
from billing.invoicing.rules import InvoicingRules
from billing.invoicing.tariffs import TariffRegistry
from billing.readings_source import SessionSource
from kit.errors import Unprocessable
from kit.messaging.consumer import EventContext, current_event_context
from kit.messaging.group_commit import GroupCommit
from schemas.events import Event, ReservationConfirmed, SessionAssigned, SessionCompleted
from schemas.topics import RESERVATION_CONFIRMED, SESSION_ASSIGNED, SESSION_COMPLETED, group_queue

GROUP: Final = "billing"
PREFETCH: Final = 128  # of each queue: half of it is the batch at work, the other half the next; one connection in all

P = TypeVar("P")
_Content = ChargeDraft | SessionAssigned | PricedSession


@dataclass(frozen=True, slots=True)
class _Received:
    """An event, read."""

    queue: str
    event_id: UUID
    context: EventContext
    content: _Content

    @property
    def key(self) -> Hashable:
        """The subject: a batch has one event of each."""
        if isinstance(self.content, PricedSession):
            return self.content.event.id
        return self.content.subject_id if isinstance(self.content, ChargeDraft) else self.content.session_id


class InvoicingService:
    """Handles the events of sessions, reservations and drivers.

    The poster recognises events that were handled before: its transaction is of a whole batch, of all three queues.
    """

    def __init__(
        self, tariffs: TariffRegistry, sessions: SessionSource, poster: InvoicePoster, rules: InvoicingRules
    ) -> None:
        self._tariffs = tariffs
        self._sessions = sessions
        self._poster = poster
        self._rules = rules
        self._batches = GroupCommit(self._post)

    async def session_completed(self, event: Event[SessionCompleted]) -> bool:
        """Raises Unprocessable, Unavailable."""
        return await self._receive(SESSION_COMPLETED, event, self._read_session)

    async def reservation_confirmed(self, event: Event[ReservationConfirmed]) -> bool:
        """Raises Unprocessable, Unavailable."""
        return await self._receive(RESERVATION_CONFIRMED, event, self._read_reservation)

    async def session_assigned(self, event: Event[SessionAssigned]) -> bool:
        """Raises Unavailable."""

        async def read(payload: SessionAssigned) -> SessionAssigned:
            return payload

        return await self._receive(SESSION_ASSIGNED, event, read)

    async def _receive(self, event_type: str, event: Event[P], read: Callable[[P], Awaitable[_Content]]) -> bool:
        try:
            content = await read(event.payload)
        except BadEvent as error:
            raise Unprocessable(f"{type(error).__name__}: {error}") from error
        context = current_event_context()
        queue = group_queue(GROUP, event_type)
        await self._batches.submit(_Received(queue, event.metadata.event_id, context, content))
        return True

    async def _read_session(self, payload: SessionCompleted) -> ChargeDraft | PricedSession:
        pricing = payload.pricing
        if pricing is None:
            return unpriced_draft(payload)
        tariff = await self._tariffs.tariff(pricing.version, pricing.tariff)
        return PricedSession.of(payload, pricing, tariff)

    async def _read_reservation(self, payload: ReservationConfirmed) -> ChargeDraft:
        tariff = await self._tariffs.tariff(payload.version, payload.tariff)
        consumption, amount = rate_reservation(tariff, payload)
        return reservation_draft(payload, consumption, amount, self._rules)

    async def _post(self, batch: Sequence[_Received]) -> None:
        checked = await self._check([one.content for one in batch if isinstance(one.content, PricedSession)])
        await self._poster.post([_posting(one, checked) for one in batch])

    async def _check(self, priced: Sequence[PricedSession]) -> dict[UUID, ChargeDraft | Superseded]:
        """Outside of the poster's transaction, for it takes ~2 ms a session of 100 readings, and the transaction locks
        out all other writers. What telemetry stores meanwhile brings an event of its own."""
        by_id = {session.event.id: session for session in priced}
        checked: dict[UUID, ChargeDraft | Superseded] = {}
        if by_id:
            async for stored in self._sessions.sessions(list(by_id)):
                draft = check_session(by_id[stored.id], stored, self._rules)
                checked[stored.id] = draft or Superseded(stored.id)
                await asyncio.sleep(0)  # let the process answer others between two sessions
        for id_ in by_id.keys() - checked.keys():
            draft = check_session(by_id[id_], None, self._rules)
            checked[id_] = draft or Superseded(id_)
        return checked


def _posting(one: _Received, checked: dict[UUID, ChargeDraft | Superseded]) -> Posting:
    content = checked[one.content.event.id] if isinstance(one.content, PricedSession) else one.content
    return Posting(one.queue, one.event_id, one.context, content)
