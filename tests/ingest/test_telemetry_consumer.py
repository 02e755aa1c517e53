"""Laws of readings that arrive as events, and of the accepted totals in the live view."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from ingest.declaration import Ingest
from ingest.ledger import TOPIC, LedgerReporter
from ingest.telemetry_consumer import PREFETCH
from kit.auth.authenticator import Authenticator
from kit.clock import SystemClock
from kit.errors import Overloaded, Unavailable, Unprocessable
from kit.live.view import InProcessLive
from kit.messaging.bus import DIRECT, InProcessBus, Message
from kit.retry import RetryPolicy
from kit.web.limits.refusals import Refusals
from schemas.frame import FrameKind, decode_body, decode_header
from schemas.reading import with_all_columns
from schemas.topics import TELEMETRY_GENERATED, group_queue, routing_key
from tests.ingest.conftest import PARTITIONS, SETTINGS, ControlledLog, Tokens
from tests.waiting import eventually


def event(readings: Any) -> Message:
    metadata = {
        "eventId": str(uuid4()),
        "timestamp": "2026-11-22T13:17:47Z",
        "source": "simulator",
        "correlationId": "corr-9",
        "type": TELEMETRY_GENERATED,
        "version": 1,
    }
    body = json.dumps({"metadata": metadata, "payload": {"readings": readings}}).encode()
    return Message(DIRECT, routing_key(TELEMETRY_GENERATED), body)


def reading(**changes: Any) -> dict[str, Any]:
    return {"station_id": "CP1", "connector_id": 1, "ts": SystemClock().now_ms()} | changes


def ingest_on(log: ControlledLog, live: InProcessLive) -> Ingest:
    clock = SystemClock()
    authenticator = Authenticator(Tokens(), clock)  # type: ignore[arg-type]  # has the methods of TokenStore that it calls
    registry = CollectorRegistry()
    return Ingest(
        lambda: SETTINGS,
        PARTITIONS,
        log=log,
        live=live,
        authenticator=authenticator,
        clock=clock,
        registry=registry,
        refusals=Refusals(registry, clock.monotonic_s),
    )


async def subscribe(ingest: Ingest, bus: InProcessBus) -> None:
    queue = group_queue("ingest", TELEMETRY_GENERATED)
    await bus.subscribe(queue, DIRECT, routing_key(TELEMETRY_GENERATED), ingest.receive, prefetch=PREFETCH)


async def test_events_over_the_bus_become_frames_of_any_station() -> None:
    log, live, bus = ControlledLog(), InProcessLive(), InProcessBus(RetryPolicy())
    ingest = ingest_on(log, live)
    ingest.start()
    await subscribe(ingest, bus)
    await bus.publish(event([reading(seq=1), reading(station_id="CP2", seq=2), reading(seq=-1)]))
    await eventually(lambda: sum(decode_header(frame).items for frame in log.frames) == 3)
    await bus.close()
    await ingest.close()
    await live.close()
    kinds = {decode_header(frame).kind for frame in log.frames}
    assert kinds == {FrameKind.READINGS, FrameKind.REFUSED}
    stations = [row["station_id"] for frame in log.frames for row in decode_body(frame).to_pylist()]
    assert sorted(stations) == ["CP1", "CP1", "CP2"]
    assert {decode_header(frame).correlation_id for frame in log.frames} == {"corr-9"}


async def test_one_damaged_reading_of_an_event_costs_no_other() -> None:
    log, live = ControlledLog(), InProcessLive()
    ingest = ingest_on(log, live)
    ingest.start()
    body = event([reading(seq=1), reading(seq=2, soc_pct="NaN_"), reading(seq=3, mode="eco")]).body
    await ingest.receive(Message(DIRECT, "telemetry.generated", body.replace(b'"NaN_"', b"NaN")))
    await ingest.close()
    await live.close()
    rows = {decode_header(frame).kind: with_all_columns(decode_body(frame)).to_pylist() for frame in log.frames}
    assert [(row["seq"], row["extra"]) for row in rows[FrameKind.READINGS]] == [(1, None), (3, '{"mode":"eco"}')]
    assert [row["reason"] for row in rows[FrameKind.REFUSED]] == ["malformed"]
    assert {decode_header(frame).correlation_id for frame in log.frames} == {"corr-9"}


@pytest.mark.parametrize("body", [b"{", b'{"metadata":{}}', event(3).body, b"[" * 100_000])
async def test_a_malformed_event_is_unprocessable(body: bytes) -> None:
    log, live = ControlledLog(), InProcessLive()
    ingest = ingest_on(log, live)
    ingest.start()
    with pytest.raises(Unprocessable):
        await ingest.receive(Message(DIRECT, "telemetry.generated", body))
    await ingest.close()
    assert log.frames == []


@pytest.mark.parametrize(("behaviour", "error"), [("full", Overloaded), ("down", Unavailable)])
async def test_an_event_is_not_acknowledged_before_it_is_durable(behaviour: str, error: type[Exception]) -> None:
    ingest = ingest_on(ControlledLog(behaviour), InProcessLive())
    ingest.start()
    with pytest.raises(error):
        await ingest.receive(event([reading()]))
    await ingest.close()


async def test_the_live_view_has_every_partitions_total() -> None:
    log, live, bus = ControlledLog(), InProcessLive(), InProcessBus(RetryPolicy())
    ingest = ingest_on(log, live)
    ingest.start()
    await subscribe(ingest, bus)
    for at in range(20):
        await bus.publish(event([reading(station_id=f"CP{at}")]))
    await eventually(lambda: len(log.frames) and sum(decode_header(frame).items for frame in log.frames) == 20)
    await bus.close()
    await ingest.close()
    reported = {key: json.loads(document)["items_total"] for key, document in (await live.all(TOPIC)).items()}
    last = {f"{ingest.source}/{header.partition}": header.items_total for header in map(decode_header, log.frames)}
    assert reported == last
    assert sum(reported.values()) == 20


class UnavailableLive(InProcessLive):
    """A live view whose first two puts fail."""

    failures = 2

    async def put(self, topic: str, documents: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("no live view")
        await super().put(topic, documents)


async def test_a_total_that_could_not_be_reported_is_reported_later() -> None:
    live = UnavailableLive()
    reporter = LedgerReporter(live, "s")
    reporter.start()
    reporter.note(0, 5)
    reporter.note(0, 9)
    await eventually(lambda: live.failures == 0)
    await asyncio.sleep(0)
    await reporter.close()
    assert await live.all(TOPIC) == {"s/0": b'{"items_total":9}'}
