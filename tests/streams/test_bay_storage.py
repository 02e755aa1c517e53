"""Bays in PostgreSQL: their intervals are exact through late events, doubled ones and crashes; and their end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.clock import from_ms
from schemas.events import BayOccupancyChanged, Event
from streams.storage.store import Store
from tests.streams.test_bay_laws import CUTS, RECEIVED_MS, event, events, intervals_of, metered
from tests.streams.test_status_storage import Partition
from tests.streams.test_step_laws import BASE_MS, blank_readings, frames_of

_INTERVALS = (
    "SELECT bay, (extract(epoch FROM since) * 1000)::bigint, occupied FROM telemetry.bay_interval ORDER BY 1, 2"
)


def stored(url: str) -> dict[str, list[tuple[int, bool]]]:
    found: dict[str, list[tuple[int, bool]]] = {}
    with psycopg.connect(url) as connection:
        for bay, since_ms, occupied in connection.execute(_INTERVALS):
            found.setdefault(bay, []).append((since_ms, occupied))
    return found


def published(url: str) -> list[list[Any]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT body FROM telemetry.outbox WHERE routing_key = 'bay.occupancy_changed' ORDER BY id"
        ).fetchall()
    return [msgspec.json.decode(body, type=Event[BayOccupancyChanged]).payload.changes for (body,) in rows]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), fields=st.lists(st.one_of(events, events, metered), min_size=1, max_size=15), frames=CUTS)
def test_what_is_stored_follows_from_the_events_whatever_comes_late_and_twice(
    store: Store, telemetry_url: str, data: st.DataObject, fields: list[Any], frames: list[int]
) -> None:
    """Each frame is a flush, and every third one is another worker's."""
    with psycopg.connect(telemetry_url, autocommit=True) as connection:  # of an earlier example
        connection.execute(
            "TRUNCATE telemetry.connector, telemetry.session, telemetry.reading, telemetry.status_interval,"
            " telemetry.bay_interval, telemetry.partition_state, telemetry.window_1m, telemetry.outbox CASCADE"
        )
    arrived = blank_readings(data.draw(st.permutations([*fields, *map(dict, fields)])))
    partition = Partition(store)
    for at, frame in enumerate(frames_of(arrived, frames)):
        if at % 3 == 2:
            partition = Partition(store)
        partition.flush([frame])
    found = stored(telemetry_url)
    assert found == intervals_of(arrived)
    newest = {one.bay: (one.since, one.occupied) for chunk in published(telemetry_url) for one in chunk}
    assert {bay: occupied for bay, (_, occupied) in newest.items()} == {bay: all_[-1][1] for bay, all_ in found.items()}


def test_a_late_event_asks_for_those_until_the_next_interval_and_for_no_later_ones(store: Store) -> None:
    def at(minute: int, bay: str = "B1") -> Any:
        return event(bay, occupied=minute % 10 == 0, ts_ms=BASE_MS + minute * 60_000) | {"received_ms": RECEIVED_MS}

    partition = Partition(store)
    partition.flush(frames_of(blank_readings([*map(at, (0, 1, 10, 15, 20, 21)), at(0, "B2"), at(16, "B2")]), []))
    (key,) = store.register_connectors(0, [("A", 0)])

    def asked(first: int, last: int, bay: str = "B1") -> list[int]:
        found = store.bays([(key, bay, BASE_MS + first * 60_000, BASE_MS + last * 60_000)])
        return sorted((ts_ms - BASE_MS) // 60_000 for _, ts_ms, _ in found.readings)

    assert asked(1, 9) == [1, 10]
    assert asked(1, 9, "B2") == [1, 10, 15, 16]
    assert asked(11, 17) == [15, 16, 20]
    assert asked(21, 22) == [21]


def test_intervals_are_shown_and_dropped_once_they_are_too_old(store: Store, telemetry_url: str) -> None:
    minutes = ((0, True), (10, False), (25, True))
    arrived = blank_readings(event("B1", occupied=said, ts_ms=BASE_MS + at * 60_000) for at, said in minutes)
    arrived += blank_readings([event("B2", occupied=False, ts_ms=BASE_MS)])
    Partition(store).flush(frames_of([one | {"received_ms": RECEIVED_MS} for one in arrived], []))
    start = from_ms(BASE_MS)

    def shown(since: int, until: int) -> list[tuple[Any, ...]]:
        with psycopg.connect(telemetry_url) as connection:
            rows = connection.execute(
                "SELECT station_id, bay, since, until, occupied FROM telemetry.bay_intervals(ARRAY['A'], %s, %s)"
                " ORDER BY bay, since",
                (start + timedelta(minutes=since), start + timedelta(minutes=until)),
            ).fetchall()
        assert all(row[0] == "A" for row in rows)
        return [
            (bay, (begins - start) // timedelta(minutes=1), ends and (ends - start) // timedelta(minutes=1), occupied)
            for _, bay, begins, ends, occupied in rows
        ]

    assert shown(5, 20) == [("B1", 0, 10, True), ("B1", 10, None, False), ("B2", 0, None, False)]
    assert shown(10, 30) == [("B1", 10, 25, False), ("B1", 25, None, True), ("B2", 0, None, False)]
    ((changes,),) = [published(telemetry_url)]
    assert [(one.bay, one.occupied, one.revision) for one in changes] == [("B1", True, 1), ("B2", False, 1)]
    store.drop_intervals(start + timedelta(minutes=12))
    assert [since for since, _ in stored(telemetry_url)["B1"]] == [BASE_MS + 600_000, BASE_MS + 1_500_000]
    store.drop_intervals(datetime(2100, 1, 1, tzinfo=UTC))
    assert stored(telemetry_url) == {"B1": [(BASE_MS + 1_500_000, True)], "B2": [(BASE_MS, False)]}
