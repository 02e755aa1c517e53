"""Taking a backup of a running platform: one snapshot of the database, and the lake's files that it knows.

It is written under another name beside the target and gets its name at the end, so that a folder that has the name is
whole.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from kit.database.migrations import keep_schema
from kit.database.postgres import connect_sync, outages
from kit.lake.folder import LakeFolder
from streams.storage.ledger_check import catalogue
from streams.storage.restored import offsets
from streams.storage.schema import stored_partitions
from streams.storage.table_drops import keep_tables
from voltstream import __version__
from voltstream.backups.lake import copy_lake
from voltstream.backups.manifest import DATABASE, FORMAT, LAKE, Manifest, files_of, write_manifest
from voltstream.backups.progress import Progress, adding_up
from voltstream.backups.store import (
    count_rows,
    export_snapshot,
    facts_of,
    last_migrations,
    roles_with_rights,
    table_sizes,
)
from voltstream.backups.tools import run_tool, tools_for
from voltstream.errors import BackupFailed, WrongUsage

Connection = psycopg.Connection[tuple[Any, ...]]
_PARTIAL: Final = ".partial"


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """What to back up, and where to."""

    url: str
    target: Path
    lake: LakeFolder | None  # None: there is none
    with_lake: bool  # whether its files are copied
    jobs: int  # tables dumped at once


def take_backup(plan: BackupPlan, progress: Progress) -> Manifest:
    """The new backup at `plan.target`. Blocks. Raises BackupFailed, WrongUsage, ConfigError, Unavailable; then nothing
    is left."""
    target = plan.target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WrongUsage(f"{plan.target} is there already: name a folder that is not, such as one with today's date")
    partial = target.with_name(target.name + _PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a backup that was killed
        partial.mkdir(mode=0o700, parents=True)  # it has hashes of tokens and data of people
    except OSError as error:
        raise WrongUsage(f"{plan.target}: cannot be written ({error.strerror})") from None
    try:
        manifest = _take(plan, partial, progress)
        write_manifest(partial, manifest)
        _sync(partial)
        if target.exists():
            target.rmdir()
        partial.rename(target)
        _sync_folder(target.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise BackupFailed(f"{plan.target}: cannot be written ({error.strerror or error})") from None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def _take(plan: BackupPlan, partial: Path, progress: Progress) -> Manifest:
    with connect_sync(plan.url, name="voltstream backup", autocommit=True) as connection, outages():
        partitions = stored_partitions(connection)
        facts = facts_of(connection)
        tools = tools_for(facts.server_major, f"a backup of PostgreSQL {facts.server_major}")
        # Before the snapshot: what waits for these would hold up everybody behind it while the dump runs.
        keep_schema(connection)
        keep_tables(connection)
        snapshot, taken_at = export_snapshot(connection)
        sizes = table_sizes(connection)
        dumped = adding_up(progress, "dumping tables", sum(sizes.values()))
        with ThreadPoolExecutor(1, thread_name_prefix="backup") as pool:
            counted = pool.submit(count_rows, connection)  # of the same snapshot, while the dump runs
            arguments = ("--format=directory", f"--jobs={plan.jobs}", f"--snapshot={snapshot}")
            run_tool(
                tools, "pg_dump", plan.url, (*arguments, f"--file={partial / DATABASE}"),
                lambda table: dumped(sizes.pop(table, 0)),
            )  # fmt: skip
            rows = counted.result()
        dumped(sum(sizes.values()))  # of tables that no line of it named
        files = catalogue(connection)
        if plan.with_lake and plan.lake is not None:
            copy_lake(plan.lake, files, partial / LAKE, progress)
        manifest = Manifest(
            format=FORMAT,
            taken_at=taken_at,
            voltstream=__version__,
            server_major=facts.server_major,
            tool_major=tools.major,
            timescaledb=facts.timescaledb,
            encoding=facts.encoding,
            collate=facts.collate,
            ctype=facts.ctype,
            partitions=partitions,
            roles=roles_with_rights(connection),
            migrations=last_migrations(connection),
            rows=rows,
            offsets=offsets(connection),
            lake="none" if not files else "included" if plan.with_lake else "elsewhere",
            lake_files=len(files),
            lake_bytes=sum(file.file_bytes for file in files),
            files=(),
        )
    return _with_files(manifest, partial, progress)


def _with_files(manifest: Manifest, partial: Path, progress: Progress) -> Manifest:
    total = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    return Manifest(**{**fields, "files": tuple(files_of(partial, adding_up(progress, "hashing", total)))})


def _sync(folder: Path) -> None:
    """Make all of it durable: a backup that a power cut takes is none."""
    for path in [*folder.rglob("*"), folder]:
        _sync_folder(path)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
