"""Restoring a backup: into a database of another name, which gets its own when everything is in it and counted.

So a database that has its name is whole, whenever a restore was killed; what one left is dropped by the next.
"""

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg

from billing.declaration import SERVICE as BILLING
from billing.documents import Number
from billing.invoicing.store import advance, lock
from kit.clock import format_rfc3339, to_ms
from kit.database.migrations import known_versions
from kit.database.postgres import connect_sync, open_database, outages
from kit.database.roles import make_roles
from kit.errors import Unavailable
from kit.lake.folder import LakeFolder
from streams.storage.restored import begin_again, publish_completed_again
from voltstream.backups import store
from voltstream.backups.bus import consumed_queues, drop_events, in_the_way
from voltstream.backups.lake import put_lake
from voltstream.backups.manifest import DATABASE, Manifest, check_files, read_manifest
from voltstream.backups.progress import Progress, adding_up
from voltstream.backups.tools import Tools, contents_of, run_tool, tools_for
from voltstream.errors import BackupFailed, WrongUsage
from voltstream.runtime.database import bring_up_to_date, roles_of_platform, sources_of
from voltstream.services import all_services

Connection = psycopg.Connection[tuple[Any, ...]]
# Made by a restore itself: rights of the one who restores on what is to come, the extension before everything else, and
# a comment that only a superuser may write.
_LEFT_OUT: Final = (" DEFAULT ACL ", " EXTENSION ", " COMMENT - EXTENSION ")

_GO_ON: Final = "gateways and bridges may go on, they keep readings in RabbitMQ and Kafka meanwhile"
# As long as every inbox knows the event again (events.inbox_retention is 30 days at least).
_PUBLISHED_AGAIN: Final = timedelta(days=29)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What to restore, and where to."""

    source: Path
    url: str  # of the database to be, which may be there and empty
    replace: bool  # what has its name now is kept under another one
    lake: LakeFolder | None
    jobs: int
    new_log: bool = False
    bus_url: str | None = None  # of the RabbitMQ whose events are dropped; None: they stay, or there is none
    last_document: str | None = None  # the number of the newest one that was issued after the backup


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it."""

    manifest: Manifest
    migrations: list[str]  # that were applied to it
    kept_as: str | None  # the name of the database that it replaced
    roles: list[str]  # made now, which may need a login
    events: int  # that were dropped


def restore_backup(plan: RestorePlan, progress: Progress) -> Restored:
    """Blocks. Raises BackupFailed, WrongUsage, ConfigError, Unavailable; then the database is as it was, unless the
    message says that it is restored and its events were not dropped."""
    manifest = read_manifest(plan.source)
    _check_version(manifest)
    name = store.database_name(plan.url)
    with store.restoring_alone(plan.url) as server, outages():
        tools = _tools_of(manifest, store.facts_of(server).server_major)
        store.drop_unfinished(server, name)
        there = store.exists(server, name)
        empty = there and store.is_empty(plan.url)
        _check_target(plan, name, there and not empty)
        _check_stopped(plan, server, name)
        identity = store.prepared_at(plan.url) if there and not empty else None
        check_files(plan.source, manifest, adding_up(progress, "checking the backup", manifest.bytes))
        if manifest.lake == "included":
            put_lake(plan.source, manifest, plan.lake, progress)
        new = store.temporary_name(name, uuid4().hex[:8])
        store.create_database(server, new, manifest.encoding, manifest.collate, manifest.ctype)
        try:
            made = _fill(plan, manifest, tools, store.named_url(plan.url, new), progress)
            applied = _finish(plan, manifest, store.named_url(plan.url, new), identity)
            kept_as = store.kept_name(name, datetime.now(UTC)) if there else None
            _check_stopped(plan, server, name)
            store.take_place(server, plan.url, new, name, kept_as)
        except BaseException:
            with suppress(psycopg.Error):  # the next restore drops it
                store.drop_database(server, new)
            raise
        if empty and kept_as is not None:
            store.drop_database(server, kept_as)
            kept_as = None
        dropped = _drop_events(plan)
    return Restored(manifest, applied, kept_as, made, dropped)


def _drop_events(plan: RestorePlan) -> int:
    """Once the database has been replaced, and not before: as long as it is there, its events are owed."""
    if plan.bus_url is None:
        return 0
    try:
        dropped, consumed = drop_events(plan.bus_url), consumed_queues(plan.bus_url)
    except Unavailable as error:
        raise BackupFailed(
            f"the database is restored, but {error}. Do not start services: those events are of the database that was. "
            "Once RabbitMQ answers, run the same restore again, with --replace"
        ) from None
    if consumed:
        raise BackupFailed(
            "the database is restored, but services were started before the events of the database that was had been "
            f"dropped, and may have handled some: RabbitMQ has consumers of {', '.join(consumed)}. Stop them, and run "
            "the same restore again, with --replace"
        )
    return dropped


def _check_stopped(plan: RestorePlan, server: Connection, name: str) -> None:
    """Raises BackupFailed where services work on the database that is to be replaced, or, where its events are dropped,
    take events from RabbitMQ: of a database that is lost nobody is connected to it. Raises Unavailable."""
    if found := in_the_way(store.connected(server, name)):
        raise BackupFailed(
            f"services work on {name}: {', '.join(found)}. Stop them, and start them after the restore; {_GO_ON}"
        )
    if plan.bus_url is not None and (consumed := consumed_queues(plan.bus_url)):
        raise BackupFailed(
            f"services run, with events in memory that are of the database that was: RabbitMQ has consumers of "
            f"{', '.join(consumed)}. Stop all services, and start them after the restore; {_GO_ON}"
        )


def _check_version(manifest: Manifest) -> None:
    """Raises BackupFailed where this version is older than the one that made the backup."""
    known = {source.name: known_versions(source) for source in sources_of(all_services())}
    ahead = [
        f"{source}/{version}" for source, version in manifest.migrations.items()
        if source in known and version not in known[source]
    ]  # fmt: skip
    if ahead:
        raise BackupFailed(
            f"the backup is of voltstream {manifest.voltstream}, whose database is ahead of this version (migrations "
            f"{', '.join(sorted(ahead))}): restore it with that version, or a newer one"
        )


def _tools_of(manifest: Manifest, server_major: int) -> Tools:
    if server_major < manifest.server_major:
        raise BackupFailed(
            f"the backup is of PostgreSQL {manifest.server_major}, this server is {server_major}: a restore goes to "
            "the same version or a newer one. Use such a server"
        )
    return tools_for(max(server_major, manifest.tool_major), "restoring this backup")


def _check_target(plan: RestorePlan, name: str, taken: bool) -> None:
    if taken and not plan.replace:
        raise WrongUsage(
            f"the database {name} has tables: name another one, or say --replace (it is kept under another name)"
        )


def _fill(plan: RestorePlan, manifest: Manifest, tools: Tools, url: str, progress: Progress) -> list[str]:
    """Restore into the database at `url`, which is empty, and count; the roles that were made."""
    archive = plan.source / DATABASE
    made = _make_roles(url, manifest)
    sizes = _sizes(contents_of(tools, archive), archive)
    filled = adding_up(progress, "restoring tables", sum(sizes.values()))
    with connect_sync(url, name="voltstream restore", autocommit=True) as connection, outages():
        if manifest.timescaledb:
            store.before_timescale(connection, manifest.timescaledb)
    # TimescaleDB's catalogue cannot be restored in parallel.
    jobs = 1 if manifest.timescaledb else plan.jobs
    chosen = [line for line in contents_of(tools, archive) if not any(word in line for word in _LEFT_OUT)]
    with tempfile.NamedTemporaryFile("w", suffix=".list") as listed:
        listed.write("\n".join(chosen))
        listed.flush()
        arguments = ("--exit-on-error", "--no-owner", f"--jobs={jobs}", f"--use-list={listed.name}", str(archive))
        run_tool(tools, "pg_restore", url, arguments, lambda table: filled(sizes.pop(table, 0)))
    filled(sum(sizes.values()))  # of tables that no line of it named
    with connect_sync(url, name="voltstream restore", autocommit=True) as connection, outages():
        if manifest.timescaledb:
            store.after_timescale(connection)
        _compare(manifest.rows, store.count_rows(connection))
        connection.execute("ANALYZE")
    return made


def _make_roles(url: str, manifest: Manifest) -> list[str]:
    """Roles belong to a server, so they are not in a dump, and rights in it name them."""
    with connect_sync(url, name="voltstream restore", autocommit=True) as connection, outages():
        missing = store.missing_roles(connection, manifest.roles)
    make_roles(url, missing)
    return sorted({*missing} - roles_of_platform())


def _sizes(contents: list[str], archive: Path) -> dict[str, int]:
    """Bytes of the archive's file of each table, by its name without schema."""
    sizes: dict[str, int] = {}
    for line in contents:
        head, _, rest = line.partition(" TABLE DATA ")
        if rest:
            number, table = head.partition(";")[0], rest.split(" ")[1]
            sizes[table] = sizes.get(table, 0) + sum(path.stat().st_size for path in archive.glob(f"{number}.dat*"))
    return sizes


def _compare(wanted: dict[str, int], found: dict[str, int]) -> None:
    wrong = [
        f"{table} has {found.get(table, 0):,} rows instead of {wanted.get(table, 0):,}"
        for table in sorted({*wanted, *found})
        if wanted.get(table) != found.get(table)
    ]
    if wrong:
        raise BackupFailed(f"what was restored is not what was backed up: {'; '.join(wrong)}")


def _finish(plan: RestorePlan, manifest: Manifest, url: str, identity: datetime | None) -> list[str]:
    """Bring it up to this version, and shut out whoever worked on the database that was backed up.

    `identity`: of the database that is replaced; None: there is none.
    """
    applied = bring_up_to_date(url, manifest.partitions)
    if identity is None and plan.bus_url is not None:  # the one that was backed up is lost, and this takes its place
        identity = store.prepared_at(url)
    with connect_sync(url, name="voltstream restore") as connection, outages(), connection.transaction():
        begin_again(connection, identity=identity, new_log=plan.new_log)
        # Events that had left their outbox and that nobody had handled yet are in no backup. Of money none may be lost.
        lost = store.sessions_without_charge(connection, manifest.taken_at - _PUBLISHED_AGAIN)
        published = publish_completed_again(connection, lost, to_ms(manifest.taken_at))
        store.note_restored(
            connection,
            "database.restored",
            store.database_name(plan.url),
            {
                "taken_at": format_rfc3339(manifest.taken_at),
                "voltstream": manifest.voltstream,
                "new_log": plan.new_log,
                "last_document": plan.last_document,
                "sessions_published_again": published,
            },
        )
    if plan.last_document is not None:
        asyncio.run(_number_after(url, plan.last_document))
    return applied


async def _number_after(url: str, text: str) -> None:
    """Let the next document have the number after this one, which was given after the backup."""
    year, _, sequence = text.partition("-")
    if not (year.isdecimal() and sequence.isdecimal()):
        raise WrongUsage(f"--last-document {text!r}: write a number as documents have it, 2026-0000017")
    database = await open_database(url, name="voltstream restore", role=BILLING.role, connections_max=1)
    try:
        async with database.transaction() as connection:
            last = await lock(connection)
            given = Number(int(year), int(sequence), last.issued_at)
            if (given.year, given.sequence) < (last.year, last.sequence):
                raise WrongUsage(f"--last-document {text}: the backup has {last} already")
            await advance(connection, given)
    finally:
        await database.close()
