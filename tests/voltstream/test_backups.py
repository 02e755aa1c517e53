"""`voltstream backup`, `restore` and `verify`: what comes back is what was there, or nothing at all."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from typer.testing import CliRunner, Result

from kit.clock import ManualClock
from kit.lake.folder import LakeFolder
from streams.state.encoding import load_state
from streams.state.partition import PartitionState
from tests.private_servers import fresh_database
from tests.streams.lake_fleet import NOW, everything, fill, move
from tests.voltstream.event_queues import consumer, empty_queues
from tests.voltstream.platform import ENOUGH_S, ROOT, environment, readings, up
from voltstream.backups import restoring, tools
from voltstream.backups.manifest import DATABASE, MANIFEST, Manifest, read_manifest, write_manifest
from voltstream.backups.restoring import Restored, RestorePlan, restore_backup
from voltstream.backups.store import named_url
from voltstream.backups.taking import BackupPlan, take_backup
from voltstream.backups.tools import Tools
from voltstream.backups.verification import DataCheck, VerificationPlan, run_checks
from voltstream.cli.main import app
from voltstream.errors import BackupFailed, PlatformFailed, WrongUsage
from voltstream.runtime.data_folder import published_address
from voltstream.runtime.database import database_id_of
from voltstream.settings import load_settings

pytestmark = pytest.mark.usefixtures("processes")

# Rights, by object and grantee, however they came about.
_RIGHTS = """
SELECT kind, name, CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END, privilege FROM (
    SELECT 'relation' AS kind, oid::regclass::text AS name, (a).grantee, (a).privilege_type AS privilege
    FROM (SELECT oid, aclexplode(relacl) AS a FROM pg_class) AS c
    UNION ALL
    SELECT 'function', oid::regprocedure::text, (a).grantee, (a).privilege_type
    FROM (SELECT oid, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS a FROM pg_proc) AS p
    UNION ALL
    SELECT 'schema', nspname, (a).grantee, (a).privilege_type
    FROM (SELECT nspname, aclexplode(nspacl) AS a FROM pg_namespace) AS n
    UNION ALL
    SELECT 'default', format('%s %s', defaclnamespace::regnamespace, defaclobjtype), (a).grantee, (a).privilege_type
    FROM (SELECT *, aclexplode(defaclacl) AS a FROM pg_default_acl) AS d
) AS rights ORDER BY 1, 2, 3, 4
"""


EVENTS = "billing_session_completed"
NOW_MS = int(time.time() * 1_000) - 600_000


def no_settings() -> dict[str, str | None]:
    """For a command: what this environment has set is not there."""
    return {name: None for name in os.environ if name.startswith("VOLTSTREAM_")}


def _nothing(_what: str, _done: int, _total: int) -> None:
    """No progress is shown."""


class BackedUp:
    """A database with a fleet's readings, of which the old ones are in a lake, and a backup of both."""

    def __init__(self, url: str, folder: Path, server_url: str) -> None:
        self.url, self.folder, self.server_url = url, folder, server_url
        self.lake, self.backup = folder / "lake", folder / "backup"

    def take(self, target: Path) -> Manifest:
        return take_backup(BackupPlan(self.url, target, LakeFolder.at(str(self.lake)), True, 2), _nothing)

    def restore(self, name: str, source: Path | None = None, lake: str = "lake-restored", **options: Any) -> Restored:
        plan: dict[str, Any] = {"replace": False, "lake": LakeFolder.at(str(self.folder / lake)), "jobs": 2} | options
        return restore_backup(RestorePlan(source or self.backup, self.named(name), **plan), _nothing)

    def named(self, name: str) -> str:
        return named_url(self.server_url, name)

    def copy(self, name: str) -> Path:
        """Of the backup, to be damaged."""
        return shutil.copytree(self.backup, self.folder / name)

    def databases(self) -> set[str]:
        with psycopg.connect(self.server_url) as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


@pytest.fixture(scope="module")
def platform(postgres_url: str, tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[BackedUp]:
    folder = tmp_path_factory.mktemp("backups")
    with fresh_database(postgres_url) as url:
        found = BackedUp(url, folder, postgres_url)
        fill(url, seed)
        move(url, found.lake)
        found.take(found.backup)
        yield found


@contextmanager
def dropped(platform: BackedUp, *stems: str) -> Iterator[None]:
    """Databases whose names begin so are dropped after the block."""
    try:
        yield
    finally:
        with psycopg.connect(platform.server_url, autocommit=True) as connection:
            for name in platform.databases():
                if name.startswith(stems):
                    connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def _state(url: str, partition: int) -> PartitionState:
    bodies = ask(url, f"SELECT body FROM telemetry.partition_state WHERE partition = {partition} ORDER BY patch")
    return load_state(partition, [bytes(body) for (body,) in bodies])


def checked(
    url: str, lake: Path, retention_days: int = 0, meanwhile: Callable[[], None] = lambda: None
) -> dict[str, DataCheck]:
    """Every check by its name. `meanwhile` is called instead of each wait."""
    clock = ManualClock(NOW)

    async def pause(seconds: float) -> None:
        clock.advance(seconds)
        await asyncio.to_thread(meanwhile)

    plan = VerificationPlan(url, LakeFolder.at(str(lake)), retention_days, clock, pause=pause)
    return {check.name: check for check in run_checks(plan, _nothing)}


def test_what_is_restored_is_what_was_backed_up(platform: BackedUp) -> None:
    with dropped(platform, "restored_one"):
        restored = platform.restore("restored_one")
        url, lake = platform.named("restored_one"), platform.folder / "lake-restored"
        assert (restored.migrations, restored.kept_as, restored.roles) == ([], None, [])
        before, after = everything(platform.url, platform.lake), everything(url, lake)
        assert before == after
        assert len(before) > 100
        assert restored.manifest.lake_files > 0
        assert {name: check.faults for name, check in checked(url, lake).items()} == {
            "migrations": [], "lake": [], "ledger of readings": [], "ledger of energy": [], "audit": [],
            "charges and documents": [],
        }  # fmt: skip
        assert ask(url, _RIGHTS) == ask(platform.url, _RIGHTS)
        entries = "SELECT action, entity, after ->> 'voltstream' FROM audit.entry WHERE action = 'database.restored'"
        assert ask(url, entries) == [("database.restored", "restored_one", restored.manifest.voltstream)]
        epochs = "SELECT min(epoch), max(epoch) FROM telemetry.stream_offset"
        assert ask(url, epochs)[0][0] > ask(platform.url, epochs)[0][1], "a worker of before the restore is shut out"
        identity = "SELECT prepared_at FROM telemetry.storage"
        assert ask(url, identity) != ask(platform.url, identity), "two databases do not share a live view"
        for partition in (0, 1):
            before_it, now = (_state(of, partition) for of in (platform.url, url))
            assert now.sessions_made > before_it.sessions_made + 1_000_000, (
                "no session gets the id of one since the backup"
            )
            assert now.connector_index.connectors() == before_it.connector_index.connectors()
        assert oct(platform.backup.stat().st_mode & 0o777) == "0o700"


def test_a_database_with_tables_is_replaced_only_if_told_and_then_kept(platform: BackedUp) -> None:
    with dropped(platform, "restored_two"):
        platform.restore("restored_two")
        url = platform.named("restored_two")
        first = ask(url, "SELECT prepared_at FROM telemetry.storage")
        with pytest.raises(WrongUsage, match=r"restored_two has tables: .* --replace"):
            platform.restore("restored_two")
        with psycopg.connect(url) as client:
            client.execute("DELETE FROM telemetry.reading")
            client.commit()
            restored = platform.restore("restored_two", replace=True, new_log=True, last_document="2033-0000017")
            with pytest.raises(psycopg.OperationalError):
                client.execute("SELECT 1")
        assert restored.kept_as is not None
        assert ask(platform.named(restored.kept_as), "SELECT count(*) FROM telemetry.reading") == [(0,)]
        assert ask(url, "SELECT count(*) > 0 FROM telemetry.reading") == [(True,)]
        assert ask(url, "SELECT prepared_at FROM telemetry.storage") == first, "its gateways go on with its live view"
        assert ask(url, "SELECT DISTINCT next FROM telemetry.stream_offset") == [(0,)]
        assert ask(url, "SELECT year, last FROM billing.numbering") == [(2033, 17)]
        with pytest.raises(WrongUsage, match="write a number as documents have it"):
            platform.restore("restored_two", replace=True, last_document="seventeen")


@contextmanager
def _consumer_after(monkeypatch: pytest.MonkeyPatch, step: str, rabbitmq_url: str) -> Iterator[None]:
    """Within the block a service begins to take events after that step of a restore."""
    done = getattr(restoring, step)
    with ExitStack() as stack, monkeypatch.context() as patched:

        def then_consumed(*arguments: Any) -> Any:
            result = done(*arguments)
            stack.enter_context(consumer(rabbitmq_url, EVENTS))
            return result

        patched.setattr(restoring, step, then_consumed)
        yield


def test_services_that_lost_their_database_are_seen_and_its_place_is_taken_with_its_identity(
    platform: BackedUp, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is connected to a database that is not there, and what services have fetched is of it."""
    empty_queues(rabbitmq_url)
    refused = pytest.raises(BackupFailed, match=r"RabbitMQ has consumers of billing_session_completed \(1\)\. Stop all")
    with dropped(platform, "restored_lost"):
        with consumer(rabbitmq_url, EVENTS), refused:
            platform.restore("restored_lost", bus_url=rabbitmq_url)
        with _consumer_after(monkeypatch, "_finish", rabbitmq_url), refused:
            platform.restore("restored_lost", bus_url=rabbitmq_url)
        assert not [name for name in platform.databases() if name.startswith("restored_lost")]
        began = pytest.raises(BackupFailed, match=r"the database is restored, but services were started .* --replace")
        with _consumer_after(monkeypatch, "drop_events", rabbitmq_url), began:
            platform.restore("restored_lost", bus_url=rabbitmq_url)
        assert platform.restore("restored_lost", bus_url=rabbitmq_url, replace=True).kept_as is not None
        assert database_id_of(platform.named("restored_lost")) == database_id_of(platform.url), (
            "gateways go on with its live view"
        )


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        octet = file.read(1)
        file.seek(at)
        file.write(bytes([octet[0] ^ 1]))


def _rewritten(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _largest(backup: Path) -> Path:
    return max((backup / DATABASE).iterdir(), key=lambda path: path.stat().st_size)


def _changed(backup: Path, **fields: Any) -> None:
    found = read_manifest(backup)
    write_manifest(backup, msgspec.structs.replace(found, **fields))


_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (lambda backup: _flip(_largest(backup), 100), "damaged: database/.* is not as it was written"),
    "a cut file": (lambda backup: os.truncate(_largest(backup), 50), "has 50 bytes instead of"),
    "a missing file": (lambda backup: _largest(backup).unlink(), "damaged: database/.* is missing"),
    "a missing file of the lake": (lambda backup: next((backup / "lake").rglob("*.parquet")).unlink(), "is missing"),
    "a changed manifest": (
        lambda backup: _rewritten(backup / MANIFEST, '"partitions": 2', '"partitions": 3'),
        "its digest is not of what it says",
    ),
    "no JSON": (lambda backup: _flip(backup / MANIFEST, 0), "manifest.json: is damaged"),
    "no manifest": (lambda backup: (backup / MANIFEST).unlink(), r"\(manifest.json is missing\)"),
    "a later format": (lambda backup: _changed(backup, format=9), "format 9, this version reads up to 1"),
    "a later version": (
        lambda backup: _changed(backup, migrations={"billing": "9999"}),
        r"ahead of this version \(migrations billing/9999",
    ),
    "a later PostgreSQL": (lambda backup: _changed(backup, server_major=99), "the backup is of PostgreSQL 99"),
    "a later pg_dump": (lambda backup: _changed(backup, tool_major=99), "apt-get install postgresql-client-99"),
    "another number of rows": (
        lambda backup: _changed(backup, rows=read_manifest(backup).rows | {"telemetry.reading": 1}),
        "telemetry.reading has .* rows instead of 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_backup_that_is_damaged_or_of_another_version_is_refused_and_nothing_is_left(
    platform: BackedUp, damage: str
) -> None:
    backup = platform.copy(f"damaged by {damage}")
    before = platform.databases()
    harm, words = _DAMAGES[damage]
    harm(backup)
    with pytest.raises(BackupFailed, match=words):
        platform.restore("restored_three", backup)
    assert platform.databases() == before


def test_a_restore_that_is_killed_leaves_no_database_of_that_name_and_the_next_one_cleans_up(
    platform: BackedUp,
) -> None:
    """At the moment when everything is in it, and it is not yet brought up to date."""
    program = f"""
import sys
from pathlib import Path
from kit.lake.folder import LakeFolder
from voltstream.backups import restoring
def stand_still(*_):
    print("there", flush=True)
    sys.stdin.read()
restoring._finish = stand_still
lake = LakeFolder.at({str(platform.folder / "lake-killed")!r})
plan = restoring.RestorePlan(Path({str(platform.backup)!r}), {str(platform.named("restored_four"))!r}, False, lake, 2)
restoring.restore_backup(plan, lambda *_: None)
"""
    with dropped(platform, "restored_four"):
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment()
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"
            with pytest.raises(BackupFailed, match="another `voltstream restore` is under way"):
                platform.restore("restored_four")
            process.send_signal(signal.SIGKILL)
            process.wait(ENOUGH_S)
        left = {name for name in platform.databases() if name.startswith("restored_four")}
        assert [name.startswith("restored_four_restoring_") for name in left] == [True]
        platform.restore("restored_four")
        assert {name for name in platform.databases() if name.startswith("restored_four")} == {"restored_four"}


def test_a_tool_that_is_too_old_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = [Tools(Path("a"), 15), Tools(Path("b"), 18)]
    monkeypatch.setattr(tools, "_installed", lambda: versions)
    assert [tools.tools_for(major, "this").major for major in (14, 15, 16, 18)] == [15, 15, 18, 18]
    with pytest.raises(BackupFailed, match=r"PostgreSQL 19 or newer, the newest here is 18: install them .*-client-19"):
        tools.tools_for(19, "this")


def test_a_target_that_is_there_and_a_failed_backup_leave_everything_as_it_was(
    platform: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "note").write_text("mine")
    with pytest.raises(WrongUsage, match="is there already"):
        platform.take(tmp_path / "there")
    monkeypatch.setattr("voltstream.backups.taking.count_rows", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        platform.take(tmp_path / "failed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_verify_finds_what_was_changed(platform: BackedUp) -> None:
    newest = "WHERE ts = (SELECT max(ts) FROM telemetry.reading)"
    changes = {
        "ledger of energy": f"UPDATE telemetry.reading SET outside_mwh = coalesce(outside_mwh, 0) + 1 {newest}",
        "lake": "UPDATE telemetry.lake_file SET bytes = bytes + 1",
        "ledger of readings": f"DELETE FROM telemetry.reading {newest}",
        "migrations": "DELETE FROM migrations.billing WHERE version = (SELECT max(version) FROM migrations.billing)",
    }
    lake = platform.folder / "lake-verified"
    with dropped(platform, "restored_five"):
        platform.restore("restored_five", lake=lake.name)
        url = platform.named("restored_five")
        wrong: set[str] = set()
        for name, change in changes.items():
            with psycopg.connect(url) as connection:
                assert connection.execute(change.encode()).rowcount > 0, name
            found = checked(url, lake)
            assert name in {one.name for one in found.values() if not one.ok} - wrong, name
            wrong.add(name)
    with dropped(platform, "restored_six"):
        platform.restore("restored_six", lake=lake.name)
        url = platform.named("restored_six")
        victim = next(lake.rglob("*.parquet"))
        _flip(victim, victim.stat().st_size // 2)
        assert [fault for fault in checked(url, lake)["lake"].faults if victim.name in fault]
        victim.unlink()
        found = checked(url, lake)
        assert [fault for fault in found["lake"].faults if victim.name in fault]
        assert not found["ledger of readings"].ok
        assert checked(url, lake, 1)["ledger of readings"].ok, "days past their retention may have lost readings"


def test_a_session_whose_event_was_under_way_at_the_backup_is_published_again(platform: BackedUp) -> None:
    """The event had left the outbox, and billing had not handled it: nothing else would ever bill that session."""
    events = "SELECT event_id, telemetry.json_of(body) -> 'payload' FROM telemetry.outbox"
    events += " WHERE routing_key = 'session.completed'"
    with dropped(platform, "restored_seven", "restored_eight"):
        platform.restore("restored_seven")
        url = platform.named("restored_seven")
        published = sorted(ask(url, events), key=repr)
        lake = platform.folder / "lake-restored"
        waiting = checked(url, lake)["charges and documents"]
        assert (waiting.faults, waiting.figures["outcomes"]) == ([], {"drift": 0, "to_come": len(published)})
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE public.kept AS SELECT * FROM telemetry.outbox")
            connection.execute("DELETE FROM telemetry.outbox")
        charges = checked(url, lake)["charges and documents"]
        assert len(charges.faults) == len(published)
        assert all("there is no CDR of it" in fault for fault in charges.faults)

        def publish() -> None:  # as a session that completes once what waits was looked at
            with psycopg.connect(url) as connection:
                connection.execute("INSERT INTO telemetry.outbox OVERRIDING SYSTEM VALUE TABLE public.kept")
                connection.execute("DELETE FROM public.kept")

        assert checked(url, lake, meanwhile=publish)["charges and documents"].figures == waiting.figures
        with psycopg.connect(url) as connection:
            connection.execute("DROP TABLE public.kept")
            connection.execute("DELETE FROM telemetry.outbox")
            connection.execute(
                "INSERT INTO config.setting VALUES ('billing.paused', '{\"value\": true}', 1, now(), 'test', 'test')"
            )
        paused = checked(url, lake, meanwhile=lambda: pytest.fail("nothing is waited for"))["charges and documents"]
        assert (paused.faults, paused.figures) == ([], waiting.figures)
        second = platform.folder / "under way"
        take_backup(BackupPlan(url, second, LakeFolder.at(str(lake)), True, 2), _nothing)
        _changed(second, taken_at=NOW)  # the fleet's moments are of long ago
        platform.restore("restored_eight", second)
        found = sorted(ask(platform.named("restored_eight"), events), key=repr)
        assert found == published
        assert found


def test_the_commands_say_what_they_did_for_people_and_for_machines(platform: BackedUp, tmp_path: Path) -> None:
    url = platform.named("restored_nine")
    settings = {"VOLTSTREAM_DATABASE_URL": url, "VOLTSTREAM_LAKE_URL": str(tmp_path / "lake")}

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments, env=settings, prog_name="voltstream")

    with dropped(platform, "restored_nine"):
        done = run("restore", str(platform.backup), "--json")
        assert json.loads(done.stdout)["rows"] == sum(read_manifest(platform.backup).rows.values()), done.exception
        assert isinstance(run("restore", str(platform.backup)).exception, WrongUsage)
        second = str(tmp_path / "second")
        assert json.loads(run("backup", second, "--json").stdout)["lake"] == "included"
        assert "is whole: " in run("verify", "--backup", second).stdout
        _flip(_largest(tmp_path / "second"), 5)
        assert isinstance(run("verify", "--backup", second).exception, BackupFailed)
        assert json.loads(run("backup", str(tmp_path / "third"), "--no-lake", "--json").stdout)["lake"] == "elsewhere"
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM telemetry.reading")
        wrong = run("verify", "--json")
        assert isinstance(wrong.exception, PlatformFailed)
        lines = {line["check"]: line["ok"] for line in map(json.loads, wrong.stdout.splitlines())}
        assert (lines["ledger of readings"], lines["lake"]) == (False, True)
        assert run("backup", second).exception is not None


def test_what_becomes_of_events_is_said_where_nothing_shows_it(
    platform: BackedUp, rabbitmq_url: str, tmp_path: Path
) -> None:
    database = {"VOLTSTREAM_DATABASE_URL": platform.named("restored_ten")}
    bus = {"VOLTSTREAM_RABBITMQ_URL": rabbitmq_url, "VOLTSTREAM_KAFKA_URL": "127.0.0.1:1"}
    folder = tmp_path / "data"

    def said(*options: str, **more: str) -> str:
        arguments = ["restore", str(tmp_path / "none"), "--data-dir", str(folder), *options]
        settings = no_settings() | database | more
        found = CliRunner().invoke(app, arguments, env=settings, prog_name="voltstream").exception
        assert isinstance(found, WrongUsage | BackupFailed), found
        return str(found)

    assert "--drop-events: no RabbitMQ is known: set VOLTSTREAM_RABBITMQ_URL" in said("--drop-events")
    assert "set VOLTSTREAM_RABBITMQ_URL and VOLTSTREAM_KAFKA_URL, or say --keep-events" in said("--replace")
    with consumer(rabbitmq_url, EVENTS):
        assert "Say --drop-events where the restored database takes the place" in said(**bus)
        beyond = [said(option, **bus) for option in ("--keep-events", "--drop-events", "--replace")]
    here = load_settings(database_url=database["VOLTSTREAM_DATABASE_URL"], data_dir=folder)
    with published_address(here, "http://a"):
        running = said("--drop-events", **bus)
    assert re.search(r"`voltstream up` at http://a \(process \d+\) works on .*: stop it", running)
    beyond += [said(), said("--keep-events"), said("--replace", "--keep-events")]
    assert all("no backup is there" in one for one in beyond)


def test_a_running_platform_of_a_data_folder_is_backed_up_and_goes_on_in_another_folder(
    data_dir: Path, tmp_path: Path
) -> None:
    first, later = (readings("DE*VLT*E1", 40, NOW_MS + at) for at in (0, 60_000))
    later = [one | {"seq": one["seq"] + 40} for one in later]
    other = data_dir.parent / "other"

    def run(*arguments: str, folder: Path) -> Result:
        return CliRunner().invoke(
            app, [*arguments, "--data-dir", str(folder)], env=no_settings(), prog_name="voltstream"
        )

    with up(data_dir, "--no-simulator") as running:
        assert running.post(first).status_code == 202
        taken = run("backup", str(tmp_path / "backup"), "--json", folder=data_dir)
        assert json.loads(taken.stdout)["lake"] == "none", taken.exception
        assert running.post(later).status_code == 202
        refused = run("restore", str(tmp_path / "backup"), "--replace", folder=data_dir)
        assert "another voltstream" in str(refused.exception), "it would go on with what it has in memory"
        assert running.ledger()["stored"] == 80
    restored = run("restore", str(tmp_path / "backup"), "--json", folder=other)
    assert json.loads(restored.stdout)["offsets"], restored.exception
    with up(other, "--no-simulator") as running:
        assert running.ledger()["stored"] == 40
        assert running.post([*first, *later]).status_code == 202, "devices with a memory send again"
        ledger = running.ledger()
        assert (ledger["stored"], ledger["duplicate"], ledger["in_flight"]) == (80, 40, 0)
        assert running.stop()[0] == 0
    assert run("verify", folder=other).exit_code == 0
