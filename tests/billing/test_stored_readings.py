"""Laws of the check on a real PostgreSQL: what telemetry stores, by its contract in SQL, decides what is invoiced."""

import random
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pyarrow as pa
import pytest

from billing.errors import SourceFailed
from billing.invoices.store import InvoiceStore
from billing.readings_source import StoredReadings
from billing.readings_store import ReadingsStore
from billing.reconcile import Reconciler
from kit.clock import to_ms
from kit.messaging.bus import EVENT_ID, Message
from kit.web.errors import NotFound
from schemas.events import Money, SessionCompleted
from schemas.frame import FrameHeader, FrameKind
from schemas.reading import READING_SCHEMA, SessionEvent, Status
from schemas.topics import SESSION_COMPLETED, routing_key
from streams.effects import StepParams
from streams.state.partition import PartitionState
from streams.storage.commit import Flush, commit
from streams.storage.connections import Connections, open_writer
from streams.storage.events import FlushContext
from streams.storage.store import Store
from streams.worker.compute import compute_effects
from tests.billing.making import START, TARIFF, ZONE, free_session, session
from tests.billing.running import RunningBilling
from tests.billing.sessions import completed, later, readings
from tests.billing.telemetry import ANYTHING

Frame = tuple[FrameHeader, pa.RecordBatch]


def superseded(billing: RunningBilling) -> float:
    return billing.metric("billing_claims_total", outcome="superseded")


def with_volume(event: SessionCompleted, more_mwh: int) -> SessionCompleted:
    """The event with another energy, its cost as if that were right."""
    assert event.pricing is not None
    used = [
        msgspec.structs.replace(one, volume=one.volume + more_mwh) if one.dimension == "ENERGY" else one
        for one in event.pricing.consumption
    ]
    wrong = session(event.id, used=used, revision=event.revision)
    assert wrong.pricing is not None
    pricing = msgspec.structs.replace(event.pricing, consumption=used, cost=wrong.pricing.cost)
    return msgspec.structs.replace(event, pricing=pricing)


async def test_a_wrong_quantity_at_the_right_price_is_never_invoiced(billing: RunningBilling, seed: int) -> None:
    right = completed(billing.telemetry, readings(random.Random(seed)))
    await billing.deliver(with_volume(right, 1))
    assert billing.documents() == []
    (cdr,) = billing.cdrs(right.id)
    assert right.pricing is not None
    assert (cdr["status"], cdr["total_excl_micros"]) == ("drift", right.pricing.cost.excl_vat_micros), "by billing"
    assert cdr["reason"].startswith("element 0 ENERGY: stored ")
    assert billing.metric("billing_drift_total") == 1
    await billing.deliver(completed(billing.telemetry, readings(random.Random(seed)), right.id, 2))
    assert [document["status"] for document in billing.documents()] == ["open"], "the next good revision is invoiced"


async def test_an_event_is_not_invoiced_once_later_readings_are_stored(billing: RunningBilling, seed: int) -> None:
    stored = readings(random.Random(seed))
    first = completed(billing.telemetry, stored)
    second = completed(billing.telemetry, later(stored), first.id, 2)
    await billing.deliver(first)
    assert (billing.documents(), billing.cdrs(first.id)) == ([], []), "neither invoiced nor in doubt"
    assert superseded(billing) == 1
    await billing.deliver(second, first)
    (invoice,) = billing.documents()
    assert second.pricing is not None
    assert invoice["total_incl_micros"] == second.pricing.cost.incl_vat_micros
    assert [(cdr["revision"], cdr["status"]) for cdr in billing.cdrs(first.id)] == [(2, "invoiced")]


async def test_the_invoice_of_a_session_whose_readings_are_another_ones_is_credited_and_not_replaced(
    billing: RunningBilling, seed: int
) -> None:
    first = completed(billing.telemetry, readings(random.Random(seed)))
    await billing.deliver(first)
    assert first.pricing is not None
    nothing = Money(currency="EUR", excl_vat_micros=0, incl_vat_micros=0)
    pricing = msgspec.structs.replace(first.pricing, consumption=[], cost=nothing)
    withdrawn = msgspec.structs.replace(
        first, revision=2, end_reason="withdrawn", readings=0, flagged=0, energy_uj=0, void=True, pricing=pricing
    )
    billing.telemetry.complete(withdrawn, StoredReadings((), (), ANYTHING))
    await billing.deliver(withdrawn, first)
    assert [(one["kind"], one["status"]) for one in billing.documents()] == [
        ("invoice", "cancelled"),
        ("credit_note", "settled"),
    ]
    assert [(cdr["revision"], cdr["status"]) for cdr in billing.cdrs(first.id)] == [(1, "invoiced"), (2, "void")]
    reconciler = Reconciler(InvoiceStore(billing.database), ReadingsStore(billing.database))
    report = await reconciler.run(START, START + timedelta(days=1), lambda done, expected: None)
    assert (report.drifts, report.booked_micros["EUR"], report.derived_micros["EUR"]) == ([], 0, 0)


async def test_a_session_that_is_open_again_waits_for_its_end(billing: RunningBilling, seed: int) -> None:
    stored = readings(random.Random(seed))
    first = completed(billing.telemetry, stored)
    billing.telemetry.reopen(first.id)
    await billing.deliver(first)
    assert (billing.documents(), billing.cdrs(first.id), superseded(billing)) == ([], [], 1)
    await billing.deliver(completed(billing.telemetry, later(stored), first.id, 2))
    assert [document["status"] for document in billing.documents()] == ["open"]


async def test_an_invoice_stands_while_a_doubtful_quantity_is_looked_at(billing: RunningBilling, seed: int) -> None:
    stored = readings(random.Random(seed))
    first = completed(billing.telemetry, stored)
    await billing.deliver(first)
    await billing.deliver(with_volume(completed(billing.telemetry, later(stored), first.id, 2), 1_000))
    assert [document["status"] for document in billing.documents()] == ["open"]
    assert [cdr["status"] for cdr in billing.cdrs(first.id)] == ["invoiced", "drift"]


@pytest.mark.parametrize("kept", [0, 20])
async def test_a_session_whose_readings_retention_has_dropped_is_put_to_review(
    billing: RunningBilling, seed: int, kept: int
) -> None:
    stored = readings(random.Random(seed))
    event = completed(billing.telemetry, stored)
    newest = (
        sorted(zip(stored.readings, stored.flags, strict=True), key=lambda one: one[0].ts_ms)[-kept:] if kept else []
    )
    left = StoredReadings([one for one, _ in newest], [flags for _, flags in newest], stored.before)
    billing.telemetry.set_readings(event.id, left)
    await billing.deliver(event)
    assert billing.documents() == []
    (cdr,) = billing.cdrs(event.id)
    assert event.pricing is not None
    assert (cdr["status"], cdr["total_excl_micros"]) == ("review", event.pricing.cost.excl_vat_micros)
    assert cdr["reason"] == f"{kept} of its {len(stored.readings)} readings are still stored"
    await billing.deliver(completed(billing.telemetry, stored, event.id, 2))
    assert [document["status"] for document in billing.documents()] == ["open"]


async def test_a_session_that_telemetry_does_not_know_is_put_to_review(billing: RunningBilling, seed: int) -> None:
    event = completed(billing.telemetry, readings(random.Random(seed)))
    billing.telemetry.forget(event.id)
    await billing.bus.publish(_message(msgspec.json.encode(_envelope(event))))
    assert [(cdr["status"], cdr["reason"]) for cdr in billing.cdrs(event.id)] == [
        ("review", "telemetry does not know the session")
    ]
    assert billing.documents() == []


def _envelope(event: SessionCompleted) -> dict[str, Any]:
    metadata = {"eventId": str(uuid4()), "timestamp": "2026-03-29T09:00:00Z", "source": "test", "version": 1}
    return {"metadata": {**metadata, "correlationId": "c", "type": SESSION_COMPLETED}, "payload": event}


def _message(body: bytes) -> Message:
    return Message("direct_events", routing_key(SESSION_COMPLETED), body, {EVENT_ID: str(uuid4())})


async def test_the_source_gives_every_session_once_in_parts_of_any_size(billing: RunningBilling, seed: int) -> None:
    rng = random.Random(seed)
    events = {}
    for number in range(6):
        stored = readings(rng, START + timedelta(minutes=number), count=20 + number)
        events[completed(billing.telemetry, stored).id] = stored
    nothing = free_session()
    billing.telemetry.complete(nothing, StoredReadings((), (), ANYTHING))
    for at_once in (1, 50, 10_000):
        source = ReadingsStore(billing.database, at_once=at_once)
        found = {one.id: one async for one in source.sessions([*events, nothing.id, uuid4()])}
        assert found.keys() == {*events, nothing.id}
        for id_, stored in events.items():
            one = found[id_].readings
            assert one is not None
            assert one.before == stored.before
            assert sorted(zip(one.readings, one.flags, strict=True), key=repr) == sorted(
                zip(stored.readings, stored.flags, strict=True), key=repr
            )
    small = ReadingsStore(billing.database, readings_max=22)
    sizes = {id_: len(stored.readings) for id_, stored in events.items()}
    assert {one.id for one in [one async for one in small.sessions(list(events))] if one.readings is None} == {
        id_ for id_, size in sizes.items() if size > 22
    }
    with pytest.raises(SourceFailed):
        await ReadingsStore(billing.database, readings_max=1).readings(next(iter(events)))
    with pytest.raises(NotFound):
        await source.readings(uuid4())
    listed = [one async for one in source.completed_sessions(START, START + timedelta(days=1))]
    assert {one.id for one in listed} == {*events, nothing.id}


def frame(number: int, total: int, rows: list[dict[str, Any]]) -> Frame:
    plain = dict.fromkeys(READING_SCHEMA.names) | {"connector_id": 1, "session_event": SessionEvent.NONE}
    batch = pa.RecordBatch.from_pylist([plain | row for row in rows], READING_SCHEMA)
    received_ms = max(row["ts_ms"] for row in rows) + 5
    return FrameHeader(FrameKind.READINGS, 0, "source", number, len(rows), total, received_ms), batch


def charging(rng: random.Random, station: str, count: int) -> list[dict[str, Any]]:
    """A session with gaps in register and power, a placeholder zero, and an end."""
    rows, energy_mwh, ts_ms = [], rng.randrange(10**9), to_ms(START)
    for seq in range(count):
        status = Status.CHARGING if seq < count - 5 else Status.SUSPENDED_EV
        power_mw = rng.randrange(5_000_000, 22_000_000) if status is Status.CHARGING else 0
        rows.append(
            {
                "station_id": station,
                "session_id": "tx",
                "seq": seq,
                "ts_ms": ts_ms,
                "energy_mwh": rng.choice([energy_mwh, energy_mwh, None, 0]) if 0 < seq < count - 1 else energy_mwh,
                "power_mw": rng.choice([power_mw, None]),
                "status": int(status),
                "session_event": int(SessionEvent.ENDED if seq == count - 1 else SessionEvent.NONE),
            }
        )
        dt_ms = rng.randrange(10_000, 120_000)
        ts_ms, energy_mwh = ts_ms + dt_ms, energy_mwh + power_mw * dt_ms // 3_600_000
    return rows


async def test_what_the_stream_stores_and_publishes_is_invoiced_also_after_late_readings(
    billing: RunningBilling, seed: int
) -> None:
    """The stream's own step and commit on the same database; its events as its outbox has them."""
    rng = random.Random(seed)
    publish = (
        "INSERT INTO pricing.version (id, target_kind, target, time_zone, currency, tariff, effective_from, reason, "
        "published_by) VALUES (gen_random_uuid(), 'default', '', %s, 'EUR', %s, '2020-01-01Z', 'operator', 'test')"
    )
    with psycopg.connect(billing.url) as connection:
        connection.execute(publish, (ZONE, msgspec.json.encode(TARIFF).decode()))
    sessions = [charging(rng, f"NL-{number}", 40) for number in range(5)]
    late = [rows.pop(rng.randrange(5, 30)) for rows in sessions]
    rows = [row for of_one in sessions for row in of_one]
    frames = [frame(0, len(rows), rows), frame(1, len(rows) + len(late), late)]
    store = Store(Connections(partial(open_writer, billing.url), 2), priced=True)
    try:
        acquired, state = store.acquire(0), PartitionState(0)
        for number, one in enumerate(frames, 1):
            effects = compute_effects(state, [one], one[0].received_ms, store, StepParams())
            flush = Flush(
                0, acquired.epoch, acquired.commits + number, number - 1, number, effects, b"", number == 1,
                FlushContext(one[0].received_ms, ""),
            )  # fmt: skip
            commit(store, flush)
    finally:
        store.connections.close()
    bodies = [row["body"] for row in billing.rows("SELECT body FROM telemetry.outbox ORDER BY id")]
    events = [body for body in bodies if msgspec.json.decode(body)["metadata"]["type"] == SESSION_COMPLETED]
    assert len(events) == 2 * len(sessions)
    for body in rng.sample(events, len(events)):
        await billing.bus.publish(_message(body))
    costs = billing.rows("SELECT id, revision, cost_incl_micros FROM telemetry.session_overview")
    assert {document["subject_id"]: document["total_incl_micros"] for document in billing.documents()} == {
        row["id"]: row["cost_incl_micros"] for row in costs
    }
    assert {row["revision"] for row in costs} == {2}
    assert superseded(billing) == len(sessions)
    assert billing.metric("billing_drift_total") == 0
