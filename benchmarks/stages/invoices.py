"""Hypothesis: an invoice is some ten small rows in one transaction shared with its neighbours; what it costs beyond the
rows is decoding an event, pricing its consumption once more, and building the documents: less than two milliseconds.

Measured: session.completed.v1 (of 100 tariffs, every tenth event twice) to committed CDR, invoice, lines, note of the
event and outbox: `billing.composition.consume_billing` on a real PostgreSQL, by processor time of the process that
consumes; over the bus in the process, where that pays for publishing too, and over RabbitMQ, from a queue filled
before. In the end every session has one invoice, numbers have no gaps, and the sum is the stream's. Limit: bare INSERTs
of the same rows, as many in a transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import psycopg
from prometheus_client import CollectorRegistry

from benchmarks.bare_inserts import bare_inserts
from benchmarks.completed import completed
from benchmarks.processes import Meter, Spent
from benchmarks.report import Result, phase
from benchmarks.session import Deadline, Session
from billing.composition import ROLE, consume_billing
from billing.invoicing.metrics import InvoicingMetrics
from kit.clock import SystemClock
from kit.database.postgres import open_database
from kit.messaging.bus import DIRECT, Bus, InProcessBus, Message
from kit.messaging.consumer import ConsumerMetrics
from kit.messaging.outbox import WINDOW
from kit.messaging.rabbit_bus import RabbitBus
from kit.retry import RetryPolicy
from schemas.topics import SESSION_COMPLETED, group_queue, routing_key

SESSIONS, SESSIONS_QUICK = 10_000, 50
TARIFFS, TARIFFS_QUICK = 100, 5
TARGET: Final = 500.0
_TWICE: Final = 10  # every so manieth event comes twice
_TOTAL_MAX: Final = 1_000_000
_READY_S: Final = 30.0
_POLL_S: Final = 0.02
_QUEUE: Final = group_queue("billing", SESSION_COMPLETED)


def run(session: Session) -> list[Result]:
    """The invoices' stage."""
    with phase(session.console, "invoices: making events"):
        count = session.pick(SESSIONS, SESSIONS_QUICK)
        messages, incl_micros = completed(count, session.pick(TARIFFS, TARIFFS_QUICK))
    results = []
    for name, measure in (("in-process bus", in_process), ("RabbitMQ", _rabbit)):
        with session.database() as url, session.database() as empty:
            with phase(session.console, f"invoices: {name}"):
                spent, batches = asyncio.run(measure(session, url, messages))
            _check(url, count, incl_micros)
            with phase(session.console, "invoices: bare INSERTs"):
                bare = asyncio.run(bare_inserts(url, empty, _meter(session), max(count // batches, 1)))
        note = (
            f"{count / batches:.0f} sessions a transaction; processor time of a session: consumer "
            f"{spent.own_s / count * 1e3:.2f} ms, PostgreSQL {spent.others_s / count * 1e3:.2f} ms (bare: "
            f"{bare.own_s / count * 1e3:.2f} and {bare.others_s / count * 1e3:.2f}); "
            f"{count / spent.elapsed_s:.0f} sessions/s by the clock (bare: {count / bare.elapsed_s:.0f})"
        )
        result = Result(f"invoices: {name}", count / spent.own_s, "sessions/s/core", TARGET, note=note)
        results.append(result.compare("bare INSERTs of the same rows", count / bare.own_s))
    return results


async def in_process(session: Session, url: str, messages: Sequence[Message]) -> tuple[Spent, int]:
    bus = InProcessBus(RetryPolicy())
    again = messages[::_TWICE]

    async def publish() -> None:
        for at in range(0, len(messages), WINDOW):  # as many at once as a relay has under way
            await asyncio.gather(*(bus.publish(message) for message in messages[at : at + WINDOW]))
        await asyncio.gather(*(bus.publish(message) for message in again))

    return await _measured(session, url, bus, publish, len(messages) + len(again))


async def _rabbit(session: Session, url: str, messages: Sequence[Message]) -> tuple[Spent, int]:
    bus = RabbitBus(session.server("rabbitmq").url, RetryPolicy(), name="benchmarks")
    bus.start()
    await bus.wait_ready(_READY_S)
    await bus.declare(_QUEUE, DIRECT, routing_key(SESSION_COMPLETED))
    published = [*messages, *messages[::_TWICE]]
    for at in range(0, len(published), WINDOW):
        await asyncio.gather(*(bus.publish(message) for message in published[at : at + WINDOW]))

    async def nothing() -> None: ...

    return await _measured(session, url, bus, nothing, len(published))


async def _measured(
    session: Session, url: str, bus: Bus, publish: Callable[[], Awaitable[None]], deliveries: int
) -> tuple[Spent, int]:
    """From the subscription until so many deliveries have been handled; and how many transactions that took."""
    registry = CollectorRegistry()
    posting, consumers = InvoicingMetrics(registry), ConsumerMetrics(registry)
    database = await open_database(url, name="benchmarks", role=ROLE)
    deadline = Deadline(f"{deliveries} events handled")
    try:
        meter = _meter(session)
        meter.begin()
        await consume_billing(bus, database, SystemClock(), metrics=posting, consumers=consumers, total_max=_TOTAL_MAX)
        await publish()
        labels = {"queue": _QUEUE, "outcome": "handled"}
        while (registry.get_sample_value("events_consumed_total", labels) or 0) < deliveries:
            deadline.check()
            await asyncio.sleep(_POLL_S)
        spent = meter.end()
        return spent, int(registry.get_sample_value("billing_batch_events_count") or 1)
    finally:
        await bus.close()
        await database.close()


def _meter(session: Session) -> Meter:
    return Meter(session.pids("postgres"))


def _check(url: str, count: int, incl_micros: int) -> None:
    """One invoice a session, numbers without a gap, the stream's sum, everything told once."""
    with psycopg.connect(url) as connection:
        invoices = connection.execute(
            "SELECT count(*), count(DISTINCT subject_id), min(sequence), max(sequence), count(DISTINCT sequence), "
            "sum(total_incl_micros)::bigint FROM billing.invoice"
        ).fetchone()
        told = connection.execute(
            "SELECT count(*), (SELECT count(*) FROM billing.events_processed), (SELECT count(*) FROM billing.cdr "
            "WHERE status = 'invoiced') FROM billing.outbox"
        ).fetchone()
    assert invoices == (count, count, 1, count, count, incl_micros), f"{count} sessions, {invoices}"
    assert told == (count, count, count), f"{count} sessions, outbox, inbox and CDRs have {told}"
