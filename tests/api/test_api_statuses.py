"""Status intervals and unclaimed stations over HTTP."""

import asyncio
import random
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import psycopg
import pytest

from api.telemetry.models import Released, StatusIntervalPage, UnclaimedPage, Uptime
from api.telemetry.release import RELEASED_MAX
from api.telemetry.store import StationCursor
from kit.web.paging import encode_cursor, to_micros
from streams.storage.connections import Connections, open_writer
from streams.storage.store import Store
from tests.api.conftest import NOW, Api
from tests.api.rows import add_connector, add_readings, random_readings

PATH = "/api/v1/telemetry/ST-1/status-intervals"
UNCLAIMED = "/api/v1/telemetry/unclaimed"


def add_interval(url: str, key: int, hours: float, status: int, code: str | None = None, place: int = 0) -> None:
    """An interval that begins so many hours before NOW."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO telemetry.status_interval VALUES (%s, %s, %s, %s, %s, NULL, 1)",
            (key, NOW - timedelta(hours=hours), place, status, code),
        )


def add_silence(url: str, station_id: str, hours: float, until_hours: float | None) -> None:
    with psycopg.connect(url) as connection:
        until = None if until_hours is None else NOW - timedelta(hours=until_hours)
        since = NOW - timedelta(hours=hours)
        connection.execute("INSERT INTO telemetry.silence VALUES (%s, %s, %s, 1)", (station_id, since, until))


def hours_ago(moment: str | None) -> float | None:
    return None if moment is None else (NOW - datetime.fromisoformat(moment)) / timedelta(hours=1)


def shown(page: dict[str, Any]) -> list[Any]:
    StatusIntervalPage.model_validate(page)
    return [
        (one["connector_id"], hours_ago(one["since"]), hours_ago(one["until"]), one["status"], one["error_code"])
        for one in page["intervals"]
    ]


@pytest.fixture
def keys(api: Api) -> list[int]:
    """Two connectors: one was faulted, the station was silent twice and is so now."""
    url = api.database_url
    keys = [add_connector(url, "ST-1", number) for number in (1, 2)]
    for hours, status, code, place in (
        (100, 1, None, 0),
        (50, 3, None, 0),
        (50, 9, "GroundFailure", 1),
        (20, 1, None, 0),
    ):
        add_interval(url, keys[0], hours, status, code, place)
    add_interval(url, keys[1], 10, 3)
    add_silence(url, "ST-1", 40, 30)
    add_silence(url, "ST-1", 5, None)
    return keys


ALL = [
    (2, 5, None, "Silent", None), (1, 5, None, "Silent", None), (2, 10, 5, "Charging", None),
    (1, 20, 5, "Available", None), (1, 30, 20, "Faulted", "GroundFailure"), (2, 40, 30, "Silent", None),
    (1, 40, 30, "Silent", None), (1, 50, 40, "Faulted", "GroundFailure"), (1, 50, 50, "Charging", None),
    (1, 100, 50, "Available", None),
]  # fmt: skip


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_have_every_interval_once_newest_first(api: Api, keys: list[int], limit: int) -> None:
    found, following = [], f"{PATH}?limit={limit}"
    while following:
        page = (await api.get(following)).json()
        assert len(page["intervals"]) <= limit
        found += shown(page)
        following = page["next"]
    assert found == ALL


async def test_a_time_has_what_is_not_over_at_its_start(api: Api, keys: list[int]) -> None:
    start, end = (NOW - timedelta(hours=hours) for hours in (45, 25))
    answer = (await api.get(PATH, start=start.isoformat(), end=end.isoformat(), connector_id=1)).json()
    assert shown(answer) == [
        (1, 30, None, "Faulted", "GroundFailure"), (1, 40, 30, "Silent", None), (1, 50, 40, "Faulted", "GroundFailure")
    ]  # fmt: skip
    assert (answer["from"], answer["to"]) == ("2026-03-27T12:00:00Z", "2026-03-28T08:00:00Z")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("from=2026-03-29T09:00:00Z&to=2026-03-29T09:00:00Z", 422),
        ("from=2020-03-29T09:00:00Z", 422),
        ("cursor=nonsense", 422),
        ("connector_id=7", 404),
        ("limit=0", 422),
    ],
)
async def test_a_bad_question_is_answered_with_what_to_ask(api: Api, keys: list[int], query: str, status: int) -> None:
    assert (await api.client.get(f"{PATH}?{query}")).status_code == status


UPTIME = "/api/v1/telemetry/ST-1/uptime"
_HOUR_MS = 3_600_000


async def test_uptime_is_the_time_of_each_status(api: Api, keys: list[int]) -> None:
    answer = (await api.get(UPTIME, start=(NOW - timedelta(hours=100)).isoformat())).json()
    Uptime.model_validate(answer)
    assert [(one["connector_id"], one["time_ms"]) for one in answer["connectors"]] == [
        (1, {name: hours * _HOUR_MS for name, hours in (("Silent", 15), ("Available", 65), ("Faulted", 20))}),
        (2, {"Silent": 15 * _HOUR_MS, "Charging": 5 * _HOUR_MS}),
    ]
    first, second = answer["connectors"]
    assert (first["up_ms"], first["down_ms"], first["unknown_ms"]) == (65 * _HOUR_MS, 35 * _HOUR_MS, 0)
    assert (second["up_ms"], second["down_ms"], second["unknown_ms"]) == (5 * _HOUR_MS, 15 * _HOUR_MS, 80 * _HOUR_MS)
    assert (first["uptime_pct"], second["uptime_pct"]) == ("65.0000", "25.0000")


@pytest.mark.parametrize("hours", [(120, 0), (100, 50), (55, 33), (45, 25), (12, -5), (1_000, 900)])
async def test_uptime_of_any_time_is_the_sum_of_its_intervals(
    api: Api, keys: list[int], hours: tuple[float, float]
) -> None:
    start, end = (NOW - timedelta(hours=some) for some in hours)
    span: dict[str, Any] = {"start": start.isoformat(), "end": end.isoformat()}
    until = min(end, NOW)
    sums: dict[tuple[int, str], float] = {}
    for one in (await api.get(PATH, **span)).json()["intervals"]:
        begins = max(datetime.fromisoformat(one["since"]), start)
        ends = until if one["until"] is None else min(datetime.fromisoformat(one["until"]), until)
        key = one["connector_id"], one["status"]
        sums[key] = sums.get(key, 0) + max(ends - begins, timedelta(0)) / timedelta(milliseconds=1)
    connectors = (await api.get(UPTIME, **span)).json()["connectors"]
    found = {(one["connector_id"], name): ms for one in connectors for name, ms in one["time_ms"].items()}
    assert found == {key: ms for key, ms in sums.items() if ms}
    for one in connectors:
        assert one["up_ms"] + one["down_ms"] + one["unknown_ms"] == (until - start) / timedelta(milliseconds=1)
        assert one["up_ms"] + one["down_ms"] == sum(one["time_ms"].values())


@pytest.mark.parametrize("query", ["from=2026-03-29T09:00:00Z&to=2026-03-29T09:00:00Z", "from=2020-03-29T09:00:00Z"])
async def test_uptime_of_no_time_or_of_years_is_refused(api: Api, keys: list[int], query: str) -> None:
    assert (await api.client.get(f"{UPTIME}?{query}")).status_code == 422


@pytest.mark.parametrize("place", [-(2**31), 2**31 - 1, 2**31, 2**63 - 1])
async def test_a_cursor_whose_place_no_interval_has_is_refused(api: Api, keys: list[int], place: int) -> None:
    cursor = msgspec.msgpack.encode(["s", to_micros(NOW), 1, place])
    text = urlsafe_b64encode(cursor).decode().rstrip("=")
    answer = await api.get(PATH, 200 if place < 2**31 else 422, cursor=text)
    assert place < 2**31 or "cursor is not one of this query" in answer.json()["detail"]


async def test_an_unclaimed_page_with_a_cursor_of_nul_is_refused(api: Api) -> None:
    answer = await api.get(UNCLAIMED, 422, cursor=encode_cursor(StationCursor("A\0")))
    assert "cursor is not one of this query" in answer.json()["detail"]


async def test_an_unknown_station_is_not_found(api: Api) -> None:
    await api.get(PATH, 404)


# -- unclaimed ---------------------------------------------------------------------------------------------------------


async def test_unclaimed_are_the_stations_that_speak_and_are_not_registered(api: Api, seed: int) -> None:
    rng, start = random.Random(seed), NOW - timedelta(days=2)
    url = api.database_url
    old = random_readings(rng, add_connector(url, "NEW-1", 1), start, 40)
    recent = random_readings(rng, add_connector(url, "NEW-1", 2), NOW - timedelta(hours=3), 30)
    known = random_readings(rng, add_connector(url, "KNOWN", 1), start, 20)
    add_readings(url, [*old, *recent, *known])
    add_connector(url, "NEW-2", 1)
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO stations.station (station_id, changed_at) VALUES ('KNOWN', now())")
        for hours, reason in ((3, "unclaimed"), (2, "unclaimed"), (1, "conflict")):
            connection.execute(
                "INSERT INTO telemetry.quarantine (partition, received_at, station_id, reason, detail, raw)"
                " VALUES (0, %s, 'NEW-2', %s, '', '')",
                (NOW - timedelta(hours=hours), reason),
            )
    expected = [
        ("NEW-1", [1, 2], min(one.ts for one in old), max(one.ts for one in [*old, *recent]),
         sum(one.ts >= NOW - timedelta(days=1) for one in [*old, *recent]), None),
        ("NEW-2", [1], None, None, 0, NOW - timedelta(hours=2)),
    ]  # fmt: skip
    for limit in (1, 10):
        found, following = [], f"{UNCLAIMED}?limit={limit}"
        while following:
            page = UnclaimedPage.model_validate((await api.get(following)).json())
            found += [
                (
                    one.station_id,
                    one.connectors,
                    one.first_reading_at,
                    one.last_reading_at,
                    one.readings_last_day,
                    one.last_quarantined_at,
                )
                for one in page.stations
            ]
            following = page.next or ""
        assert found == expected


def add_unclaimed(url: str, station_id: str, count: int, reason: str = "unclaimed") -> list[dict[str, Any]]:
    """Readings in quarantine, oldest first."""
    readings = [{"station_id": station_id, "connector_id": 1, "seq": n, "ts": 1_000 * n} for n in range(count)]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO telemetry.quarantine (partition, received_at, station_id, reason, detail, raw)"
            " VALUES (0, now(), %s, %s, '', %s)",
            [(station_id, reason, msgspec.json.encode(one)) for one in readings],
        )
    return readings


def register(url: str, station_id: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO stations.station (station_id, changed_at) VALUES (%s, now())", (station_id,))


def published(url: str) -> list[dict[str, Any]]:
    """The readings of all events in the outbox, in order."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT exchange, routing_key, body FROM telemetry.outbox ORDER BY id").fetchall()
    assert {row[:2] for row in rows} <= {("direct_events", "telemetry.generated")}
    return [reading for *_, body in rows for reading in msgspec.json.decode(body)["payload"]["readings"]]


async def test_readings_of_a_station_are_released_once_it_is_registered_and_once_only(api: Api) -> None:
    url, path = api.database_url, f"{UNCLAIMED}/NEW-1/release"
    assert (await api.client.post(path)).status_code == 404
    readings = add_unclaimed(url, "NEW-1", 250)
    add_unclaimed(url, "NEW-1", 3, "conflict")
    add_unclaimed(url, "NEW-2", 3)
    refused = await api.client.post(path)
    assert refused.status_code == 409
    assert "register it first" in refused.json()["detail"]
    register(url, "NEW-1")
    answers = await asyncio.gather(*(api.client.post(path) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {202}
    released = [Released.model_validate(answer.json()) for answer in answers]
    assert sum(one.released for one in released) == 250
    found = published(url)
    assert sorted(found, key=lambda one: one["seq"]) == readings
    assert (await api.client.post(path)).json() == {"station_id": "NEW-1", "released": 0, "left": 0}
    items = (await api.get("/api/v1/telemetry/quarantine", station_id="NEW-1", limit=500)).json()["items"]
    assert {(one["reason"], one["replayed_at"] is not None) for one in items} == {
        ("unclaimed", True), ("conflict", False)
    }  # fmt: skip


async def test_more_than_one_request_releases_is_left_for_the_next(api: Api) -> None:
    readings = add_unclaimed(api.database_url, "NEW-1", RELEASED_MAX + 70)
    register(api.database_url, "NEW-1")
    answers = [(await api.client.post(f"{UNCLAIMED}/new-1/release")).json() for _ in range(2)]
    assert [(one["released"], one["left"]) for one in answers] == [(RELEASED_MAX, 70), (70, 0)]
    assert published(api.database_url) == readings


async def test_the_worker_sees_which_stations_are_registered(telemetry_url: str) -> None:
    with psycopg.connect(telemetry_url) as connection:
        connection.execute("INSERT INTO stations.station (station_id, changed_at) VALUES ('KNOWN', now())")
        connection.execute("UPDATE stations.station SET details = '{\"silent_after_s\": 60}'")
    connections = Connections(partial(open_writer, telemetry_url), 1)
    try:
        assert Store(connections, registered=True).silences_after() == {"KNOWN": 60_000}
        assert Store(connections).silences_after() == {}, "without a registry"
        assert Store(connections, registered=True).registered(["KNOWN", "NEW"]) == {"KNOWN"}
        assert Store(connections).registered(["KNOWN", "NEW"]) == {"KNOWN", "NEW"}, "without a registry"
    finally:
        connections.close()
