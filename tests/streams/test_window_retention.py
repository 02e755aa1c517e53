"""Retention of windows: what minutes came to in coarser windows stays, whatever comes late."""

from typing import Any

import psycopg
import pytest

from kit.clock import from_ms
from streams.settings import WorkerSettings
from streams.storage import quarantine
from streams.storage.store import Store
from streams.storage.tables import COARSE, WEEK_MS, WINDOW, kept_of
from streams.storage.windows.retention import drop_week
from tests.streams.frames_and_effects import T0_MS
from tests.streams.lake_fleet import DAY_MS, NOW, START_MS, WEEK, feed, feed_fleet, fleet

_COLUMNS = ", ".join(field.name for field in WINDOW.fields)


def coarse(url: str) -> dict[str, list[Any]]:
    """All coarse windows, by the view and by the function for each connector."""
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        found = {}
        for name in COARSE:
            views = connection.execute(f"SELECT {_COLUMNS} FROM telemetry.{name} ORDER BY 1, 2".encode()).fetchall()
            of_each = connection.execute(
                f"SELECT w.* FROM telemetry.connector AS c, telemetry.{name}_of(c.connector_key, '2000-01-01', "
                "'2100-01-01') AS w ORDER BY 1, 2".encode()
            ).fetchall()
            assert [row[:2] for row in of_each] == [row[:2] for row in views]
            found[name] = views
        return found


def counts(url: str) -> set[tuple[int, int]]:
    """Of each width, the readings that its windows count, and of them what is in sessions."""
    with psycopg.connect(url) as connection:
        queries = [f"SELECT sum(readings), sum(in_session_mwh_sum) FROM telemetry.{name}" for name in COARSE]
        queries.append("SELECT count(*), sum(in_session_mwh) FROM telemetry.reading")
        found = [connection.execute(query.encode()).fetchone() for query in queries]
    return {(int(row[0]), int(row[1])) for row in found if row}


def hours(url: str) -> list[Any]:
    """What the contract says of each connector's hours."""
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        asked = connection.execute(
            "SELECT array_agg(station_id), array_agg(bucket) FROM (SELECT DISTINCT station_id, bucket "
            "FROM telemetry.window_1h JOIN telemetry.connector USING (connector_key) ORDER BY 1, 2) AS hour"
        ).fetchone()
        assert asked is not None
        query = "SELECT * FROM telemetry.connector_hours(%s, %s) ORDER BY 1, 2"
        return connection.execute(query, asked).fetchall()


def peaks(url: str) -> dict[Any, int | None]:
    """What the contract says of each session's highest power."""
    with psycopg.connect(url) as connection:
        ids = [one for (one,) in connection.execute("SELECT id FROM telemetry.session")]
        return dict(connection.execute("SELECT * FROM telemetry.session_peaks(%s)", (ids,)).fetchall())


def minutes(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM telemetry.window_1m WHERE bucket < %s", (NOW,)).fetchone()
    assert row is not None
    return int(row[0])


def test_coarse_windows_are_the_same_once_their_minutes_are_dropped(
    store: Store, telemetry_url: str, seed: int
) -> None:
    feed_fleet(store, seed)
    before, all_minutes, of_hours = coarse(telemetry_url), minutes(telemetry_url), hours(telemetry_url)
    of_sessions = peaks(telemetry_url)
    for _ in range(2):
        store.drop_windows(NOW, {"1m": 10})
        assert coarse(telemetry_url) == before
        assert hours(telemetry_url) == of_hours
        assert peaks(telemetry_url) == of_sessions  # a quarter has readings of one session of a connector
        assert 0 < minutes(telemetry_url) < all_minutes / 2


def test_late_readings_count_in_the_coarse_windows_of_a_week_whose_minutes_are_dropped(
    store: Store, telemetry_url: str, seed: int
) -> None:
    feed_fleet(store, seed)
    (before,) = counts(telemetry_url)
    store.drop_windows(NOW, {"1m": 10})
    late = [one | {"ts_ms": one["ts_ms"] + 7, "seq": None, "boot": None} for one in fleet(seed)[0][:40]]
    now_ms = START_MS + 30 * DAY_MS
    feed(store, 0, late, now_ms, "late")
    for _ in range(3):
        feed(store, 0, [], now_ms + 3_600_000, "late")
    ((readings, in_sessions),) = counts(telemetry_url)
    assert readings == before[0] + len(late)
    store.drop_windows(NOW, {"1m": 10})
    assert counts(telemetry_url) == {(readings, in_sessions)}


def test_a_week_of_which_nothing_goes_is_noted_and_not_stored_anew(store: Store, telemetry_url: str, seed: int) -> None:
    feed_fleet(store, seed)
    tables = "SELECT tableoid FROM telemetry.window_1m GROUP BY 1 ORDER BY 1"
    with psycopg.connect(telemetry_url) as connection:
        before = connection.execute(tables).fetchall()
        drop_week(connection, WEEK, 0)
        assert connection.execute(tables).fetchall() == before
        since = connection.execute("SELECT since_ms FROM telemetry.window_retained WHERE width = '1m'").fetchone()
        assert since == (START_MS + WEEK_MS,)


def test_what_is_kept_of_dropped_minutes_is_found_by_time(telemetry_url: str) -> None:
    """The views of all connectors and the retention ask for some days of many years."""
    with psycopg.connect(telemetry_url) as connection:
        found = connection.execute(
            "SELECT tablename FROM pg_indexes WHERE indexdef LIKE '% USING brin (bucket)' AND schemaname = 'telemetry'"
        ).fetchall()
    assert {f"telemetry.{name}" for (name,) in found} >= {kept_of(name) for name in COARSE}


def test_each_width_ends_after_its_own_time_and_a_coarser_one_no_earlier(
    store: Store, telemetry_url: str, seed: int
) -> None:
    feed_fleet(store, seed)
    store.drop_windows(NOW, {"1m": 10, "15m": 20})
    with psycopg.connect(telemetry_url) as connection:
        days = {
            name: connection.execute(f"SELECT min(bucket) FROM telemetry.{name}".encode()).fetchone() for name in COARSE
        }
    first = {name: row[0] for name, row in days.items() if row}
    assert first["window_1h"] <= first["window_1d"].replace(hour=23, minute=59)
    assert first["window_15m"] > first["window_1h"]
    assert (NOW - first["window_15m"]).days <= 20


@pytest.mark.parametrize(
    ("given", "ending"),
    [
        ({}, {}),
        ({"1h": 5}, {}),  # its minutes stay, and with them all coarser ones
        ({"1m": 30, "15m": 10, "1h": 400}, {"1m": 30, "15m": 30, "1h": 400}),
        ({"1m": 1, "15m": 2, "1h": 3, "1d": 4, "raw": 4}, {"1m": 1, "15m": 2, "1h": 3, "1d": 4}),
        # Raw readings are found by them.
        ({"1m": 1, "15m": 2, "1h": 3, "1d": 4, "raw": 9}, {"1m": 1, "15m": 2, "1h": 3, "1d": 9}),
        ({"1m": 1, "15m": 2, "1h": 3, "1d": 4}, {"1m": 1, "15m": 2, "1h": 3}),
    ],
)
def test_a_coarser_window_is_kept_at_least_as_long_as_a_finer_one(given: dict[str, int], ending: Any) -> None:
    names = {width: f"window_{width}_retention_days" for width in ("1m", "15m", "1h", "1d")} | {
        "raw": "raw_retention_days"
    }
    settings = WorkerSettings.model_validate({names[width]: days for width, days in given.items()})
    assert settings.window_retention_days == ending


def test_refused_items_end_and_frames_that_nobody_has_looked_into_do_not(store: Store, telemetry_url: str) -> None:
    with psycopg.connect(telemetry_url) as connection:
        for reason, days in (("absurd", 400), ("absurd", 1), ("unreadable_frame", 400)):
            connection.execute(
                "INSERT INTO telemetry.quarantine (partition, received_at, reason, detail, raw) "
                "VALUES (0, to_timestamp(%s), %s, '', '')",
                (T0_MS / 1_000 - days * 86_400, reason),
            )
        connection.commit()
        row = connection.execute("SELECT to_timestamp(%s)", (T0_MS / 1_000 - 365 * 86_400,)).fetchone()
        assert row is not None
        assert store.drop_quarantined(row[0], ("unreadable_frame",)) == 1
        left = connection.execute("SELECT reason FROM telemetry.quarantine ORDER BY 1").fetchall()
        assert left == [("absurd",), ("unreadable_frame",)]
        connection.execute("UPDATE telemetry.quarantine SET replayed_at = now() WHERE reason = 'unreadable_frame'")
        connection.commit()
        assert store.drop_quarantined(row[0], ("unreadable_frame",)) == 1, "it was replayed: nobody waits for it"


def test_retention_goes_by_steps_to_its_end_and_past_what_a_replay_has(
    store: Store, telemetry_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "STEP_ROWS_MAX", 3)
    with psycopg.connect(telemetry_url) as connection:
        connection.execute(
            "INSERT INTO telemetry.quarantine (partition, received_at, reason, detail, raw) "
            "SELECT 0, to_timestamp(0), 'absurd', '', '' FROM generate_series(1, 10)"
        )
        connection.commit()
        connection.execute("SELECT FROM telemetry.quarantine ORDER BY id LIMIT 2 FOR UPDATE")
        assert store.drop_quarantined(from_ms(T0_MS), ()) == 8
        connection.rollback()
        assert store.drop_quarantined(from_ms(T0_MS), ()) == 2
        monkeypatch.setattr(quarantine, "STEPS_MAX", 0)
        assert store.drop_quarantined(from_ms(T0_MS), ()) == 0
