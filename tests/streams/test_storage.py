"""Preparing a database, and its native layout."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import psycopg
import pytest

from kit.database.migrations import Migrations, migrate, standard_tables
from kit.database.postgres import connect_sync
from kit.errors import ConfigError
from schemas.energy import ENERGY_SHARES
from streams.effects import NULL_I32, NULL_I64
from streams.storage.commit import commit
from streams.storage.connections import Connections, open_writer
from streams.storage.schema import (
    MIGRATIONS,
    READER_ROLE,
    WRITER_ROLE,
    drop_before,
    lay_out,
    prepare,
    stored_partitions,
)
from streams.storage.store import Store
from streams.storage.table_drops import keep_tables
from streams.storage.tables import COARSE, READING, WEEK_MS, WINDOW
from tests.streams.conftest import PARTITIONS
from tests.streams.frames_and_effects import T0_MS, effects_of, flush_of, plain, random_readings
from tests.streams.older_version import older_coarse
from tests.streams.timescale import layout_of, only_in


def test_preparing_twice_changes_nothing(telemetry_url: str) -> None:
    made = layout_of(telemetry_url)
    prepared = prepare(telemetry_url, PARTITIONS)
    assert (prepared.applied, prepared.layout) == ([], made)


def test_two_that_prepare_at_once_both_succeed(database_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: prepare(database_url, PARTITIONS), range(2)))
    assert sorted(len(one.applied) for one in both)[0] == 0
    assert {one.layout for one in both} == {layout_of(database_url)}


def test_a_column_that_is_not_sent_has_the_default_that_is_declared_for_it(telemetry_url: str) -> None:
    query = (
        "SELECT table_schema || '.' || table_name, column_name, column_default FROM information_schema.columns "
        "WHERE table_schema = 'telemetry' AND table_name IN ('reading', 'window_1m') AND column_name <> 'revision'"
    )
    declared = {
        (table.name, field.name, None if field.default is None else str(field.default))
        for table in (READING, WINDOW)
        for field in table.fields
    }
    with psycopg.connect(telemetry_url) as connection:
        assert set(connection.execute(query).fetchall()) == declared


def test_readings_have_no_gaps_between_their_columns(telemetry_url: str) -> None:
    query = (
        "SELECT array_agg(t.typlen ORDER BY attnum) FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid "
        "WHERE attrelid = 'telemetry.reading'::regclass AND attnum > 0"
    )
    with psycopg.connect(telemetry_url) as connection:
        (lengths,) = connection.execute(query).fetchone() or ([],)
    assert lengths == sorted(lengths, reverse=True)


def test_readings_of_an_older_version_are_kept_and_more_are_stored_beside_them(
    database_url: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in MIGRATIONS.folder.glob("*.sql"):
        if file.name < "0007":
            shutil.copy(file, tmp_path)
    migrate(database_url, [standard_tables("telemetry"), Migrations(MIGRATIONS.name, tmp_path)])
    with monkeypatch.context() as older_version:
        older_version.setattr("streams.storage.schema.coarse_relations", older_coarse)
        lay_out(database_url, PARTITIONS)
    older = (
        "INSERT INTO telemetry.reading (connector_key, ts, status, session_event, flags, payload_hash, outside_mwh) "
        "VALUES (1, to_timestamp(%s::bigint / 1000), 3, 0, 0, 17, 5)"
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT telemetry.ensure_weeks(%s)", ([T0_MS // WEEK_MS],))
        connection.execute(older, (T0_MS,))
    assert prepare(database_url, PARTITIONS).applied
    store = Store(Connections(partial(open_writer, database_url), 1))
    readings = random_readings(np.random.default_rng(seed), store.register_connectors(0, [("A", 1)]), 50)
    readings["soc_mpct"][:] = NULL_I32
    commit(store, flush_of(store.acquire(0), effects_of(readings)))
    store.connections.close()
    with psycopg.connect(database_url) as connection:
        sums = connection.execute("SELECT sum(payload_hash), sum(outside_mwh) FROM telemetry.reading").fetchone()
        counts = connection.execute("SELECT sum(temperature_mc_n), sum(soc_mpct_n) FROM telemetry.window_1m").fetchone()
        days = connection.execute("SELECT sum(readings) FROM telemetry.window_1d").fetchone()
    assert days == (len(readings["ts_ms"]),)
    outside = sum(value or 0 for value in plain(readings["outside_mwh"]))
    assert sums == (17 + int(readings["payload_hash"].sum()), 5 + outside)
    assert counts == (sum(value is not None for value in plain(readings["temperature_mc"])), 0)


def test_the_number_of_partitions_is_fixed_for_ever(telemetry_url: str) -> None:
    with pytest.raises(ConfigError, match="VOLTSTREAM_PARTITIONS=4"):
        prepare(telemetry_url, PARTITIONS + 1)


def test_a_database_that_is_not_prepared_says_how_to_mend_that(database_url: str) -> None:
    with psycopg.connect(database_url) as connection, pytest.raises(ConfigError, match="voltstream migrate"):
        stored_partitions(connection)


def test_weeks_made_by_several_workers_at_once_are_made_once(telemetry_url: str) -> None:
    only_in("plain", telemetry_url)
    weeks = np.arange(2_600, 2_640) * WEEK_MS

    def ensure(_: int) -> None:
        store = Store(Connections(partial(open_writer, telemetry_url), 1))
        with store.connections.lend() as connection:
            for start in range(0, 40, 8):
                store.ensure_weeks(connection, [weeks[start : start + 8]])
        store.connections.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ensure, range(4)))
    with psycopg.connect(telemetry_url) as connection:
        made = connection.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry.window_1m'::regclass"
        ).fetchone()
    assert made == (40,)


def test_absurd_moments_make_no_pieces(store: Store) -> None:
    with store.connections.lend() as connection:
        for moments in ([2**62], list(range(0, 1_000 * WEEK_MS, WEEK_MS))):
            with pytest.raises(ValueError, match="weeks"):
                store.ensure_weeks(connection, [np.array(moments)])


def test_a_back_fill_of_five_years_is_one_commit(store: Store, telemetry_url: str, seed: int) -> None:
    readings = random_readings(np.random.default_rng(seed), store.register_connectors(0, [("A", 1)]), 2_000)
    readings["ts_ms"] = T0_MS - np.random.default_rng(seed).integers(0, 5 * 365 * 86_400_000, 2_000)
    commit(store, flush_of(store.acquire(0), effects_of(readings)))
    with psycopg.connect(telemetry_url) as connection:
        assert connection.execute("SELECT count(*) FROM telemetry.reading").fetchone() == (2_000,)


def test_coarse_windows_are_those_of_a_minute_merged(store: Store, telemetry_url: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = store.register_connectors(0, [("A", 1), ("B", 1)])
    readings = random_readings(rng, keys, 3_000, span_ms=3 * 86_400_000)
    commit(store, flush_of(store.acquire(0), effects_of(readings)))
    ends = ", ".join(
        f"(array_agg({name} ORDER BY ts {way}, {name} {way}) FILTER (WHERE {name} IS NOT NULL))[1]"
        for name in ("energy_mwh", "energy_export_mwh")
        for way in ("", "DESC")
    )
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in ENERGY_SHARES)
    with psycopg.connect(telemetry_url) as connection:
        for name, width in COARSE.items():
            found = f"""
                SELECT connector_key, bucket, readings, flagged, first_ts, last_ts, power_mw_n, power_mw_sum,
                       power_mw_min, power_mw_max, voltage_mv_n, energy_n, energy_first_mwh, energy_last_mwh,
                       energy_export_first_mwh, energy_export_last_mwh, in_session_mwh_sum, outside_mwh_sum,
                       rejected_mwh_sum
                FROM telemetry.{name} ORDER BY 1, 2"""
            wanted = f"""
                SELECT connector_key, date_bin('{width}', ts, 'epoch'), count(*), count(*) FILTER (WHERE flags <> 0),
                       min(ts), max(ts), count(power_mw), coalesce(sum(power_mw), 0), min(power_mw), max(power_mw), 0,
                       count(energy_mwh), {ends}, {sums}
                FROM telemetry.reading GROUP BY 1, 2 ORDER BY 1, 2"""
            answers = [connection.execute(query.encode()).fetchall() for query in (found, wanted)]
            assert answers[0] == answers[1]


def test_coarse_windows_of_an_older_version_are_made_again_with_what_is_new(
    store: Store, telemetry_url: str, seed: int
) -> None:
    readings = random_readings(np.random.default_rng(seed), store.register_connectors(0, [("A", 1)]), 200)
    commit(store, flush_of(store.acquire(0), effects_of(readings)))
    asked = "SELECT * FROM telemetry.window_1d_of(1, '2000-01-01', '2100-01-01') ORDER BY bucket"
    with psycopg.connect(telemetry_url, autocommit=True) as connection:
        wanted = connection.execute("SELECT * FROM telemetry.window_1d ORDER BY bucket").fetchall()
        for name in COARSE:
            connection.execute(f"DROP VIEW telemetry.{name} CASCADE".encode())
            connection.execute(f"CREATE VIEW telemetry.{name} AS SELECT bucket FROM telemetry.window_1m".encode())
        prepare(telemetry_url, PARTITIONS)
        assert connection.execute("SELECT * FROM telemetry.window_1d ORDER BY bucket").fetchall() == wanted
    with connect_sync(telemetry_url, name="test", role=READER_ROLE) as connection:
        assert connection.execute(asked.encode()).fetchall() == wanted, "the reader may ask"
    assert wanted


def test_retention_drops_whole_weeks_and_only_old_ones(store: Store, telemetry_url: str, seed: int) -> None:
    keys = store.register_connectors(0, [("A", 1)])
    readings = random_readings(np.random.default_rng(seed), keys, 100)
    readings["ts_ms"] = T0_MS - np.repeat([3 * WEEK_MS, 0], 50)
    commit(store, flush_of(store.acquire(0), effects_of(readings)))
    shares = [sum(int(v) for v in readings[name] if v != NULL_I64) for name in ENERGY_SHARES]
    assert all(shares)
    sums = ", ".join(f"sum({name}_sum)::bigint" for name in ENERGY_SHARES)
    with psycopg.connect(telemetry_url) as connection:
        week_end_ms = (T0_MS // WEEK_MS - 2) * WEEK_MS
        assert drop_before(connection, datetime.fromtimestamp(week_end_ms / 1_000 - 1, UTC)) == 0
        assert drop_before(connection, datetime.fromtimestamp(week_end_ms / 1_000, UTC)) == 1
        assert connection.execute("SELECT count(*) FROM telemetry.reading").fetchone() == (50,)
        for name in ("window_1m", *COARSE):
            row = connection.execute(f"SELECT {sums} FROM telemetry.{name}".encode()).fetchone()
            assert row == tuple(shares), "the ledger of energy does not need the readings"


def test_nothing_is_dropped_while_a_backup_is_taken_and_nobody_waits_for_it(store: Store, telemetry_url: str) -> None:
    """A drop would wait for the dump, and every writer behind the drop."""
    keys = store.register_connectors(0, [("A", 1)])
    readings = random_readings(np.random.default_rng(1), keys, 10)
    readings["ts_ms"] = np.full(10, T0_MS - 3 * WEEK_MS)
    commit(store, flush_of(store.acquire(0), effects_of(readings)))
    now = datetime.fromtimestamp(T0_MS / 1_000, UTC)

    def weeks(table: str) -> int:
        with psycopg.connect(telemetry_url) as connection:
            row = connection.execute(f"SELECT count(DISTINCT tableoid) FROM telemetry.{table}".encode()).fetchone()
            return int(row[0]) if row else 0

    with psycopg.connect(telemetry_url) as backup:
        keep_tables(backup)
        store.maintain(T0_MS, now)
        store.drop_windows(now, {"1m": 7})
        assert (weeks("reading"), weeks("window_1m")) == (1, 1)
    store.maintain(T0_MS, now)
    store.drop_windows(now, {"1m": 7})
    assert (weeks("reading"), weeks("window_1m")) == (0, 0)


def test_maintenance_makes_next_week_and_brings_the_index_up_to_date(
    store: Store, telemetry_url: str, seed: int
) -> None:
    only_in("plain", telemetry_url)
    keys = store.register_connectors(0, [("A", 1)])
    commit(store, flush_of(store.acquire(0), effects_of(random_readings(np.random.default_rng(seed), keys, 5_000))))
    store.maintain(T0_MS)
    store.maintain(T0_MS)
    with psycopg.connect(telemetry_url) as connection:
        week = T0_MS // WEEK_MS
        names = connection.execute(
            "SELECT telemetry.week_table('reading', %s), telemetry.week_table('reading', %s)", (week, week + 1)
        ).fetchone()
        assert names is not None
        assert all(
            connection.execute("SELECT to_regclass(%s)", (f"telemetry.{n}",)).fetchone() != (None,) for n in names
        )
        left = connection.execute(
            "SELECT brin_summarize_new_values(indexrelid) FROM pg_index WHERE indrelid = %s::regclass",
            (f"telemetry.{names[0]}",),
        ).fetchone()
    assert left == (0,)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (READER_ROLE, "INSERT INTO telemetry.ledger (partition) VALUES (99)"),
        (READER_ROLE, "SELECT telemetry.drop_readings(now())"),
        (WRITER_ROLE, "DROP TABLE telemetry.reading"),
        (WRITER_ROLE, "ALTER TABLE telemetry.reading ADD COLUMN x int"),
        (WRITER_ROLE, "CREATE TABLE telemetry.mine (x int)"),
    ],
)
def test_a_role_may_do_what_its_service_needs_and_no_more(telemetry_url: str, role: str, statement: str) -> None:
    with connect_sync(telemetry_url, name="test", role=role) as connection:
        connection.execute("SELECT count(*) FROM telemetry.reading")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())
