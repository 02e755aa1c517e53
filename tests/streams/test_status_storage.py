"""Status intervals in PostgreSQL: exact through late readings and crashes, shown with the silences, and their end."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import psycopg
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.clock import from_ms
from schemas.events import Event, StationStatusChanged
from schemas.reading import SILENT, Status
from streams.effects import StatusChanged, StatusEffects
from streams.state.encoding import load_state, take_patch
from streams.state.partition import PartitionState
from streams.storage.commit import Flush, commit
from streams.storage.events import FlushContext
from streams.storage.store import Store
from streams.worker.compute import compute_effects
from tests.streams.frames_and_effects import T0_MS, effects_of, flush_of, random_readings, statuses
from tests.streams.reference import Reading
from tests.streams.test_status_laws import CUTS, intervals_of, statements
from tests.streams.test_step_laws import BASE_MS, PARAMS, blank_readings, frames_of

_INTERVALS = """
SELECT c.station_id, c.connector_id, (extract(epoch FROM i.since) * 1000)::bigint, i.place, i.status, i.error_code,
    i.vendor_error_code
FROM telemetry.status_interval AS i JOIN telemetry.connector AS c USING (connector_key) ORDER BY 1, 2, 3, 4
"""


def no_rows(store: Store) -> Any:
    """Effects without readings."""
    return effects_of(random_readings(np.random.default_rng(0), [1], 0), sources=[])


class Partition:
    """Partition 0, whose steps are committed to the database."""

    def __init__(self, store: Store) -> None:
        self.store, self.acquired = store, store.acquire(0)
        self.state = load_state(0, self.acquired.bodies)
        self._number = 0

    def flush(self, frames: list[Any]) -> None:
        effects = compute_effects(self.state, frames, BASE_MS, self.store, PARAMS)
        self._number += 1
        commit(self.store, Flush(
            partition=0, epoch=self.acquired.epoch, commit=self.acquired.commits + self._number,
            start=self.acquired.next + self._number - 1, end=self.acquired.next + self._number, effects=effects,
            body=take_patch(self.state), base=False, context=FlushContext(T0_MS, ""),
        ))  # fmt: skip


def stored(url: str) -> dict[tuple[str, int], Any]:
    """As Connector.statuses of the reference."""
    found: dict[tuple[str, int], list[Any]] = {}
    with psycopg.connect(url) as connection:
        for station, connector, *interval in connection.execute(_INTERVALS):
            found.setdefault((station, connector), []).append(tuple(interval))
    return found


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(fields=st.lists(statements, min_size=1, max_size=25), frames=CUTS, number=st.integers(0, 10**9))
def test_what_is_stored_follows_from_the_readings_whatever_comes_late(
    store: Store, telemetry_url: str, fields: list[Reading], frames: list[int], number: int
) -> None:
    """Each frame is a flush, and every third one is another worker's."""
    station = f"S{number}-{len(fields)}"
    arrived = blank_readings(one | {"station_id": station, "received_ms": BASE_MS + 720_000} for one in fields)
    with psycopg.connect(telemetry_url, autocommit=True) as connection:  # of an earlier example
        connection.execute(
            "TRUNCATE telemetry.connector, telemetry.session, telemetry.reading, telemetry.status_interval,"
            " telemetry.partition_state, telemetry.window_1m, telemetry.silence CASCADE"
        )
    partition = Partition(store)
    for at, frame in enumerate(frames_of(arrived, frames)):
        if at % 3 == 2:
            partition = Partition(store)
        partition.flush([frame])
    assert stored(telemetry_url) == {place: found for place, found in intervals_of(arrived).items() if found}


def test_a_withdrawn_interval_is_deleted_and_others_are_replaced(store: Store, telemetry_url: str) -> None:
    keys = store.register_connectors(0, [("A", 1), ("B", 1)])
    acquired = store.acquire(0)
    for number, status in ((1, Status.FAULTED), (2, Status.NONE)):
        found = statuses(keys)
        found.intervals["status"][:1] = status
        found.vendor_error_codes[1] = f"v{number}"
        effects = no_rows(store)
        effects.status = found
        commit(store, flush_of(acquired, effects, number=number))
    assert stored(telemetry_url) == {("B", 1): [(T0_MS + 1, 0, Status.FAULTED, "GroundFailure", "v2")]}


def test_changes_are_published_in_chunks_with_the_commit_as_revision(store: Store, telemetry_url: str) -> None:
    changes = [StatusChanged(f"S{n:04d}", 1, SILENT, Status.CHARGING, None, T0_MS + n) for n in range(1_001)]
    effects = no_rows(store)
    effects.status = StatusEffects(silences_begun=[("S0000", T0_MS)], changes=changes)
    flush = flush_of(store.acquire(0), effects)
    commit(store, flush)
    commit(store, flush)  # its answer was lost
    with psycopg.connect(telemetry_url) as connection:
        rows = connection.execute("SELECT body FROM telemetry.outbox ORDER BY id").fetchall()
    published = [msgspec.json.decode(body, type=Event[StationStatusChanged]).payload.changes for (body,) in rows]
    assert [len(one) for one in published] == [1_000, 1]
    assert (published[0][0].status, published[0][0].previous, published[0][0].revision) == ("Silent", "Charging", 1)


# -- intervals and silences, as they are shown -------------------------------------------------------------------------

MINUTES = st.integers(0, 30)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[int, int, str | None]], list[tuple[int, int | None]]]:
    """Intervals of one connector (since, status, code) and silences of its station (since, until), in minutes."""
    intervals: list[tuple[int, int, str | None]] = []
    for since in sorted(draw(st.lists(MINUTES, max_size=6))):
        statement = draw(st.sampled_from([(1, None), (3, None), (9, None), (9, "x")]))
        if not intervals or intervals[-1][1:] != statement:
            intervals.append((since, *statement))
    edges = sorted(draw(st.lists(MINUTES, max_size=5, unique=True)))
    pairs = [*zip(edges[::2], [*edges[1::2], None][: len(edges[::2])], strict=False)]
    return intervals, pairs


def at(minute: float | None) -> datetime | None:
    """A moment of these."""
    return None if minute is None else from_ms(T0_MS) + timedelta(minutes=minute)


def status_at(history: Any, minute: float) -> tuple[int, str | None]:
    """What is shown at a moment between two minutes."""
    intervals, silences = history
    if any(since < minute and (until is None or minute < until) for since, until in silences):
        return SILENT, None
    said = [(status, code) for since, status, code in intervals if since < minute]
    return said[-1] if said else (0, None)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(history=histories(), start=MINUTES, length=st.integers(1, 30))
def test_shown_are_the_intervals_and_over_them_the_silences(
    store: Store, telemetry_url: str, history: Any, start: int, length: int
) -> None:
    (key,) = store.register_connectors(0, [("A", 1)])
    with psycopg.connect(telemetry_url) as connection:
        connection.execute("TRUNCATE telemetry.status_interval, telemetry.silence")
        for place, (since, status, code) in enumerate(history[0]):
            connection.execute(
                "INSERT INTO telemetry.status_interval VALUES (%s, %s, %s, %s, %s, NULL, 1)",
                (key, at(since), place, status, code),
            )
        for since, until in history[1]:
            connection.execute("INSERT INTO telemetry.silence VALUES ('A', %s, %s, 2)", (at(since), at(until)))
        connection.commit()
        end = start + length
        rows = connection.execute(
            "SELECT since, until, status, error_code FROM telemetry.status_intervals(ARRAY['A'], %s, %s)"
            " ORDER BY since, place",
            (at(start), at(end)),
        ).fetchall()
        now = connection.execute("SELECT status, error_code FROM telemetry.connector_status").fetchone()
    for row, following in pairwise(rows):
        assert row[1] is not None
        assert row[1] <= following[0]
        assert row[1] < following[0] or row[2:] != following[2:], "equal neighbours are one interval"
    for minute in range(start, end):
        middle = at(minute + 0.5)
        shown = [row[2:] for row in rows if row[0] < middle and (row[1] is None or middle < row[1])]
        wanted = status_at(history, minute + 0.5)
        assert shown == ([wanted] if wanted[0] else [])
    wanted = status_at(history, 10**6)
    assert now == (wanted if wanted[0] or history[1] else None)


def test_intervals_that_ended_before_the_retention_are_dropped(store: Store, telemetry_url: str) -> None:
    keys = store.register_connectors(0, [("A", 1), ("A", 2)])
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    with psycopg.connect(telemetry_url) as connection:
        for key, days in ((keys[0], (-9, -5, -1, 2)), (keys[1], (-30,))):
            for day in days:
                connection.execute(
                    "INSERT INTO telemetry.status_interval VALUES (%s, %s, 0, 1, NULL, NULL, 1)",
                    (key, moment + timedelta(days=day)),
                )
        for since, until in ((-9, -8), (-3, 1), (-20, None)):
            ends = None if until is None else moment + timedelta(days=until)
            connection.execute(
                "INSERT INTO telemetry.silence VALUES ('A', %s, %s, 1)", (moment + timedelta(days=since), ends)
            )
    store.drop_intervals(moment)
    with psycopg.connect(telemetry_url) as connection:
        kept = connection.execute("SELECT connector_key, since FROM telemetry.status_interval ORDER BY 1, 2").fetchall()
        silences = connection.execute("SELECT since FROM telemetry.silence ORDER BY 1").fetchall()
    assert kept == [(key, moment + timedelta(days=day)) for key, day in ((keys[0], -1), (keys[0], 2), (keys[1], -30))]
    assert silences == [(moment + timedelta(days=day),) for day in (-20, -3)]


def test_a_station_that_is_silent_since_the_same_moment_again_has_one_silence(store: Store, telemetry_url: str) -> None:
    acquired = store.acquire(0)
    steps: list[dict[str, Any]] = [
        {"silences_begun": [("A", T0_MS)]}, {"silences_ended": [("A", T0_MS - 5)]}, {"silences_begun": [("A", T0_MS)]}
    ]  # fmt: skip
    found = []
    for number, step in enumerate(steps, 1):
        effects = no_rows(store)
        effects.status = StatusEffects(**step)
        commit(store, flush_of(acquired, effects, number=number))
        with psycopg.connect(telemetry_url) as connection:
            found.append(connection.execute("SELECT since, until, revision FROM telemetry.silence").fetchall())
    at = from_ms(T0_MS)
    assert found == [[(at, None, 1)], [(at, at, 2)], [(at, None, 3)]]


@pytest.mark.parametrize("state_format", ["with", "without"])
def test_a_state_from_before_there_were_statuses_is_read(state_format: str) -> None:

    state = PartitionState(0)
    state.add_connectors([("A", 1)], [1])
    state.status[0], state.status_since_ms[0] = Status.CHARGING, 7
    state.touch(np.array([0]), np.empty(0, np.int64))
    body = msgspec.msgpack.decode(zstandard.decompress(take_patch(state)))
    if state_format == "without":
        body["columns"] = {name: column for name, column in body["columns"].items() if not name.startswith("status")}
    loaded = load_state(0, [zstandard.compress(msgspec.msgpack.encode(body))])
    empty = PartitionState(0)
    wanted = (Status.CHARGING, 7) if state_format == "with" else (0, empty.status_since_ms[0])
    assert (loaded.status[0], loaded.status_since_ms[0]) == wanted
