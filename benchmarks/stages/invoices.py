"""Hypothesis: an invoice is about ten small rows in one transaction with other invoices. Beyond the rows it costs the
decoding of an event, the session's stored readings, rating them in plain Python and building the documents: for a
session of 100 readings less than five milliseconds.

Measured: session.completed.v1 (of 100 tariffs, every tenth event twice) to committed CDR, invoice, lines, inbox and
outbox, as billing's declaration subscribes it, on a real PostgreSQL with the sessions' readings, by processor time of
the consuming process; over the in-process bus, where that includes publishing, and over RabbitMQ, from a queue filled
before. Sessions have 100 stored readings, beside it 3. At the end every session must have one invoice, numbers no gaps,
and the sum must be the stream's. Limit: bare INSERTs of the same rows, with as many per transaction.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

import psycopg

from benchmarks.bare_inserts import bare_inserts
from benchmarks.completed_sessions import completed, store_readings
from benchmarks.consuming import Feed, consumed, in_process_feed, rabbit_feed
from benchmarks.processes import TimeMeter, TimeSpent
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from billing.declaration import SERVICE
from kit.messaging.bus import Message
from schemas.topics import SESSION_COMPLETED
from voltstream.settings import load_settings

SESSIONS, SESSIONS_QUICK = 10_000, 50
SESSIONS_OF_MANY: Final = 2_000  # with READINGS each
READINGS: Final = 100
TARIFFS, TARIFFS_QUICK = 100, 5
TARGET: Final = 200.0
TARGET_SHORT: Final = 500.0
_EVENTS: Final = (SESSION_COMPLETED,)


def run(bench: BenchmarkRun) -> list[Result]:
    """The `invoices` stage."""
    tariffs = bench.pick(TARIFFS, TARIFFS_QUICK)
    few = bench.pick(SESSIONS, SESSIONS_QUICK)
    with phase(bench.console, "invoices: making events"):
        short = Sessions(*completed(few, tariffs), readings=3)
        count = bench.pick(SESSIONS_OF_MANY, SESSIONS_QUICK)
        usual = Sessions(*completed(count, tariffs, readings=READINGS), readings=READINGS)
    return [
        _measure(bench, usual, "in-process bus", in_process, TARGET),
        _measure(bench, usual, "RabbitMQ", _rabbit, TARGET),
        _measure(bench, short, "3 readings, in-process bus", in_process, TARGET_SHORT),
    ]


class Sessions(NamedTuple):
    """Completed sessions to be invoiced."""

    messages: Sequence[Message]
    incl_micros: int  # of all
    readings: int  # of each


Measure = Callable[[BenchmarkRun, str, Sequence[Message]], Coroutine[Any, Any, tuple[TimeSpent, int]]]


def _measure(bench: BenchmarkRun, sessions: Sessions, name: str, measure: Measure, target: float) -> Result:
    count = len(sessions.messages)
    with bench.database() as url, bench.database() as empty:
        with phase(bench.console, f"invoices: {name}"):
            store_readings(url, sessions.messages, readings=sessions.readings)
            spent, batches = asyncio.run(measure(bench, url, sessions.messages))
        _check(url, count, sessions.incl_micros)
        with phase(bench.console, "invoices: bare INSERTs"):
            bare = asyncio.run(bare_inserts(url, empty, _meter(bench), max(count // batches, 1)))
    note = (
        f"{sessions.readings} stored readings a session, {count / batches:.0f} sessions a transaction; processor time "
        f"of a session: consumer {spent.own_s / count * 1e3:.2f} ms, PostgreSQL {spent.others_s / count * 1e3:.2f} ms "
        f"(bare: {bare.own_s / count * 1e3:.2f} and {bare.others_s / count * 1e3:.2f}); "
        f"{count / spent.elapsed_s:.0f} sessions/s by the clock (bare: {count / bare.elapsed_s:.0f})"
    )
    result = Result(f"invoices: {name}", count / spent.own_s, "sessions/s/core", target, note=note)
    return result.compare("bare INSERTs of the same rows", count / bare.own_s)


async def in_process(bench: BenchmarkRun, url: str, messages: Sequence[Message]) -> tuple[TimeSpent, int]:
    """Invoices of these events, and in how many transactions."""
    return await _consumed(bench, url, await in_process_feed(messages))


async def _rabbit(bench: BenchmarkRun, url: str, messages: Sequence[Message]) -> tuple[TimeSpent, int]:
    return await _consumed(bench, url, await rabbit_feed(bench, messages, SERVICE.name, _EVENTS))


async def _consumed(bench: BenchmarkRun, url: str, feed: Feed) -> tuple[TimeSpent, int]:
    settings = load_settings(invoice_settle_s=0)  # at once: the same rows, in one transaction and not two
    spent, registry = await consumed(bench, url, SERVICE, settings, feed, _EVENTS)
    return spent, int(registry.get_sample_value("billing_batch_events_count") or 1)


def _meter(bench: BenchmarkRun) -> TimeMeter:
    return TimeMeter(bench.pids("postgres"))


def _check(url: str, count: int, incl_micros: int) -> None:
    """One invoice per session, numbers without a gap, the stream's sum, and one outbox row, inbox row and CDR each."""
    with psycopg.connect(url) as connection:
        invoices = connection.execute(
            "SELECT count(*), count(DISTINCT subject_id), min(sequence), max(sequence), count(DISTINCT sequence), "
            "sum(total_incl_micros)::bigint FROM billing.invoice"
        ).fetchone()
        counts = connection.execute(
            "SELECT count(*), (SELECT count(*) FROM billing.events_processed), (SELECT count(*) FROM billing.cdr "
            "WHERE status = 'invoiced') FROM billing.outbox"
        ).fetchone()
    assert invoices == (count, count, 1, count, count, incl_micros), f"{count} sessions, {invoices}"
    assert counts == (count, count, count), f"{count} sessions, outbox, inbox and CDRs have {counts}"
