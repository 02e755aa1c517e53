"""Replay: items that wait in quarantine are judged by today's rules, and those that pass are accepted once more.

The rows are locked, their readings written to the log like those of any request, and marked once all of them are
durable. What ends between the two leaves them unmarked: the next replay writes the same readings again, and the worker
finds that they are duplicates. So a reading counts once, whatever happens, and every item that was accepted is in the
ledger.

A replay of many items, request after request, ends with those that were there when it began: what it takes may be set
apart again, in new rows.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter

from ingest.admission import AdmissionRules
from ingest.framing import Framer
from ingest.grouping import RequestContext
from ingest.reingest import store
from ingest.reingest.judgement import Judgement, judge
from ingest.reingest.models import REFUSED_LISTED_MAX, RefusedAgain, ReplayAnswer, ReplayCursor, ReplayRequest
from ingest.reingest.store import Selection
from kit.audit.recording import record
from kit.auth.stations import stations_within
from kit.auth.token_store import Principal
from kit.errors import Overloaded
from kit.messaging.outbox import Transaction
from kit.observability.logs import correlation_id, get_logger
from kit.observability.tracing import current_traceparent
from kit.web.errors import Forbidden
from kit.web.paging import decode_cursor, encode_cursor

BYTES_MAX: Final = 8 << 20  # of raw items of one request; as readings ~5 times as much
AT_ONCE_MAX: Final = 2  # requests: 2 x ~50 MB, and 2 of the pool's connections while they wait for the log
_log = get_logger(__name__)


class ReplayMetrics:
    """One instance per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.items = Counter(
            "reingest_items", "Items of the quarantine that were replayed, or refused again", ("outcome",),
            registry=registry,
        )  # fmt: skip


class ReplayService:
    """Replays within a transaction of the caller."""

    def __init__(
        self,
        framer: Framer,
        rules: Callable[[frozenset[str] | None], AdmissionRules],
        metrics: ReplayMetrics,
    ) -> None:
        """`rules`: as they are now, for a token of these stations."""
        self._framer = framer
        self._rules = rules
        self._metrics = metrics
        self._running = 0

    async def replay(self, transaction: Transaction, request: ReplayRequest, who: Principal) -> ReplayAnswer:
        """What became of the first items that the request names. The caller commits. A dry run only reads.

        Of a token for some stations it is what is known to be theirs. Raises BadQuery, Forbidden; Overloaded and
        Unavailable: nothing is marked then, and the request may be repeated.
        """
        wanted = _selection(request, who)
        cursor = None if request.cursor is None else decode_cursor(request.cursor, ReplayCursor)
        if self._running >= AT_ONCE_MAX:
            raise Overloaded(f"{self._running} replays are running already; try again")
        self._running += 1
        try:
            if cursor is None:
                cursor = ReplayCursor(0, await store.last(transaction))
            between, locked = (cursor.above, cursor.up_to), not request.dry_run
            rows = await store.items(transaction, wanted, between, request.limit, BYTES_MAX, locked=locked)
            judgement = await asyncio.to_thread(judge, rows, self._rules(who.stations))
            if not request.dry_run and judgement.replayed:
                await self._accept(judgement, str(who.token_id))
                await store.mark(transaction, judgement.replayed, who.name, correlation_id.get())
                await record(transaction, "quarantine.replayed", "quarantine", after=_audited(judgement))
        finally:
            self._running -= 1
        if not request.dry_run:
            self._record(judgement, who)
        return _answer(request, cursor, judgement, [row.id for row in rows])

    async def _accept(self, judgement: Judgement, token_id: str) -> None:
        context = RequestContext(token_id, current_traceparent(), correlation_id.get())
        # All of them end, also where one fails: what is not durable yet may still become it.
        submitted = [self._framer.submit(admitted, context) for admitted in judgement.admitted]
        outcomes = await asyncio.gather(*submitted, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _record(self, judgement: Judgement, who: Principal) -> None:
        replayed, refused = len(judgement.replayed), len(judgement.refused)
        self._metrics.items.labels("replayed").inc(replayed)
        self._metrics.items.labels("refused").inc(refused)
        _log.info(
            "quarantine_replayed", by=who.name, replayed=replayed, readings=judgement.readings, refused=refused
        )  # fmt: skip


def _audited(judgement: Judgement) -> dict[str, Any]:
    """The items themselves stay in quarantine, with what they were."""
    ids = [row.id for row in judgement.replayed]
    return {"items": ids, "readings": judgement.readings, "refused": len(judgement.refused)}


def _selection(request: ReplayRequest, who: Principal) -> Selection:
    """What the request names, of what the token may replay. Raises Forbidden, of a token for an organisation too: whose
    the stations of refused items are, this service does not know."""
    if who.organisation is not None:
        raise Forbidden(f"this is about all stations, and your token is for those of {who.organisation} only")
    stations = stations_within(who, None if request.station_id is None else [request.station_id])
    return Selection(
        None if request.ids is None else tuple(request.ids),
        request.reason,
        None if stations is None else tuple(stations),
        request.start,
        request.end,
    )


def _answer(request: ReplayRequest, cursor: ReplayCursor, judgement: Judgement, found: list[int]) -> ReplayAnswer:
    listed = judgement.refused[:REFUSED_LISTED_MAX]
    waiting = set(found)
    asked = sorted(one for one in set(request.ids or ()) if one > cursor.above)
    # Of ids that were named, those behind the last one found are a matter of the next request.
    more = bool(found) and found[-1] < min([cursor.up_to, *asked[-1:]])
    reached = asked if not more else [one for one in asked if one <= found[-1]]
    return ReplayAnswer(
        dry_run=request.dry_run,
        replayed=len(judgement.replayed),
        readings=judgement.readings,
        refused=[RefusedAgain(**one._asdict()) for one in listed],
        refused_omitted=len(judgement.refused) - len(listed),
        not_waiting=[one for one in reached if one not in waiting],
        next=encode_cursor(ReplayCursor(found[-1], cursor.up_to)) if more else None,
    )
