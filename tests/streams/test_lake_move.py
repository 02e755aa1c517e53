"""The move of readings to the lake: exactly once, whatever ends it, and nothing later can tell."""

import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kit.clock import from_ms
from kit.errors import Contended, Unavailable
from kit.lake.folder import TEMPORARY, LakeUnavailable
from schemas.reading import Status
from streams.effects import StepParams
from streams.errors import BorderMoved
from streams.state.encoding import load_state, snapshot
from streams.storage.commit import Flush, commit
from streams.storage.connections import Connections, open_writer
from streams.storage.events import FlushContext
from streams.storage.lake_move import LakeMismatch, MoveStep
from streams.storage.store import Store
from streams.storage.tables import WEEK_MS
from streams.worker.compute import compute_effects
from streams.worker.processor import PartitionProcessor, WorkerContext
from tests.streams.frames_and_effects import T0_MS, charging, frame_of
from tests.streams.lake_fleet import (
    AFTER_DAYS,
    BORDER_MS,
    DAY_MS,
    NOW,
    START_MS,
    WEEK,
    all_windows,
    charging_days,
    everything,
    feed,
    feed_fleet,
    move,
    moved,
    moving,
    stored,
    tables,
)
from tests.streams.test_step_laws import blank_readings, frames_of
from tests.streams.test_window_retention import coarse

_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.streams.lake_fleet import move
url, folder, wanted, days = sys.argv[1:]
def strike(step, file):
    if step == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
move(url, Path(folder), strike, window_days=int(days))
"""
_NO_SPACE = """
import resource, signal, sys
from pathlib import Path
from kit.lake.folder import LakeUnavailable
from tests.streams.lake_fleet import move
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
try:
    move(sys.argv[1], Path(sys.argv[2]))
except LakeUnavailable as error:
    print(error)
"""


_LATER = (
    "SELECT * FROM telemetry.session",
    "SELECT * FROM telemetry.status_interval",
    "SELECT partition, stored, duplicate, quarantined, in_windows FROM telemetry.ledger",
)


@pytest.fixture
def fed(store: Store, seed: int) -> Store:
    feed_fleet(store, seed)
    return store


def run(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def noted(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {path for (path,) in connection.execute("SELECT path FROM telemetry.lake_file")}


def fault(url: str) -> str | None:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT fault FROM telemetry.lake_status").fetchone()
    assert row is not None
    found: str | None = row[0]
    return found


def test_every_reading_is_in_the_database_or_in_the_lake_and_only_whole_weeks_go(
    fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    before = everything(telemetry_url, tmp_path)
    weeks = move(telemetry_url, tmp_path)
    assert everything(telemetry_url, tmp_path) == before
    gone = moved(telemetry_url, tmp_path)
    assert [(week.start, week.end) for week in weeks] == [(from_ms(START_MS), from_ms(START_MS + 2 * WEEK_MS))]
    assert sum(week.rows for week in weeks) == len(gone)
    assert max(row[2] for row in gone).timestamp() * 1_000 < START_MS + 2 * WEEK_MS
    assert files_of(tmp_path) == noted(telemetry_url)
    # What stays of these weeks are the two newest sessions of each connector, and connectors that had fewer.
    old = [row for row in stored(telemetry_url) if row[2].timestamp() * 1_000 < START_MS + 2 * WEEK_MS]
    assert sum(week.kept for week in weeks) == len(old)
    assert len(gone) > 2 * len(old)
    assert move(telemetry_url, tmp_path) == []
    assert everything(telemetry_url, tmp_path) == before


@pytest.mark.parametrize("step", list(MoveStep))
@pytest.mark.usefixtures("processes")
def test_a_kill_at_any_step_loses_nothing_and_repeats_nothing(
    step: MoveStep, fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    before = everything(telemetry_url, tmp_path)
    assert run(_KILLED, telemetry_url, tmp_path, step, 0).returncode == -signal.SIGKILL
    assert everything(telemetry_url, tmp_path) == before
    move(telemetry_url, tmp_path)
    assert everything(telemetry_url, tmp_path) == before
    assert len(moved(telemetry_url, tmp_path)) > len(before) / 2
    assert files_of(tmp_path) == noted(telemetry_url)  # nothing is left of the first attempt


@pytest.mark.parametrize("step", list(MoveStep)[2:])
@pytest.mark.usefixtures("processes")
def test_a_kill_at_any_step_of_moving_windows_loses_nothing_and_repeats_nothing(
    step: MoveStep, fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    move(telemetry_url, tmp_path)
    before = all_windows(telemetry_url, tmp_path), coarse(telemetry_url)
    assert run(_KILLED, telemetry_url, tmp_path, step, 10).returncode == -signal.SIGKILL
    assert (all_windows(telemetry_url, tmp_path), coarse(telemetry_url)) == before
    move(telemetry_url, tmp_path, window_days=10)
    assert (all_windows(telemetry_url, tmp_path), coarse(telemetry_url)) == before
    with psycopg.connect(telemetry_url) as connection:
        left = connection.execute("SELECT count(*) FROM telemetry.window_1m").fetchone()
    assert left is not None
    assert left[0] < len(before[0]) / 2
    assert files_of(tmp_path) == noted(telemetry_url)


@pytest.mark.usefixtures("processes")
def test_storage_that_is_full_is_reported_and_nothing_is_lost(fed: Store, telemetry_url: str, tmp_path: Path) -> None:
    before = everything(telemetry_url, tmp_path)
    found = run(_NO_SPACE, telemetry_url, tmp_path)
    assert "the lake cannot write" in found.stdout, found.stderr
    assert "the lake cannot write" in (fault(telemetry_url) or "")
    assert everything(telemetry_url, tmp_path) == before
    assert move(telemetry_url, tmp_path)
    assert everything(telemetry_url, tmp_path) == before
    assert fault(telemetry_url) is None


def test_a_lake_that_is_away_is_reported_and_nothing_is_lost(fed: Store, telemetry_url: str, tmp_path: Path) -> None:
    place = tmp_path / "lake"
    before = everything(telemetry_url, place)
    place.write_text("not a folder")
    with pytest.raises(LakeUnavailable):
        move(telemetry_url, place)
    assert fault(telemetry_url)
    place.unlink()
    assert move(telemetry_url, place)
    assert everything(telemetry_url, place) == before


def test_what_the_database_refuses_is_reported_without_secrets_and_nothing_is_lost(
    fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    before = everything(telemetry_url, tmp_path)
    with psycopg.connect(telemetry_url) as connection:
        connection.execute('ALTER TABLE telemetry.lake_file ADD CONSTRAINT "postgres://a:hunter2@b/c" CHECK (rows < 0)')
    with pytest.raises(psycopg.errors.CheckViolation):
        move(telemetry_url, tmp_path)
    reported = fault(telemetry_url) or ""
    assert "violates check constraint" in reported
    assert "hunter2" not in reported
    assert everything(telemetry_url, tmp_path) == before


def test_a_row_that_came_behind_the_border_in_spite_of_it_is_noticed_and_reported(
    fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    def write(step: MoveStep, _: object) -> None:
        if step is MoveStep.FILE_PLACED:
            with psycopg.connect(telemetry_url) as connection:
                connection.execute(
                    "INSERT INTO telemetry.reading (connector_key, ts, status, payload_hash) "
                    "SELECT min(connector_key), min(ts), 3, 7 FROM telemetry.reading"
                )

    with pytest.raises(Contended):
        move(telemetry_url, tmp_path, write)
    assert "rows to be moved, the files have" in (fault(telemetry_url) or "")
    assert noted(telemetry_url) == set()


def test_a_file_that_is_not_what_was_written_is_never_noted(fed: Store, telemetry_url: str, tmp_path: Path) -> None:
    before = everything(telemetry_url, tmp_path)

    def spoil(step: MoveStep, _: object) -> None:
        if step is MoveStep.FILE_WRITTEN:
            path = next((tmp_path / TEMPORARY).iterdir())
            content = bytearray(path.read_bytes())
            content[len(content) // 3] ^= 1
            path.write_bytes(content)

    with pytest.raises((LakeMismatch, LakeUnavailable)):
        move(telemetry_url, tmp_path, spoil)
    assert noted(telemetry_url) == set()
    assert everything(telemetry_url, tmp_path) == before


def test_a_day_on_which_the_ledger_counts_otherwise_is_not_moved(
    fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(telemetry_url) as connection:
        connection.execute("DELETE FROM telemetry.reading WHERE ts = (SELECT min(ts) FROM telemetry.reading)")
    before = everything(telemetry_url, tmp_path)
    with pytest.raises(LakeMismatch, match="readings are stored"):
        move(telemetry_url, tmp_path)
    assert everything(telemetry_url, tmp_path) == before
    assert noted(telemetry_url) == set()


def test_of_two_processes_one_moves(fed: Store, telemetry_url: str, tmp_path: Path) -> None:
    second: list[Any] = []

    def meanwhile(step: MoveStep, _: object) -> None:
        if step is MoveStep.FILE_PLACED:
            second.append(move(telemetry_url, tmp_path))

    assert move(telemetry_url, tmp_path, meanwhile)
    assert second
    assert not any(second)


@pytest.mark.parametrize("table", ["reading", "window_1m"])
def test_a_writer_that_came_first_is_waited_for_and_goes_on(
    table: str, fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    window_days = 0
    if table == "window_1m":
        move(telemetry_url, tmp_path)
        window_days = 10
    waits = (
        "SELECT a.query FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
        "WHERE NOT l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = %s)"
    )
    name = telemetry_url.rpartition("/")[2]
    first = "SELECT min(tableoid::regclass::text) FROM telemetry."
    with (
        psycopg.connect(telemetry_url) as writer,
        psycopg.connect(telemetry_url, autocommit=True) as watcher,
        ThreadPoolExecutor(1) as executor,
    ):
        row = writer.execute(f"{first}{table}".encode()).fetchone()
        assert row is not None
        writer.commit()
        # As a commit's statement does: the table, and then the week's that its rows are in.
        writer.execute(f"LOCK TABLE ONLY telemetry.{table} IN ROW EXCLUSIVE MODE".encode())
        moving = executor.submit(move, telemetry_url, tmp_path, window_days=window_days)
        while not (waiting := watcher.execute(waits, (name,)).fetchone()):
            assert not moving.done()
        assert f"drop_moved('{table}'" in waiting[0]  # not before: all that takes long is done without the lock
        writer.execute(f"LOCK TABLE ONLY {row[0]} IN ROW EXCLUSIVE MODE".encode())
        writer.commit()
        assert moving.result(60)


@pytest.mark.parametrize(("table", "moment"), [("reading", "ts"), ("window_1m", "bucket")])
def test_a_week_that_has_other_rows_than_the_files_is_refused_without_a_lock(
    table: str, moment: str, fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    move(telemetry_url, tmp_path)
    with psycopg.connect(telemetry_url) as writer, psycopg.connect(telemetry_url) as mover:
        writer.execute(f"LOCK TABLE ONLY telemetry.{table} IN ROW EXCLUSIVE MODE".encode())
        mover.execute("SET LOCAL lock_timeout = 1")
        with pytest.raises(psycopg.errors.SerializationFailure, match="rows to be moved, the files have -1"):
            mover.execute("SELECT telemetry.drop_moved(%s, %s, %s, -1)", (table, moment, WEEK))


def test_minutes_of_weeks_that_were_moved_go_with_those_of_an_older_week_without_readings(
    fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    before = all_windows(telemetry_url, tmp_path), coarse(telemetry_url)
    with psycopg.connect(telemetry_url) as connection:
        connection.execute("SELECT telemetry.drop_readings(%s)", (from_ms(START_MS + WEEK_MS),))
    kinds = {week.kind: week.end for week in move(telemetry_url, tmp_path, window_days=10)}
    assert kinds == dict.fromkeys(("reading", "window_1m"), from_ms(START_MS + 2 * WEEK_MS))
    assert (all_windows(telemetry_url, tmp_path), coarse(telemetry_url)) == before
    with psycopg.connect(telemetry_url) as connection:
        moved_last = connection.execute("SELECT max(last_ts) FROM telemetry.lake_file WHERE kind = 'window_1m'")
        last = moved_last.fetchone()
    assert last is not None
    assert last[0] >= from_ms(START_MS + WEEK_MS)


@pytest.mark.parametrize("bare", [False, True])
def test_minutes_that_stay_are_not_counted_again_while_no_week_is_due(
    bare: bool, fed: Store, telemetry_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bare:
        with psycopg.connect(telemetry_url) as connection:
            connection.execute("SELECT telemetry.drop_readings(%s)", (from_ms(START_MS + WEEK_MS),))
    assert move(telemetry_url, tmp_path, window_days=10)
    with psycopg.connect(telemetry_url) as connection:
        left = connection.execute(
            "SELECT count(*) FROM telemetry.window_1m WHERE bucket < %s", (from_ms(START_MS + 2 * WEEK_MS),)
        )
        assert left.fetchone() != (0,)
    steps: list[MoveStep] = []
    monkeypatch.setattr("streams.storage.lake_move._counted", lambda *_, **__: pytest.fail("counted again"))
    assert move(telemetry_url, tmp_path, lambda step, _: steps.append(step), window_days=10) == []
    assert steps == []


def test_minutes_move_too_of_weeks_whose_readings_were_dropped_before(
    fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    before = all_windows(telemetry_url, tmp_path), coarse(telemetry_url)
    with psycopg.connect(telemetry_url) as connection:
        connection.execute("SELECT telemetry.drop_readings(%s)", (from_ms(START_MS + WEEK_MS),))
    with moving(telemetry_url, tmp_path) as one:
        # The border is not raised beyond what the gateway refuses.
        assert one.move(NOW, 100, window_days=10) == []
        assert _border_ms(telemetry_url) < START_MS
        assert [week.kind for week in one.move(NOW, 14, window_days=10)] == ["window_1m"]
    assert _border_ms(telemetry_url) == BORDER_MS - WEEK_MS
    assert (all_windows(telemetry_url, tmp_path), coarse(telemetry_url)) == before
    # All of them, of main meters too: no pass finds a reading there.
    with psycopg.connect(telemetry_url) as connection:
        left = connection.execute("SELECT min(bucket) FROM telemetry.window_1m").fetchone()
    assert left is not None
    assert left[0] >= from_ms(START_MS + WEEK_MS)


def _border_ms(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT min(border_ms) FROM telemetry.stream_offset").fetchone()
    assert row is not None
    return int(row[0])


def test_files_of_readings_end_and_those_of_windows_stay(fed: Store, telemetry_url: str, tmp_path: Path) -> None:
    move(telemetry_url, tmp_path, window_days=10)
    windows = {path for path in noted(telemetry_url) if path.startswith("window_1m/")}
    assert windows < noted(telemetry_url)
    later = NOW + timedelta(days=100)
    with moving(telemetry_url, tmp_path) as one:
        one.move(later, 1_000, retention_days=90)
    assert noted(telemetry_url) == files_of(tmp_path) == windows


def test_a_file_that_cannot_be_removed_stays_noted(
    fed: Store, telemetry_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(telemetry_url, tmp_path)
    before = noted(telemetry_url)

    def away(*_: object) -> None:
        raise LakeUnavailable("away")

    with moving(telemetry_url, tmp_path) as one:
        with monkeypatch.context() as patched:
            patched.setattr("kit.lake.folder.LakeFolder.remove", away)
            with pytest.raises(LakeUnavailable):
                one.move(NOW + timedelta(days=100), 1_000, retention_days=90)
        assert noted(telemetry_url) == before
        one.move(NOW + timedelta(days=100), 1_000, retention_days=90)
    assert noted(telemetry_url) == files_of(tmp_path) == set()


def test_a_stopped_move_ends_at_its_next_step_and_is_done_again(fed: Store, telemetry_url: str, tmp_path: Path) -> None:
    before = everything(telemetry_url, tmp_path)

    def stop(step: MoveStep, _: object) -> None:
        if step is MoveStep.FILE_BEGUN:
            one.stop()

    with moving(telemetry_url, tmp_path, stop) as one, pytest.raises(Unavailable):
        one.move(NOW, AFTER_DAYS)
    assert fault(telemetry_url) is None  # a worker that is stopped is no fault of the lake
    assert move(telemetry_url, tmp_path)
    assert everything(telemetry_url, tmp_path) == before


def test_a_flush_computed_before_the_border_moved_is_refused_and_computed_again(
    fed: Store, telemetry_url: str, tmp_path: Path
) -> None:
    acquired = fed.acquire(0)
    state = load_state(0, acquired.bodies)
    late = charging_days("P0-A", 1, 2, random.Random(1), sequences=True)
    now_ms = round(NOW.timestamp() * 1_000)
    frames = frames_of([one | {"received_ms": now_ms} for one in late], [])
    effects = compute_effects(state, frames, now_ms, fed, StepParams())
    flush = Flush(
        0, acquired.epoch, acquired.commits + 1, acquired.next, acquired.next + len(frames), effects, snapshot(state),
        base=True, context=FlushContext(now_ms, ""), border_ms=acquired.border_ms,
    )  # fmt: skip
    move(telemetry_url, tmp_path)
    before = everything(telemetry_url, tmp_path)
    with pytest.raises(BorderMoved):
        commit(fed, flush)
    with pytest.raises(BorderMoved):
        commit(fed, replace(flush, border_ms=flush.border_ms + 1))
    assert everything(telemetry_url, tmp_path) == before
    feed(fed, 0, late, now_ms, "again")
    assert everything(telemetry_url, tmp_path) == before
    with psycopg.connect(telemetry_url) as connection:
        refused = connection.execute("SELECT count(*), min(reason) FROM telemetry.quarantine").fetchone()
        ledger = connection.execute("SELECT quarantined FROM telemetry.ledger WHERE partition = 0").fetchone()
    assert refused == (len(late), "ts_ancient")
    assert ledger == (len(late),)


def across_the_border(rng: random.Random) -> list[Any]:
    """Sessions, and a reading each hour that is of none, from before the border to behind it; then the reading by which
    they are of one (docs/adr/0014, rule 7)."""
    days = charging_days("P0-C", 1, 4, rng, sequences=False)
    moments_ms = range(BORDER_MS - DAY_MS - 3 * 3_600_000 + 5_000, BORDER_MS + 4 * 3_600_000, 3_600_000)
    hours = blank_readings(
        [{"station_id": "P0-C", "connector_id": 1, "ts_ms": ts_ms, "session_id": "long"} for ts_ms in moments_ms]
    )
    return [*days, *hours, hours[-1] | {"ts_ms": moments_ms[-1] - 1_000, "status": Status.CHARGING}]


def test_late_readings_behind_the_border_change_the_same_with_and_without_a_move(
    prepared_template: str, postgres_url: str, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    results = []
    late: list[Any] = []
    for name in ("whole", "moved"):
        database = f"lake_{name}_{os.getpid()}"
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {database} TEMPLATE {prepared_template.rpartition('/')[2]}".encode())
            url = f"{postgres_url.rpartition('/')[0]}/{database}"
            connections = Connections(partial(open_writer, url), 2)
            try:
                store = Store(connections)
                feed_fleet(store, seed)
                *unproven, proof = across_the_border(random.Random(seed))
                ended_ms = unproven[-1]["ts_ms"]
                feed(store, 0, unproven, ended_ms, "unproven")
                feed(store, 0, [], ended_ms + 3 * 3_600_000, "unproven")
                folder = tmp_path / name
                # The border moves in both, and only one loses its rows.
                move(url, folder) if name == "moved" else _only_border(url)
                before = all_windows(url, folder)
                move(url, folder, window_days=10) if name == "moved" else None
                assert all_windows(url, folder) == before
                late = late or [
                    proof,
                    *(
                        one | {"ts_ms": BORDER_MS + rng.randrange(2 * DAY_MS), "seq": None}
                        for one in charging_days("P0-A", 1, 4, rng, sequences=False)
                    ),
                ]
                for number in range(0, len(late), 7):
                    now_ms = round(NOW.timestamp() * 1_000) + number
                    feed(store, 0, late[number : number + 7], now_ms, f"late {number}")
                windows = all_windows(url, folder), coarse(url)
                results.append((everything(url, folder), list(tables(url, *_LATER)), windows))
            finally:
                connections.close()
                admin.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())
    assert results[0] == results[1]


def _only_border(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE telemetry.stream_offset SET border_ms = %s", (BORDER_MS,))


async def test_a_worker_goes_on_where_the_border_moved_under_it(worker: WorkerContext, telemetry_url: str) -> None:
    processor = PartitionProcessor(0, worker)
    await processor.acquire()
    processor.offer(0, frame_of(0, 0, charging("A", 0)))  # ten readings, one a second
    with psycopg.connect(telemetry_url) as connection:
        connection.execute("UPDATE telemetry.stream_offset SET border_ms = %s", (T0_MS + 4_000,))
    assert await processor.flush() == 1
    processor.offer(1, frame_of(0, 1, charging("A", 1)))
    assert await processor.flush() == 2
    await processor.release()
    with psycopg.connect(telemetry_url) as connection:
        ledger = connection.execute("SELECT stored, quarantined FROM telemetry.ledger WHERE partition = 0").fetchone()
    assert ledger == (16, 4)
