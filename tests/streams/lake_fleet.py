"""A small fleet whose readings are stored by the real step and commit, and what database and lake have of them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow.parquet as pq

from kit.clock import from_ms
from kit.lake.folder import LakeFolder
from schemas.reading import SessionEvent, Status
from streams.effects import StepParams
from streams.state.encoding import load_state, snapshot
from streams.storage.commit import Flush, commit
from streams.storage.connections import Connections, open_writer
from streams.storage.events import FlushContext
from streams.storage.lake_move import LakeMover, Move, Progress
from streams.storage.lake_rows import WINDOWS
from streams.storage.store import Store
from streams.storage.tables import WEEK_MS
from streams.worker.compute import compute_effects
from tests.streams.reference import Reading
from tests.streams.test_step_laws import blank_readings, frames_of
from voltstream.runtime.database import bring_up_to_date

MINUTE_MS, DAY_MS = 60_000, 86_400_000
WEEK = 2_900  # the first that has readings
START_MS = WEEK * WEEK_MS
AFTER_DAYS = 7
# Two weeks are due then, and the third, in which the fleet still charges, is not.
NOW = from_ms(START_MS + 2 * WEEK_MS + 10 * DAY_MS)
BORDER_MS = START_MS + 2 * WEEK_MS + DAY_MS
NAMES = (
    "connector_key", "session_key", "ts", "boot", "seq", "energy_mwh", "power_mw", "voltage_mv", "current_ma",
    "temperature_mc", "soc_mpct", "status", "session_event", "flags", "payload_hash", "part", "named",
    "in_session_mwh", "outside_mwh", "rejected_mwh", "energy_export_mwh", "extra",
)  # fmt: skip


def charging_days(station: str, connector: int, days: int, rng: random.Random, *, sequences: bool) -> list[Reading]:
    """A session each day or so, idle readings between, some with what has no column."""
    fields: list[Reading] = []
    energy_mwh, seq = rng.randrange(10**9), 0
    for day in range(days):
        at_ms = START_MS + day * DAY_MS + rng.randrange(20 * 60) * MINUTE_MS
        name = f"{station}-{connector}-{day}"
        for number in range(rng.randrange(3, 12)):
            energy_mwh += rng.randrange(200_000)
            last = number > 2 and rng.random() < 0.2
            fields.append(
                {
                    "station_id": station,
                    "connector_id": connector,
                    "ts_ms": at_ms + number * 20_000 + rng.randrange(900),
                    "seq": seq if sequences else None,
                    "boot": 1 if sequences and day % 2 else None,
                    "session_id": name,
                    "session_event": SessionEvent.ENDED if last else SessionEvent.STARTED if number == 0 else 0,
                    "energy_mwh": energy_mwh,
                    "power_mw": rng.randrange(22_000_000),
                    "soc_mpct": rng.choice([None, rng.randrange(100_000)]),
                    "status": Status.CHARGING,
                    "extra": '{"vendor":"ü"}' if rng.random() < 0.1 else None,
                }
            )
            seq += 1
            if last:
                break
    return blank_readings(fields)


def fleet(seed: int, days: int = 17) -> dict[int, list[Reading]]:
    """By partition. One connector has had a single session, and one is a main meter."""
    rng = random.Random(seed)
    idle = [one for one in charging_days("P1-B", 1, days, rng, sequences=True) if one["session_id"] == "P1-B-1-3"]
    meter = [one | {"session_id": None, "session_event": 0} for one in charging_days("P1-B", 0, 5, rng, sequences=True)]
    return {
        0: charging_days("P0-A", 1, days, rng, sequences=True) + charging_days("P0-A", 2, days, rng, sequences=False),
        1: charging_days("P1-A", 1, days, rng, sequences=True) + idle + meter,
    }


def feed(store: Store, partition: int, arrived: list[Reading], now_ms: int, source: str) -> None:
    """One step and its commit."""
    acquired = store.acquire(partition)
    state = load_state(partition, acquired.bodies)
    rows = [one | {"received_ms": now_ms} for one in arrived]
    frames = [
        (msgspec.structs.replace(header, partition=partition, source=source), batch)
        for header, batch in (frames_of(rows, []) if rows else [])
    ]
    params = replace(StepParams(), oldest_ms=acquired.border_ms)
    effects = compute_effects(state, frames, now_ms, store, params)
    commit(
        store,
        Flush(
            partition, acquired.epoch, acquired.commits + 1, acquired.next, acquired.next + len(frames), effects,
            snapshot(state), base=True, context=FlushContext(now_ms, ""), border_ms=acquired.border_ms,
        ),
    )  # fmt: skip


def feed_fleet(store: Store, seed: int) -> None:
    """All of the fleet, and the step that closes what was open by the clock."""
    for number, readings in fleet(seed).items():
        at_ms = max(one["ts_ms"] for one in readings)
        feed(store, number, readings, at_ms, "first")
        for _ in range(3):
            feed(store, number, [], at_ms + 3 * 3_600_000, "first")


def fill(database_url: str, seed: int) -> None:
    """Make all tables, and store the fleet's readings."""
    bring_up_to_date(database_url, 2)
    connections = Connections(partial(open_writer, database_url), 2)
    try:
        feed_fleet(Store(connections), seed)
    finally:
        connections.close()


def move(url: str, folder: Path, progress: Progress | None = None, *, window_days: int = 0) -> list[Move]:
    """Move what is due at NOW."""
    with moving(url, folder, progress) as mover:
        return mover.move(NOW, AFTER_DAYS, window_days=window_days)


@contextmanager
def moving(url: str, folder: Path, progress: Progress | None = None) -> Iterator[LakeMover]:
    """A mover."""
    connections = Connections(partial(open_writer, url), 1)
    try:
        yield LakeMover(connections, LakeFolder.at(str(folder)), progress or (lambda _, __: None))
    finally:
        connections.close()


def stored(url: str) -> list[tuple[Any, ...]]:
    """The readings in the database."""
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        rows = connection.execute(f"SELECT {', '.join(NAMES)} FROM telemetry.reading".encode()).fetchall()
    return sorted(rows, key=repr)


def moved(url: str, folder: Path) -> list[tuple[Any, ...]]:
    """The readings in the lake."""
    with psycopg.connect(url) as connection:
        paths = connection.execute("SELECT path, rows FROM telemetry.lake_file WHERE kind = 'reading'").fetchall()
    rows: list[tuple[Any, ...]] = []
    for path, count in paths:
        table = pq.read_table(folder / path, partitioning=None)
        assert table.num_rows == count
        columns = {name: table.column(name).to_pylist() for name in NAMES if name != "ts"}
        columns["ts"] = [from_ms(ms) for ms in table.column("ts").cast("int64").to_pylist()]
        rows += zip(*(columns[name] for name in NAMES), strict=True)
    return rows


def all_windows(url: str, folder: Path) -> list[str]:
    """All windows of a minute, in the database and in the lake."""
    names = [column.name for column in WINDOWS.columns]
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        rows = connection.execute(f"SELECT {', '.join(names)} FROM telemetry.window_1m".encode()).fetchall()
        paths = connection.execute("SELECT path FROM telemetry.lake_file WHERE kind = 'window_1m'").fetchall()
    for (path,) in paths:
        found = pq.read_table(folder / path, partitioning=None)
        columns = [
            [None if value is None else value.astimezone(UTC) for value in found.column(column.name).to_pylist()]
            if column.type == "timestamptz"
            else found.column(column.name).to_pylist()
            for column in WINDOWS.columns
        ]
        rows += zip(*columns, strict=True)
    return sorted(repr([value.isoformat() if isinstance(value, datetime) else value for value in row]) for row in rows)


def everything(url: str, folder: Path) -> list[str]:
    """All readings, wherever they are."""
    return sorted(map(repr, [*stored(url), *moved(url, folder)]))


def tables(url: str, *queries: str) -> Iterator[list[str]]:
    """The rows of these queries, in no order."""
    with psycopg.connect(url) as connection:
        for query in queries:
            yield sorted(map(repr, connection.execute(query.encode()).fetchall()))
