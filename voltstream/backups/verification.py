"""Whether a platform's data are whole and true, by programs that did not write them: as it runs, or after a restore.

Each check is of one snapshot. What the platform still has to do (events in an outbox, frames in the log) is no fault.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from api.audit.sealing import verify as verify_audit
from billing.declaration import SERVICE as BILLING
from billing.invoices.store import InvoiceStore
from billing.readings_store import ReadingsStore
from billing.reconcile import Drift, Finding, Reconciler
from kit.clock import Clock
from kit.database.migrations import status
from kit.database.postgres import Database, connect_sync, open_database, outages
from kit.lake.folder import LakeFolder
from kit.lake.reader import LakeReader
from streams.storage.ledger_check import LedgerCheck, check_ledgers
from voltstream.backups.progress import Progress
from voltstream.backups.store import sessions_to_be_published
from voltstream.runtime.database import sources_of
from voltstream.services import all_services

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


def run_checks(plan: VerificationPlan, progress: Progress) -> Iterator[DataCheck]:
    """Each as it ends. Blocks. Raises Unavailable, ConfigError; without its tables, after the first."""
    migrations = _migrations(plan.url)
    yield migrations
    if not migrations.ok:
        return
    yield from _ledgers(plan, progress)
    yield asyncio.run(_with_database(plan.url, None, _audit))
    with connect_sync(plan.url, name="voltstream verify", autocommit=True) as connection, outages():
        waiting = sessions_to_be_published(connection)
    charges = partial(_charges, lake=plan.lake, waiting=waiting, progress=progress)
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


async def _charges(database: Database, *, lake: LakeFolder | None, waiting: set[str], progress: Progress) -> DataCheck:
    """Every charge derived again from the stored readings, by the program that did not price it in the stream.

    `waiting`: sessions whose event is still to be published, of which billing knows nothing, or not the last.
    """
    source = ReadingsStore(database, LakeReader(lake))
    report = await Reconciler(InvoiceStore(database), source).run(
        *_ALL, lambda done, total: progress("computing charges", done, total)
    )
    drifts = [drift for drift in report.drifts if str(drift.subject_id) not in waiting]
    outcomes = {outcome.value: report.outcomes[outcome] for outcome in Finding if report.outcomes[outcome]}
    if to_come := len(report.drifts) - len(drifts):
        outcomes |= {Finding.DRIFT.value: len(drifts), "to_come": to_come}
    said = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.items() if number) or "there are none"
    figures = {"charges": report.charges, "outcomes": outcomes}
    return DataCheck("charges and documents", said, figures, [*map(_described, drifts), *report.money])


def _described(drift: Drift) -> str:
    what = drift.reservation_id or drift.subject_id
    return f"{drift.kind} {what} at {drift.station_id}: {'; '.join(drift.differences)}"


async def _with_database(url: str, role: str | None, work: Callable[[Database], Any]) -> DataCheck:
    database = await open_database(url, name="voltstream verify", role=role, connections_max=4)
    try:
        found: DataCheck = await work(database)
        return found
    finally:
        await database.close()
