"""`voltstream backup | restore | verify`: copies of all data, and whether data are whole."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from billing.settings import PAUSED
from kit.clock import SystemClock, format_rfc3339
from kit.config.folder import ConfigFolder
from kit.config.runtime import RuntimeConfig
from kit.database.embedded import EmbeddedPostgres
from kit.lake.folder import LakeFolder
from kit.settings import Settings, group_of
from schemas.settings import Retention
from voltstream.backups.bus import has_events
from voltstream.backups.manifest import Manifest, check_files, read_manifest
from voltstream.backups.progress import Progress as ReportProgress
from voltstream.backups.progress import adding_up
from voltstream.backups.restoring import RestorePlan, restore_backup
from voltstream.backups.taking import BackupPlan, take_backup
from voltstream.backups.verification import DataCheck, VerificationPlan, run_checks
from voltstream.cli.options import AsJson, DataDir
from voltstream.cli.output import print_json, print_line, print_note
from voltstream.errors import BackupFailed, PlatformFailed, WrongUsage
from voltstream.runtime.data_folder import platform_database, platform_name, running_platform
from voltstream.settings import load_settings

_JOBS: Final = 4  # tables at once: the largest are tables of a week, so that more have little to do
_FAULTS_SHOWN_MAX: Final = 20  # of a check, for people

Jobs = Annotated[int, typer.Option(min=1, max=64, help="tables at once")]


def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="the new folder", show_default=False)],
    lake: Annotated[
        bool | None,
        typer.Option(
            "--lake/--no-lake",
            help="copy the lake's files too; default: where it is a folder, not where it is an object store",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = _JOBS,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy everything of a platform into a new folder, while it runs.

    The copy is of one moment. Passwords, keys and certificates are in no backup: keep them elsewhere.
    """
    settings = load_settings(data_dir=data_dir)
    folder = _lake_of(settings)
    with_lake = folder is not None and (folder.is_local if lake is None else lake)
    if lake and folder is None:
        raise WrongUsage("--lake: there is no lake: set VOLTSTREAM_LAKE_URL")
    with platform_database(settings) as url, _progress(as_json) as progress:
        manifest = take_backup(BackupPlan(url, target, folder, with_lake, jobs), progress)
    if as_json:
        print_json({"backup": str(target), **_described(manifest)})
        return
    print_line(f"{target}: {_summary(manifest)}")
    if manifest.lake == "elsewhere":
        print_note(f"The lake's {manifest.lake_files:,} files are not in it: they stay where they are, and are needed.")


def restore(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="a backup's folder", show_default=False)],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="though the database has tables: it is kept under another name, and whoever uses it is cut off",
        ),
    ] = False,
    new_log: Annotated[
        bool,
        typer.Option("--new-log", help="Kafka is a new one too: its topic is read from the start"),
    ] = False,
    drop_events: Annotated[
        bool | None,
        typer.Option(
            "--drop-events/--keep-events",
            help="drop what waits in RabbitMQ's queues of events, which is of the database that was, and whose place "
            "the restored one takes; default: with --replace",
            show_default=False,
        ),
    ] = None,
    last_document: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="of the newest invoice or credit note that was issued after the backup: numbers go on after it",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = _JOBS,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a database from a backup: the one of VOLTSTREAM_DATABASE_URL, or of the data folder.

    It has its name once everything is in it and counted, so that one that was interrupted is not there at all.
    """
    settings = load_settings(data_dir=data_dir)
    if settings.distributed_database and (running := running_platform(settings)):  # a lost database does not show it
        raise BackupFailed(f"{running} works on {platform_name(settings)}: stop it, and start it after the restore")
    bus_url = _bus_to_empty(settings, replace=replace, drop_events=drop_events)
    with ExitStack() as stack:
        # Whoever runs on a data folder would go on with what it has in memory, so the folder has to be ours.
        url = settings.database_url or stack.enter_context(EmbeddedPostgres.start(settings.data_dir)).url
        progress = stack.enter_context(_progress(as_json))
        plan = RestorePlan(source, url, replace, _lake_of(settings), jobs, new_log, bus_url, last_document)
        restored = restore_backup(plan, progress)
    if as_json:
        more = {
            "migrations": restored.migrations,
            "kept_as": restored.kept_as,
            "roles_made": restored.roles,
            "events_dropped": restored.events,
        }
        print_json({"restored": platform_name(settings), **_described(restored.manifest), **more})
        return
    print_line(f"{platform_name(settings)}: {_summary(restored.manifest)}")
    if restored.migrations:
        print_line(f"{len(restored.migrations)} migrations were applied to it")
    if restored.kept_as:
        print_line(f"what it replaced is the database {restored.kept_as}: drop it once nobody needs it")
    if restored.events:
        print_line(f"{restored.events:,} events that waited in RabbitMQ were dropped")
    if restored.roles:
        print_line(f"roles without a login were made: {', '.join(restored.roles)}; passwords are in no backup")
    where = ", ".join(f"{partition}: {offset}" for partition, offset in sorted(restored.manifest.offsets.items()))
    print_note(f"Frames are read from the log from these offsets on, by partition, where it has them: {where}.")
    print_note("Now run `voltstream verify`.")


def verify(
    backup: Annotated[
        Path | None,
        typer.Option("--backup", metavar="SOURCE", help="a backup's files instead of a database", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Check that all data are whole: both ledgers, every charge and document, the audit, the lake.

    Reads every reading. Exits with 1 where anything is wrong, and says what. On a running platform, charges whose event
    is under way to billing are waited for, for a minute at most.
    """
    settings = load_settings(data_dir=data_dir)
    if backup is not None:
        _verify_backup(backup, as_json)
        return
    retention = group_of(settings, Retention)
    wrong = 0
    with platform_database(settings) as url, _progress(as_json) as progress:
        paused = _billing_paused(settings)
        plan = VerificationPlan(url, _lake_of(settings), retention.raw_retention_days, SystemClock(), paused)
        for check in run_checks(plan, progress):
            wrong += not check.ok
            _print_check(check, as_json)
    if wrong:
        raise PlatformFailed(f"{wrong} of the checks found what must not be")


def _bus_to_empty(settings: Settings, *, replace: bool, drop_events: bool | None) -> str | None:
    """The RabbitMQ whose events are to be dropped; None: they stay, or there is none. Raises WrongUsage where that
    depends on what was not said, Unavailable.

    The events of an embedded platform without brokers are in its database and its process.
    """
    if settings.distributed_bus:
        if drop_events is None and not replace and has_events(settings.rabbitmq_url):
            raise WrongUsage(
                "RabbitMQ has events or consumers of events. Say --drop-events where the restored database takes the "
                "place of one that is lost: they are of that one. Say --keep-events where it is a copy beside the one "
                "that they are of"
            )
        return settings.rabbitmq_url if drop_events or (replace and drop_events is None) else None
    if drop_events:
        raise WrongUsage("--drop-events: no RabbitMQ is known: set VOLTSTREAM_RABBITMQ_URL and VOLTSTREAM_KAFKA_URL")
    if replace and drop_events is None and settings.distributed_database:
        raise WrongUsage(
            "--replace: events in RabbitMQ are of the database that is replaced, and no RabbitMQ is known: set "
            "VOLTSTREAM_RABBITMQ_URL and VOLTSTREAM_KAFKA_URL, or say --keep-events where there is none"
        )
    return None


def _verify_backup(source: Path, as_json: bool) -> None:
    manifest = read_manifest(source)
    with _progress(as_json) as progress:
        check_files(source, manifest, adding_up(progress, "reading", manifest.bytes))
    if as_json:
        print_json({"backup": str(source), "ok": True, **_described(manifest)})
    else:
        print_line(f"{source} is whole: {_summary(manifest)}")


def _print_check(check: DataCheck, as_json: bool) -> None:
    if as_json:
        print_json({"check": check.name, "ok": check.ok, **check.figures, "faults": check.faults})
        return
    print_line(f"{'ok   ' if check.ok else 'WRONG'}  {check.name}: {check.detail}")
    for fault in check.faults[:_FAULTS_SHOWN_MAX]:
        print_line(f"         {fault}")
    if len(check.faults) > _FAULTS_SHOWN_MAX:
        print_line(f"         and {len(check.faults) - _FAULTS_SHOWN_MAX:,} more: --json has them")


def _described(manifest: Manifest) -> dict[str, Any]:
    return {
        "taken_at": format_rfc3339(manifest.taken_at),
        "voltstream": manifest.voltstream,
        "postgresql": manifest.server_major,
        "bytes": manifest.bytes,
        "files": len(manifest.files),
        "rows": sum(manifest.rows.values()),
        "lake": manifest.lake,
        "lake_files": manifest.lake_files,
        "offsets": {str(partition): offset for partition, offset in manifest.offsets.items()},
    }


def _summary(manifest: Manifest) -> str:
    return (
        f"{sum(manifest.rows.values()):,} rows of {len(manifest.rows):,} tables as of "
        f"{format_rfc3339(manifest.taken_at)}, {manifest.bytes / 1_000_000:,.1f} MB"
    )


def _lake_of(settings: Settings) -> LakeFolder | None:
    url = group_of(settings, Retention).lake_url
    return LakeFolder.at(url) if url else None


def _billing_paused(settings: Settings) -> bool:
    """By environment, TOML and the folder of files."""
    config = RuntimeConfig(settings)
    try:
        if settings.config_dir:
            config.apply_folder(ConfigFolder(Path(settings.config_dir), config.adjustables).look() or {})
        return bool(config.resolved(PAUSED).value)
    finally:
        config.close()


@contextmanager
def _progress(as_json: bool) -> Iterator[ReportProgress]:
    """A bar for each kind of work, on a terminal."""
    if as_json or not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield report
