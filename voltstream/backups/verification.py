"""Whether a platform's data are whole and true, by programs that did not write them: as it runs, or after a restore.

The ledgers, the audit, and what was paid of documents are each checked in one snapshot. Charges are not: they are
computed for as long as it takes, so what does not agree is looked at again. What the platform still has to do (events
in an outbox or under way to billing, frames in the log) is no fault.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from api.audit.sealing import verify as verify_audit
from billing.declaration import SERVICE as BILLING
from billing.invoices.store import InvoiceStore
from billing.readings_store import ReadingsStore
from billing.reconcile import Drift, Finding, Reconciler, Report
from billing.settings import PAUSED, BillingSettings
from kit.clock import Clock
from kit.config.adjustable import adjustables_of
from kit.config.values import resolve
from kit.database.migrations import status
from kit.database.postgres import Database, connect_sync, open_database, outages
from kit.lake.folder import LakeFolder
from kit.lake.reader import LakeReader
from streams.storage.ledger_check import LedgerCheck, check_ledgers
from voltstream.backups.charges_under_way import DriftFollower, EventsUnderWay
from voltstream.backups.progress import Progress
from voltstream.backups.store import sessions_to_be_published
from voltstream.runtime.config_updates import read_snapshot
from voltstream.runtime.database import sources_of
from voltstream.services import all_services

T = TypeVar("T")
_ALL: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class DataCheck:
    """The result of one: what was looked at, in words and figures, and what is wrong."""

    name: str
    detail: str
    figures: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class VerificationPlan:
    """What to verify."""

    url: str
    lake: LakeFolder | None
    retention_days: int  # of raw readings; 0: all are kept
    clock: Clock
    billing_paused: bool = False  # by the settings of this process; what operators have set is before it
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep  # for so many seconds of the clock


def run_checks(plan: VerificationPlan, progress: Progress) -> Iterator[DataCheck]:
    """Each as it ends. Blocks. Raises Unavailable, ConfigError; without its tables, after the first."""
    migrations = _migrations(plan.url)
    yield migrations
    if not migrations.ok:
        return
    yield from _ledgers(plan, progress)
    yield asyncio.run(_with_database(plan.url, None, _audit))
    charges = partial(_charges, plan=plan, progress=progress)
    yield asyncio.run(_with_database(plan.url, BILLING.role, charges))


def _migrations(url: str) -> DataCheck:
    found = status(url, sources_of(all_services()))
    missing = [one.id for one in found if not one.applied]
    said = f"{len(found) - len(missing):,} of {len(found):,} applied"
    faults = [f"{id_} is not applied: run `voltstream migrate`" for id_ in missing]
    return DataCheck("migrations", said, {"applied": len(found) - len(missing), "known": len(found)}, faults)


def _ledgers(plan: VerificationPlan, progress: Progress) -> Iterator[DataCheck]:
    with connect_sync(plan.url, name="voltstream verify", autocommit=True) as connection, outages():
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        found = check_ledgers(
            connection, plan.lake, plan.clock.now(), plan.retention_days,
            lambda done, total: progress("reading the lake", done, total),
        )  # fmt: skip
    yield _lake(found)
    flight = f", {found.in_flight:,} accepted ones are in the log or were lost with it" if found.in_flight else ""
    yield DataCheck(
        "ledger of readings",
        f"{found.stored:,} stored, in windows by {found.days:,} days and partitions{flight}",
        {"stored": found.stored, "in_flight": found.in_flight, "days": found.days},
        found.reading_faults,
    )
    yield DataCheck(
        "ledger of energy",
        f"readings and windows have the same shares on {found.days:,} days and partitions",
        {"days": found.days},
        found.energy_faults,
    )


def _lake(found: LedgerCheck) -> DataCheck:
    said = f"{found.files:,} files, {found.file_bytes:,} bytes, read and compared with their hashes"
    return DataCheck("lake", said, {"files": found.files, "bytes": found.file_bytes}, found.lake_faults)


async def _audit(database: Database) -> DataCheck:
    found = await verify_audit(database)
    said = f"{found.entries:,} entries in {found.blocks:,} blocks, {found.unsealed:,} not sealed yet"
    faults = [f"block {fault.block}, entry {fault.entry_id}: {fault.what}" for fault in found.faults]
    return DataCheck("audit", said, {"entries": found.entries, "blocks": found.blocks}, faults)


async def _charges(database: Database, *, plan: VerificationPlan, progress: Progress) -> DataCheck:
    """Every charge derived again from the stored readings, by the program that did not price it in the stream."""
    source = ReadingsStore(database, LakeReader(plan.lake))
    reconciler = Reconciler(InvoiceStore(database), source)
    report = await reconciler.run(*_ALL, lambda done, total: progress("computing charges", done, total))

    async def again(subject_ids: Sequence[UUID]) -> Report:
        return await reconciler.again(subject_ids, await source.completed_among(subject_ids))

    follower = DriftFollower(report, partial(_events_under_way, plan), again, plan.clock, plan.pause, progress)
    settled = await follower.run()
    outcomes = {outcome.value: report.outcomes[outcome] for outcome in Finding if report.outcomes[outcome]}
    if settled.to_come:
        wrong = len(settled.wrong) + settled.wrong_unlisted
        outcomes |= {Finding.DRIFT.value: wrong, "to_come": settled.to_come}
    said = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.items() if number) or "there are none"
    faults = [*map(_described, settled.wrong), *report.money]
    if settled.wrong_unlisted:
        faults.append(f"{settled.wrong_unlisted:,} more charges that do not agree")
    return DataCheck("charges and documents", said, {"charges": report.charges, "outcomes": outcomes}, faults)


async def _events_under_way(plan: VerificationPlan) -> EventsUnderWay:
    snapshot = await _with_database(plan.url, None, read_snapshot)
    paused = adjustables_of(BillingSettings)[PAUSED]
    try:
        is_paused = bool(resolve(paused, plan.billing_paused, None, snapshot).value)
    except ValueError:  # set by another version: it does not pause billing of this one either
        is_paused = plan.billing_paused
    return EventsUnderWay(await asyncio.to_thread(_waiting, plan.url), is_paused)


def _waiting(url: str) -> set[str]:
    with connect_sync(url, name="voltstream verify", autocommit=True) as connection, outages():
        return sessions_to_be_published(connection)


def _described(drift: Drift) -> str:
    what = drift.reservation_id or drift.subject_id
    return f"{drift.kind} {what} at {drift.station_id}: {'; '.join(drift.differences)}"


async def _with_database(url: str, role: str | None, work: Callable[[Database], Awaitable[T]]) -> T:
    database = await open_database(url, name="voltstream verify", role=role, connections_max=4)
    try:
        return await work(database)
    finally:
        await database.close()
