"""Hypothesis: a notification is three or four small rows in one transaction with others. Beyond the rows it costs the
decoding of an event, a decision and the rendering of some compiled templates: less than half a millisecond.

Measured: events to committed, rendered and queued deliveries, as the declaration of notifications subscribes it: half
invoice.created.v1 (an e-mail with HTML), half reservation.created.v1 (an e-mail and a webhook), every tenth event
twice, 2,000 drivers with preferences, on a real PostgreSQL, by processor time of the consuming process; over the
in-process bus, where that includes publishing, and over RabbitMQ, from a queue filled before. At the end every event
must have one notification and its deliveries.
Limit: bare INSERTs of the same rows, with as many per transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID, uuid5

import asyncpg
import psycopg

from api.notifications.declaration import SERVICE
from benchmarks.consuming import Feed, consumed, in_process_feed, rabbit_feed
from benchmarks.processes import TimeMeter, TimeSpent
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from kit.messaging.bus import EVENT_ID, Message
from schemas.events import InvoiceChanged, ReservationChanged, envelope_of
from schemas.topics import INVOICE_CREATED, RESERVATION_CREATED
from voltstream.settings import load_settings

NOTIFICATIONS, NOTIFICATIONS_QUICK = 20_000, 60
DRIVERS: Final = 2_000
TARGET: Final = 2_000.0
_NAMESPACE: Final = UUID("00000000-0000-4000-8000-00000000000b")
_EVENTS: Final = (INVOICE_CREATED, RESERVATION_CREATED)
_TABLES: Final = ("events_processed", "notification", "delivery")  # in the order of foreign keys
_RECIPIENTS: Final = """
INSERT INTO notifications.recipient (subject, language, time_zone, quiet_from_min, quiet_until_min, digest_at_min,
                                     addresses, modes, updated_at, updated_by)
SELECT 'driver/D' || n, CASE n %% 2 WHEN 0 THEN 'de' ELSE 'en' END, 'Europe/Berlin', 1320, 420, 480,
       '{"email": "driver@example.com", "webhook": "https://example.com/hook"}',
       '{"receipts": {"webhook": "off"}}', now(), 'benchmark'
FROM generate_series(0, %s - 1) AS n
"""


def run(bench: BenchmarkRun) -> list[Result]:
    """The `notifications` stage."""
    messages = [_event(number) for number in range(bench.pick(NOTIFICATIONS, NOTIFICATIONS_QUICK))]
    return [
        _measure(bench, messages, "in-process bus", _in_process),
        _measure(bench, messages, "RabbitMQ", _rabbit),
    ]


def _event(number: int) -> Message:
    driver = f"D{number % DRIVERS}"
    payload: InvoiceChanged | ReservationChanged
    if number % 2:
        type_ = INVOICE_CREATED
        payload = InvoiceChanged(
            invoice_id=uuid5(_NAMESPACE, f"{number}"),
            number=f"2026-{number:07}",
            kind="invoice",
            session_id=uuid5(_NAMESPACE, f"session {number}"),
            reservation_id=None,
            driver_id=driver,
            version=1,
            status="issued",
            currency="EUR",
            total_excl_micros=10_000_000 + number,
            total_incl_micros=11_900_000 + number,
            payable_minor=1_190,
            replaces=None,
        )
    else:
        type_ = RESERVATION_CREATED
        payload = ReservationChanged(
            reservation_id=f"R-{number}",
            revision=1,
            station_id=f"DE-VS-{number % 1_000:04}",
            connector_id=1,
            bay=None,
            driver_id=driver,
            starts_at="2026-03-29T10:00:00.000Z",
            ends_at="2026-03-29T11:00:00.000Z",
            status="held",
            reason=None,
            moved_from=None,
        )
    event_id = uuid5(_NAMESPACE, f"event {number}")
    envelope = envelope_of(type_, event_id, payload, source="benchmark", timestamp="2026-03-29T09:00:00.000Z")
    return Message(envelope.exchange, envelope.routing_key, envelope.encoded(), {EVENT_ID: str(event_id)})


Measure = Callable[[BenchmarkRun, str, Sequence[Message]], Awaitable[TimeSpent]]


def _measure(bench: BenchmarkRun, messages: Sequence[Message], name: str, measure: Measure) -> Result:
    count = len(messages)
    with bench.database() as url, bench.database() as empty:
        with psycopg.connect(url) as connection:
            connection.execute(_RECIPIENTS.encode(), (DRIVERS,))
        with phase(bench.console, f"notifications: {name}"):
            spent = asyncio.run(_awaited(measure(bench, url, messages)))
        batches, deliveries = _check(url, count)
        with phase(bench.console, "notifications: bare INSERTs"):
            bare = asyncio.run(_bare_inserts(bench, url, empty, max(count // batches, 1)))
    note = (
        f"{deliveries / count:.1f} deliveries a notification, {count / batches:.0f} notifications a transaction; "
        f"processor time of a notification: consumer {spent.own_s / count * 1e6:.0f} us, PostgreSQL "
        f"{spent.others_s / count * 1e6:.0f} us (bare: {bare.own_s / count * 1e6:.0f} and "
        f"{bare.others_s / count * 1e6:.0f}); {count / spent.elapsed_s:.0f} notifications/s by the clock (bare: "
        f"{count / bare.elapsed_s:.0f})"
    )
    result = Result(f"notifications: {name}", count / spent.own_s, "notifications/s/core", TARGET, note=note)
    return result.compare("bare INSERTs of the same rows", count / bare.own_s)


async def _awaited(work: Awaitable[TimeSpent]) -> TimeSpent:
    return await work


async def _in_process(bench: BenchmarkRun, url: str, messages: Sequence[Message]) -> TimeSpent:
    return await _consumed(bench, url, await in_process_feed(messages))


async def _rabbit(bench: BenchmarkRun, url: str, messages: Sequence[Message]) -> TimeSpent:
    return await _consumed(bench, url, await rabbit_feed(bench, messages, SERVICE.name, _EVENTS))


async def _consumed(bench: BenchmarkRun, url: str, feed: Feed) -> TimeSpent:
    settings = load_settings(
        smtp_host="127.0.0.1", mail_from="benchmark@example.com", webhook_key="k" * 32, notification_sending=False,
        notification_rate_per_h=10_000,
    )  # fmt: skip
    spent, _ = await consumed(bench, url, SERVICE, settings, feed, _EVENTS)
    return spent


def _check(url: str, count: int) -> tuple[int, int]:
    """One notification an event, of an invoice one delivery queued and one suppressed, of a reservation two, all
    rendered. Returns the number of transactions and of deliveries."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT count(*), count(DISTINCT event_id), count(DISTINCT xmin::text) FROM notifications.notification"
        ).fetchone()
        states = connection.execute(
            "SELECT n.kind, d.channel, d.state, count(*) FROM notifications.delivery AS d"
            " JOIN notifications.notification AS n ON n.id = d.notification_id "
            "WHERE (d.body <> '') = (d.state = 'queued') GROUP BY 1, 2, 3"
        ).fetchall()
    assert found is not None
    assert found[:2] == (count, count), f"{count} events, {found}"
    invoices = count // 2
    assert {tuple(row) for row in states} == {
        ("invoice", "email", "queued", invoices),
        ("invoice", "webhook", "suppressed", invoices),
        ("reservation_created", "email", "queued", count - invoices),
        ("reservation_created", "webhook", "queued", count - invoices),
    }, states
    return found[2], sum(row[3] for row in states)


async def _bare_inserts(bench: BenchmarkRun, source: str, target: str, at_once: int) -> TimeSpent:
    """Insert the same rows into the same, empty tables, those of `at_once` notifications per transaction."""
    source_connection, connection = await asyncpg.connect(source), await asyncpg.connect(target)
    try:
        statements, parts = {}, {}
        for table in _TABLES:
            order = {"notification": "id", "delivery": "notification_id"}.get(table, "event_id")
            rows = await source_connection.fetch(f"SELECT * FROM notifications.{table} ORDER BY {order}")  # noqa: S608  # our own names
            names = [*rows[0].keys()]
            values = ", ".join(f"${place}" for place in range(1, len(names) + 1))
            statements[table] = f"INSERT INTO notifications.{table} ({', '.join(names)}) VALUES ({values})"  # noqa: S608  # our own names
            size = at_once * (2 if table == "delivery" else 1)
            parts[table] = [[tuple(row) for row in rows[at : at + size]] for at in range(0, len(rows), size)]
        meter = TimeMeter(bench.pids("postgres"))
        for number in range(len(parts["notification"])):
            async with connection.transaction():
                for table, statement in statements.items():
                    if number < len(parts[table]):
                        await connection.executemany(statement, parts[table][number])
        return meter.end()
    finally:
        await source_connection.close()
        await connection.close()
