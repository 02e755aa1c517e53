"""The DDL and the continuous aggregates against real TimescaleDB code (in WebAssembly; see pglite/)."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from streams.storage.revisions import revise_readings
from streams.storage.schema import MIGRATIONS, statements
from streams.storage.tables import COARSE, REVISED, WEEK_MS, WINDOW, select_coarse
from streams.storage.windows.relations import Layout, renamed_aggregates, renewed_coarse
from tests.streams.older_version import older_coarse

pytestmark = pytest.mark.usefixtures("processes")

_SOURCE = Path(__file__).parent / "pglite"
_INSTALL_S_MAX = 240
_RUN_S_MAX = 240
_MIGRATIONS = [path.read_text(encoding="utf-8") for path in sorted(MIGRATIONS.folder.glob("*.sql"))]

# Two connectors, three days of minutes with holes; the second has no register in its first hour.
_WINDOWS = """
INSERT INTO telemetry.window_1m
SELECT k, bucket, 1, 6, (i % 7 = 0)::int, bucket + interval '1 second', bucket + interval '55 seconds',
       6, 6 * i, i - 5, i + 5, 0, 0, NULL, NULL, 1, i % 11, i % 11, i % 11, 0, 0, NULL, NULL, 0, 0, NULL, NULL,
       CASE WHEN no THEN 0 ELSE 6 END, CASE WHEN NOT no THEN bucket + interval '2 seconds' END,
       CASE WHEN NOT no THEN i * 10 END, CASE WHEN NOT no THEN bucket + interval '50 seconds' END,
       CASE WHEN NOT no THEN i * 10 + 9 END
FROM generate_series(1, 2) AS k, generate_series(0, 4319) AS i,
     LATERAL (SELECT '2026-03-01'::timestamptz + i * interval '1 minute' AS bucket, k = 2 AND i < 60 AS no) AS at
WHERE i % 13 <> k
"""
_EXPORTS = """
UPDATE telemetry.window_1m SET energy_export_first_ts = energy_first_ts, energy_export_first_mwh = energy_first_mwh / 3,
    energy_export_last_ts = energy_last_ts, energy_export_last_mwh = energy_last_mwh / 3, outside_mwh_sum = readings
WHERE readings > 0 AND extract(hour FROM bucket) < 7
"""
_LATE = """
UPDATE telemetry.window_1m SET power_mw_max = 10000000, revision = revision + 1
WHERE connector_key = 1 AND bucket = '2026-03-01 00:05Z'
"""
_READINGS = """
INSERT INTO telemetry.reading (connector_key, ts, status, session_event, flags, payload_hash)
SELECT i % 5, '2026-03-01'::timestamptz + i * interval '1 hour', 0, 0, 0, i FROM generate_series(0, 999) AS i
"""


# A repeated pass gives the stored reading 3 to session 7.
_REVISION = (
    revise_readings("r.connector_key = ANY('{3}'::int[])")
    .decode()
    .replace(
        REVISED.given,
        "(SELECT connector_key, ts, boot, seq, part, payload_hash, 7::bigint, 0::smallint, 1::smallint, 5::bigint, "
        "NULL::bigint, NULL::bigint, NULL::text FROM telemetry.reading WHERE payload_hash = 3) "
        f"AS given ({REVISED.columns})",
    )
)


@pytest.fixture(scope="session")
def pglite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runner and its package."""
    folder = tmp_path_factory.mktemp("pglite")
    for name in ("package.json", "run.mjs"):
        shutil.copy(_SOURCE / name, folder)
    npm = shutil.which("npm")
    reason = "no npm on this machine" if npm is None else ""
    if npm is not None:
        command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_INSTALL_S_MAX, check=False)
            reason = "" if done.returncode == 0 else f"npm could not install it (exit {done.returncode})"
        except subprocess.TimeoutExpired:
            reason = f"npm did not install it within {_INSTALL_S_MAX} s"
    if reason:
        outcome = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        outcome(f"TimescaleDB in WebAssembly cannot be had: {reason}")
    return folder


def run(folder: Path, scripts: list[str]) -> list[Any]:
    """The rows of each script's last statement. Raises AssertionError where one fails."""
    node = shutil.which("node") or "node"
    done = subprocess.run(
        [node, "run.mjs"], cwd=folder, input=json.dumps(scripts), capture_output=True, text=True,
        timeout=_RUN_S_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    answers = json.loads(done.stdout)
    for script, answer in zip(scripts, answers, strict=True):
        assert "error" not in answer, f"{answer['error']} {answer['message']}\n{script[:2_000]}"
    return [answer["rows"] for answer in answers]


def shown(relation: str) -> str:
    """Every column as text, so that no driver rounds."""
    names = [field.name for field in WINDOW.fields]
    return f"SELECT {', '.join(f'{name}::text' for name in names)} FROM {relation} ORDER BY connector_key, bucket"


def columns_of(table: str) -> str:
    return (
        "SELECT column_name, data_type FROM information_schema.columns "
        f"WHERE table_schema = 'telemetry' AND table_name = '{table}' "
        "AND column_name <> 'revision' ORDER BY 1"
    )


@pytest.mark.parametrize("layout", ["community", "apache"])
@pytest.mark.parametrize("renewed", [False, True], ids=["made", "made again"])
def test_the_layout_is_made_and_answers_as_plain_sql_does(pglite: Path, layout: Layout, renewed: bool) -> None:
    asked = [script for name, width in COARSE.items() for script in (
        shown(f"telemetry.{name}"),
        shown(f"({select_coarse(width, timescale=False)}) AS plain"),
        columns_of(name),
    )]  # fmt: skip
    again = renewed_coarse(layout) if renewed else []
    scripts = [*_MIGRATIONS, *statements(layout), _WINDOWS, _EXPORTS, *again, columns_of("window_1m"), *asked]
    rows = run(pglite, scripts)
    (wanted_columns, *answers) = rows[-1 - len(asked) :]
    for found, wanted, columns in zip(answers[::3], answers[1::3], answers[2::3], strict=True):
        assert len(found) >= 6
        assert found == wanted
        assert columns == wanted_columns


@pytest.mark.parametrize("layout", ["community", "apache"])
def test_a_database_laid_out_by_an_older_version_is_migrated_with_its_readings(
    pglite: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.storage.schema.coarse_relations", older_coarse)
    place = next(n for n, script in enumerate(_MIGRATIONS) if "SET DEFAULT" in script)
    laid_out = f"INSERT INTO telemetry.storage (layout, partitions) VALUES ('{layout}', 4)"
    compressed = ["SELECT compress_chunk(show_chunks('telemetry.reading'))"] if layout == "community" else []
    first = [*_MIGRATIONS[:place], *statements(layout), laid_out, _READINGS, *compressed]
    plain = "INSERT INTO telemetry.reading (connector_key, ts, status, payload_hash) VALUES (1, '2026-03-02', 3, 7)"
    asked = (
        "SELECT count(*)::int, sum(payload_hash)::int, sum(named)::int, max(session_event)::int, max(flags)::int "
        "FROM telemetry.reading"
    )
    *_, found = run(pglite, [*first, *_MIGRATIONS[place:], plain, asked])
    assert found == [[1_001, 999 * 500 + 7, 1_001, 0, 0]]


@pytest.mark.parametrize(
    ("layout", "table", "moment"),
    [("community", "reading", "ts"), ("apache", "reading", "ts"), ("apache", "window_1m", "bucket")],
)
def test_a_week_that_was_moved_is_dropped_but_for_what_stays(
    pglite: Path, layout: Layout, table: str, moment: str
) -> None:
    week = "2931"  # from 2026-03-05 on
    start = f"to_timestamp({week}::bigint * 604800)"
    inside = f"{moment} >= {start} AND {moment} < {start} + interval '7 days'"
    left = f"SELECT count(*)::int, count(*) FILTER (WHERE connector_key = 1)::int FROM telemetry.{table}"
    hours = range(96, 96 + 168)  # of _READINGS, in this week
    may_go = sum(i % 5 in (0, 3, 4) or (i % 5 == 2 and i < 96 + 84) for i in hours)
    *_, weeks, all_rows, of_week, movable, _, after, inside_after = run(
        pglite,
        [
            *_MIGRATIONS, *statements(layout), _READINGS,
            # Of connector 1 nothing may go, of connector 2 half of the week.
            "INSERT INTO telemetry.lake_cut SELECT k, 0, '2100-01-01' FROM unnest(ARRAY[0, 3, 4]) AS k",
            f"INSERT INTO telemetry.lake_cut SELECT 2, 0, {start} + interval '84 hours'",
            "INSERT INTO telemetry.window_1m (connector_key, bucket, readings, flagged, first_ts, last_ts) "
            "SELECT connector_key, ts, 1, 0, ts, ts FROM telemetry.reading",
            f"SELECT array_agg(week ORDER BY week) FROM telemetry.weeks_of('{table}') AS week", left,
            f"{left} WHERE {inside}",
            f"SELECT count(*)::int FROM telemetry.{table} JOIN telemetry.lake_cut USING (connector_key) "
            f"WHERE {inside} AND {moment} < until",
            f"SELECT telemetry.drop_moved('{table}', '{moment}', {week}, {may_go})",
            left, f"{left} WHERE {inside}",
        ],
    )  # fmt: skip
    assert int(week) in weeks[0][0]
    ((gone,),) = movable
    assert gone == may_go < of_week[0][0] == len(hours)
    assert after == [[all_rows[0][0] - gone, all_rows[0][1]]]
    assert inside_after == [[of_week[0][0] - gone, of_week[0][1]]]


def test_a_late_reading_shows_in_a_materialised_window_after_its_refresh(pglite: Path) -> None:
    refresh = "CALL refresh_continuous_aggregate('telemetry.window_1h_materialised', NULL, '2026-03-03')"
    asked = "SELECT power_mw_max::int FROM telemetry.window_1h ORDER BY connector_key, bucket LIMIT 1"
    newest = "SELECT max(bucket)::text FROM telemetry.window_1h"
    rows = run(
        pglite,
        [*_MIGRATIONS, *statements("community"), _WINDOWS, refresh, asked, _LATE, asked, refresh, asked, newest],
    )
    assert [rows[-6], rows[-4], rows[-2]] == [[[64]], [[64]], [[10_000_000]]]
    assert rows[-1] == [["2026-03-03 23:00:00+00"]]  # beyond what is materialised, it is computed


def test_behind_the_border_windows_are_of_what_is_kept_and_of_late_minutes(pglite: Path) -> None:
    """As streams/storage/windows/retention.py drops a week."""
    refresh = "CALL refresh_continuous_aggregate('telemetry.window_1h_materialised', NULL, NULL)"
    border = "to_timestamp(2930::bigint * 604800 + 604800)"  # the end of the data's week
    kept = (
        f"INSERT INTO telemetry.window_1h_kept ({WINDOW.columns}) "
        f"{select_coarse('1 hour', timescale=False, where=f'WHERE bucket < {border}')}"
    )
    raised = f"UPDATE telemetry.window_retained SET since_ms = extract(epoch FROM {border}) * 1000 WHERE width = '1m'"
    late = (
        "INSERT INTO telemetry.window_1m (connector_key, bucket, readings, flagged, first_ts, last_ts) "
        "SELECT 1, '2026-03-01 00:05Z', 5, 0, t, t FROM (SELECT '2026-03-01 00:05:30Z'::timestamptz AS t) AS moment"
    )
    asked, total = shown("telemetry.window_1h"), "SELECT sum(readings)::int FROM telemetry.window_1h"
    dropped = "SELECT telemetry.drop_windows(2930)"
    rows = run(
        pglite,
        [
            *_MIGRATIONS, *statements("community"), _WINDOWS, refresh, asked, total, kept, raised, dropped, refresh,
            asked, "SELECT count(*)::int FROM telemetry.window_1h_materialised", late, total, refresh, total,
        ],
    )  # fmt: skip
    (before, counted), (after, left, _, with_late, _, refreshed) = rows[-12:-10], rows[-6:]
    assert after == before
    assert left == [[0]]
    assert with_late == refreshed == [[counted[0][0] + 5]]


def test_aggregates_of_an_older_version_keep_what_they_have_computed_under_the_new_names(
    pglite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older_version:
        older_version.setattr("streams.storage.schema.coarse_relations", older_coarse)
        first = [*_MIGRATIONS, *statements("community"), _WINDOWS]
    refresh = "CALL refresh_continuous_aggregate('telemetry.window_1h', NULL, '2026-03-03')"
    renewed = [*renamed_aggregates(), *renewed_coarse("community", aggregates=False)]
    asked = [shown("telemetry.window_1h"), shown(f"({select_coarse('1 hour', timescale=False)}) AS plain")]
    wider = "SELECT power_mw_max::int FROM telemetry.window_1h ORDER BY connector_key, bucket LIMIT 1"
    *_, found, wanted, _, not_refreshed = run(pglite, [*first, refresh, *renewed, *asked, _LATE, wider])
    assert found == wanted
    assert not_refreshed == [[64]]  # what was computed before is what is read


def test_pieces_are_a_week_and_retention_and_upkeep_work_on_them(pglite: Path) -> None:
    chunks = "SELECT count(*)::int FROM show_chunks('telemetry.reading')"
    week = "'2026-03-05'::timestamptz"  # pieces begin on Thursdays, as weeks since 1970 do
    rows = run(
        pglite,
        [
            *_MIGRATIONS, *statements("community"), _READINGS, chunks,
            "SELECT telemetry.ensure_weeks(ARRAY[2930])",
            f"SELECT telemetry.summarize_weeks(ARRAY[(extract(epoch FROM {week}) / {WEEK_MS // 1_000})::int])",
            f"SELECT telemetry.drop_readings({week} - interval '1 second')",
            f"SELECT telemetry.drop_readings({week})",
            chunks,
            "SELECT min(ts)::text FROM telemetry.reading",
        ],
    )  # fmt: skip
    assert rows[-7] == [[7]]
    assert rows[-4:] == [[[0]], [[1]], [[6]], [["2026-03-05 00:00:00+00"]]]


def test_old_readings_go_to_the_columnstore_and_are_still_found_and_revised(pglite: Path) -> None:
    rows = run(
        pglite,
        [
            *_MIGRATIONS, *statements("community"), _READINGS,
            "SELECT count(compress_chunk(c))::int FROM show_chunks('telemetry.reading') c",
            "SELECT count(*)::int, sum(payload_hash)::int FROM telemetry.reading WHERE connector_key = 3",
            _REVISION,
            "SELECT connector_key::int, payload_hash::int FROM telemetry.reading WHERE session_key = 7",
            # A back-fill into it, and a merge into an old window.
            _READINGS.replace("999", "99"),
            "SELECT count(*)::int FROM telemetry.reading WHERE connector_key = 3 AND ts < '2026-03-02'",
        ],
    )  # fmt: skip
    assert rows[-6:] == [[[7]], [[200, 100_100]], [], [[3, 3]], [], [[10]]]
