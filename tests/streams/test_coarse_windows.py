"""Coarse windows are of all readings that were taken, whatever is done with their minutes, in any order."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kit.clock import from_ms
from streams.storage.connections import Connections, open_writer
from streams.storage.store import Store
from streams.storage.tables import COARSE, WEEK_MS, WINDOW
from tests.streams.lake_fleet import DAY_MS, MINUTE_MS, NOW, START_MS, feed, feed_fleet, fleet, move
from tests.streams.test_window_retention import coarse
from tests.streams.timescale import compress, only_in, refresh

# The registers of a minute are found again from its readings, which a minute that is gone can have no more.
_ADDED_UP = [place for place, field in enumerate(WINDOW.fields) if not field.name.startswith("energy_")]
_DAYS = (17, 10)  # of the first week, and of both that are over


def dropped_before(url: str) -> Any:
    """Since when there are all minutes."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT since_ms FROM telemetry.window_retained WHERE width = '1m'").fetchone()
    assert row is not None
    return from_ms(row[0])


def late_readings(rng: random.Random, number: int) -> list[Any]:
    """Some from between those that are stored, of any time; no moment twice."""
    found = rng.sample(fleet(rng.randrange(1_000))[0], 12)
    return [one | {"ts_ms": one["ts_ms"] // MINUTE_MS * MINUTE_MS + 1 + number, "seq": None} for one in found]


def of_minutes(rows: dict[str, list[Any]], before: Any = None) -> dict[str, list[Any]]:
    """What adds up of these windows, of those that begin before a moment."""
    return {
        name: [[row[place] for place in _ADDED_UP] for row in found if before is None or row[1] < before]
        for name, found in rows.items()
    }


@pytest.mark.parametrize("order", range(3))
def test_coarse_windows_are_of_all_readings_whatever_is_done_in_any_order(
    order: int, prepared: Callable[[], AbstractContextManager[str]], tmp_path: Path, seed: int
) -> None:
    """Beside a database in which nothing is dropped, moved, refreshed or compressed."""
    rng = random.Random(f"{seed} {order}")
    with (
        prepared() as url,
        prepared() as whole,
        closing(Connections(partial(open_writer, url), 2)) as connections,
        closing(Connections(partial(open_writer, whole), 2)) as of_whole,
    ):
        stores = [Store(connections), Store(of_whole)]
        for store in stores:
            feed_fleet(store, seed)
        steps = ["refresh", "compress", "refresh", "compress", "late", "late", "late"]
        rng.shuffle(steps)
        for days in _DAYS:  # in their order, and one of them may be a move
            steps.insert(rng.randrange(len(steps)), f"drop {days}")
        steps.insert(rng.randrange(len(steps)), "move")
        fresh = True
        for number, step in enumerate([*steps, "refresh", "drop 10"]):
            before = coarse(url)
            if step == "late":
                late, now_ms = late_readings(rng, number), START_MS + 30 * DAY_MS + number * MINUTE_MS
                for store in stores:
                    feed(store, 0, late, now_ms, f"late {number}")
                    feed(store, 0, [], now_ms + 3_600_000, f"late {number}")
                fresh = False
            elif step == "refresh":
                refresh(url)
            elif step == "compress":
                compress(url)
            elif step == "move":
                move(url, tmp_path, window_days=10)
                same_border(url, whole)
            else:
                stores[0].drop_windows(NOW, {"1m": int(step.split()[1])})
            after, wanted = coarse(url), coarse(whole)
            if fresh:
                assert after == before, step
            fresh = fresh or step == "refresh"
            of_dropped = None if fresh else dropped_before(url)
            assert of_minutes(after, of_dropped) == of_minutes(wanted, of_dropped), (steps, step)
        assert dropped_before(url) == from_ms(START_MS + 2 * WEEK_MS)


def same_border(url: str, whole: str) -> None:
    """What one database refuses the other refuses, too."""
    with psycopg.connect(url) as moved, psycopg.connect(whole) as other:
        row = moved.execute("SELECT max(border_ms) FROM telemetry.stream_offset").fetchone()
        other.execute("UPDATE telemetry.stream_offset SET border_ms = %s", row)


def test_what_an_aggregate_loses_of_dropped_minutes_is_not_read(store: Store, telemetry_url: str, seed: int) -> None:
    only_in("community", telemetry_url)
    feed_fleet(store, seed)
    refresh(telemetry_url)
    before, stored = coarse(telemetry_url), aggregated(telemetry_url)
    store.drop_windows(NOW, {"1m": 10})
    refresh(telemetry_url)
    assert coarse(telemetry_url) == before
    after = aggregated(telemetry_url)
    assert all(after[name] < stored[name] / 2 for name in COARSE)  # the space of what is kept elsewhere is free, too


def aggregated(url: str) -> dict[str, int]:
    """How many windows the continuous aggregates have."""
    with psycopg.connect(url) as connection:
        return {
            name: connection.execute(f"SELECT count(*) FROM telemetry.{name}_materialised".encode()).fetchone()[0]  # type: ignore[index]
            for name in COARSE
        }
