"""A station's history: what the answers say, and that paging and formats cannot change it."""

import csv
import io
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pytest

from api.telemetry.history.renderings import ARROW, CSV
from api.telemetry.models import HistoryPage
from kit.clock import format_rfc3339
from tests.api.conftest import NOW, Api
from tests.api.rows import Reading, add_connector, add_readings, random_readings

START = datetime(2026, 3, 28, 20, 30, tzinfo=UTC)
WIDTHS = {
    "1m": timedelta(minutes=1),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
QUANTITIES = {
    "power_w": "power_mw",
    "voltage_v": "voltage_mv",
    "current_a": "current_ma",
    "temperature_c": "temperature_mc",
    "soc_pct": "soc_mpct",
}
ALL: dict[str, Any] = {"start": "2026-03-28T00:00:00Z", "end": "2026-03-31T00:00:00Z"}
PATH = "/api/v1/telemetry/ST-1"


@pytest.fixture
def stored(api: Api, seed: int) -> dict[int, list[Reading]]:
    """Two connectors of one station, about 4 h of readings each, by connector id."""
    rng = random.Random(seed)
    readings = {}
    for connector_id in (1, 2):
        key = add_connector(api.database_url, "ST-1", connector_id)
        readings[connector_id] = random_readings(rng, key, START, 1_500)
    add_readings(api.database_url, [reading for rows in readings.values() for reading in rows])
    return readings


def thousandths(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value) / 1000


def decimals(answer: httpx.Response) -> Any:
    """The JSON with every number as it was written."""
    return answer.json(parse_float=Decimal)


def recomputed(stored: dict[int, list[Reading]], width: timedelta) -> dict[tuple[datetime, int], dict[str, Any]]:
    """The windows from the raw readings, in plain Python."""
    windows: dict[tuple[datetime, int], list[Reading]] = defaultdict(list)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for connector_id, readings in stored.items():
        for reading in readings:
            windows[reading.ts - (reading.ts - epoch) % width, connector_id].append(reading)
    answer: dict[tuple[datetime, int], dict[str, Any]] = {}
    register: dict[tuple[str, int], int] = {}
    for (start, connector_id), readings in sorted(windows.items()):
        row: dict[str, Any] = {"readings": len(readings), "flagged": sum(r.flags != 0 for r in readings)}
        for name, column in QUANTITIES.items():
            values = [value for r in readings if (value := getattr(r, column)) is not None]
            mean = (Decimal(sum(values)) / len(values) + Decimal("0.5")).to_integral(ROUND_FLOOR) if values else None
            row[f"{name}_avg"] = None if mean is None else mean / 1000
            row[f"{name}_min"], row[f"{name}_max"] = (thousandths(f(values)) if values else None for f in (min, max))
        for name in ("energy", "energy_export"):
            in_order = (getattr(r, f"{name}_mwh") for r in sorted(readings, key=lambda r: r.ts))
            registers = [value for value in in_order if value is not None]
            energy = None
            if registers:
                before = register.get((name, connector_id))
                first, last = registers[0], registers[-1]
                rise = last - first if first <= last else None
                energy = last - before if before is not None and before <= last else rise
                register[name, connector_id] = last
            row[f"{name}_wh_first"] = thousandths(registers[0]) if registers else None
            row[f"{name}_wh_last"] = thousandths(registers[-1]) if registers else None
            row[f"{name}_wh"] = thousandths(energy)
        for name in ("in_session", "outside", "rejected"):
            row[f"{name}_wh"] = thousandths(sum(getattr(r, f"{name}_mwh") or 0 for r in readings))
        answer[start, connector_id] = row
    return answer


@pytest.mark.parametrize("interval", WIDTHS)
async def test_windows_are_what_the_raw_readings_make(
    api: Api, stored: dict[int, list[Reading]], interval: str
) -> None:
    answer = decimals(await api.get(PATH, interval=interval, limit=10_000, **ALL))
    HistoryPage.model_validate(answer)
    expected = recomputed(stored, WIDTHS[interval])
    got = {}
    for row in answer["rows"]:
        key = datetime.fromisoformat(row.pop("window_start")), row.pop("connector_id")
        assert row.pop("revision", None) == (1 if interval == "1m" else None)
        got[key] = row
    assert got == expected
    assert list(got) == sorted(expected)


async def test_raw_rows_are_the_stored_readings(api: Api, stored: dict[int, list[Reading]]) -> None:
    answer = decimals(await api.get(PATH, interval="raw", limit=10_000, **ALL))
    HistoryPage.model_validate(answer)
    assert [(row["ts"], row["connector_id"]) for row in answer["rows"]] == sorted(
        (format_rfc3339(r.ts), connector_id) for connector_id, readings in stored.items() for r in readings
    )
    expected = {(connector_id, r.ts): r for connector_id, readings in stored.items() for r in readings}
    for row in answer["rows"]:
        reading = expected[row["connector_id"], datetime.fromisoformat(row["ts"])]
        assert (row["boot"], row["seq"]) == (reading.boot, reading.seq)
        assert row["energy_wh"] == thousandths(reading.energy_mwh)
        assert row["energy_export_wh"] == thousandths(reading.energy_export_mwh)
        assert {name: row[name] for name in QUANTITIES} == {
            name: thousandths(getattr(reading, column)) for name, column in QUANTITIES.items()
        }
        assert (
            row["flags"] == {0: [], 1: ["meter_rollback"], 64: ["late"], 65: ["meter_rollback", "late"]}[reading.flags]
        )


async def pages(api: Api, limit: int, **params: Any) -> list[list[dict[str, Any]]]:
    """Every page, by following `next`."""
    answer = await api.get(PATH, limit=limit, **params)
    found = [answer.json()["rows"]]
    while following := answer.json()["next"]:
        assert answer.headers["link"] == f'<{following}>; rel="next"'
        answer = await api.get(following)
        found.append(answer.json()["rows"])
    assert "link" not in answer.headers
    return found


@pytest.mark.parametrize("interval", ["raw", "1m", "15m", "1h"])
async def test_pages_put_together_are_the_one_page(
    api: Api, stored: dict[int, list[Reading]], interval: str, seed: int
) -> None:
    whole = (await api.get(PATH, interval=interval, limit=10_000, **ALL)).json()["rows"]
    limit = random.Random(seed).randrange(1, len(whole) + 2) if interval != "raw" else 701
    parts = await pages(api, limit, interval=interval, **ALL)
    assert [row for part in parts for row in part] == whole
    assert all(len(part) == limit for part in parts[:-1])


async def test_readings_of_one_moment_are_each_paged_once(api: Api) -> None:
    keys = [add_connector(api.database_url, "ST-1", connector_id) for connector_id in (1, 2)]
    ts = NOW - timedelta(minutes=1)
    identities = [(None, None), (None, 0), (0, None), (0, 0), (0, 1), (1, 0), (2**63 - 1, 2**53 - 1)]
    add_readings(api.database_url, [Reading(key, ts, boot=boot, seq=seq) for key in keys for boot, seq in identities])
    rows = [row for page in await pages(api, 1, interval="raw") for row in page]
    assert [(row["connector_id"], row["boot"], row["seq"]) for row in rows] == [
        (connector_id, *identity) for connector_id in (1, 2) for identity in identities
    ]


async def test_raw_readings_are_found_however_far_apart(api: Api) -> None:
    key = add_connector(api.database_url, "ST-1", 1)
    quiet_days = (4_000, 400, 399.99, 40, 4, 0.4, 0.04, 0.0001)
    moments = [NOW - timedelta(days=days) for days in quiet_days]
    add_readings(api.database_url, [Reading(key, ts.replace(microsecond=0)) for ts in moments])
    for limit in (1, 3, 100):
        rows = [row for page in await pages(api, limit, interval="raw", start=0) for row in page]
        assert [row["ts"] for row in rows] == [format_rfc3339(ts.replace(microsecond=0)) for ts in moments]


async def test_pages_never_repeat_a_row_while_readings_arrive(
    api: Api, stored: dict[int, list[Reading]], seed: int
) -> None:
    rng = random.Random(seed)
    seen: list[tuple[str, int]] = []
    address: str | None = PATH
    params: dict[str, Any] = {"interval": "raw", "limit": 400, **ALL}
    while address:
        answer = (await api.get(address, **params)).json()
        seen += [(row["ts"], row["connector_id"]) for row in answer["rows"]]
        address, params = answer["next"], {}
        late = [
            Reading(stored[rng.choice((1, 2))][0].connector_key, START + timedelta(microseconds=rng.randrange(10**10)))
            for _ in range(50)
        ]
        add_readings(api.database_url, late, windows=False)
    first = {(format_rfc3339(r.ts), c) for c, rows in stored.items() for r in rows}
    assert len([key for key in seen if key in first]) == len(first)
    assert seen == sorted(seen)


def from_csv(body: str) -> list[dict[str, Any]]:
    return [{name: value or None for name, value in row.items()} for row in csv.DictReader(io.StringIO(body))]


def as_csv_has_it(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            name: " ".join(value) or None if isinstance(value, list) else None if value is None else str(value)
            for name, value in row.items()
        }
        for row in rows
    ]


def as_json_has_it(batch: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = batch.to_pylist()
    for row in rows:
        for name, value in row.items():
            if isinstance(value, datetime):
                row[name] = format_rfc3339(value)
    return rows


@pytest.mark.parametrize("interval", ["raw", "1m", "1d"])
async def test_json_csv_and_arrow_say_the_same(api: Api, stored: dict[int, list[Reading]], interval: str) -> None:
    answers = {}
    for media in ("application/json", CSV, ARROW):
        api.client.headers["accept"] = media
        answers[media] = await api.get(PATH, interval=interval, limit=1_000, **ALL)
        assert answers[media].headers["content-type"].partition(";")[0] == media
        assert answers[media].headers["vary"] == "Accept"
    rows = decimals(answers["application/json"])["rows"]
    assert rows
    assert from_csv(answers[CSV].text) == as_csv_has_it(rows)
    assert as_json_has_it(pa.ipc.open_stream(answers[ARROW].content).read_all()) == rows
    assert len({answer.headers.get("link") for answer in answers.values()}) == 1


@pytest.mark.parametrize("interval", ["raw", "1m"])
async def test_an_empty_answer_has_its_columns_in_every_format(api: Api, interval: str) -> None:
    add_connector(api.database_url, "ST-1", 1)
    assert (await api.get(PATH, interval=interval)).json()["rows"] == []
    api.client.headers["accept"] = CSV
    header = (await api.get(PATH, interval=interval)).text.strip().split(",")
    api.client.headers["accept"] = ARROW
    table = pa.ipc.open_stream((await api.get(PATH, interval=interval)).content).read_all()
    assert table.schema.names == header
    assert len(header) > 10


async def test_the_default_is_the_last_hour_of_minutes(api: Api) -> None:
    key = add_connector(api.database_url, "ST-1", 1)
    moments = [NOW - timedelta(minutes=minutes) for minutes in (61, 60, 1, 0)]
    add_readings(api.database_url, [Reading(key, moment) for moment in moments])
    answer = (await api.get(PATH)).json()
    assert (answer["from"], answer["to"]) == ("2026-03-29T08:00:00.000Z", "2026-03-29T09:00:00.000Z")
    assert [row["window_start"] for row in answer["rows"]] == [
        "2026-03-29T08:00:00.000Z",
        "2026-03-29T08:59:00.000Z",
    ]


async def test_a_range_begins_with_the_window_it_cuts(api: Api) -> None:
    key = add_connector(api.database_url, "ST-1", 1)
    add_readings(api.database_url, [Reading(key, NOW - timedelta(hours=3))])
    answer = (await api.get(PATH, interval="1d", start=NOW.isoformat(), end="2026-03-29T10:00:00Z")).json()
    assert answer["from"] == "2026-03-29T00:00:00.000Z"
    assert [row["window_start"] for row in answer["rows"]] == ["2026-03-29T00:00:00.000Z"]


async def test_a_register_is_carried_over_at_most_31_days(api: Api) -> None:
    key = add_connector(api.database_url, "ST-1", 1)
    old = [Reading(key, NOW - timedelta(days=days), energy_mwh=mwh) for days, mwh in ((40, 1_000), (20, 5_000))]
    add_readings(api.database_url, [*old, Reading(key, NOW, energy_mwh=9_500)])
    for limit in (10, 1):
        rows = [row for page in await pages(api, limit, start=0, end="2026-04-01T00:00:00Z") for row in page]
        assert [row["energy_wh"] for row in rows] == [0.0, 4.0, 4.5]


async def test_station_ids_are_compared_without_case(api: Api, stored: dict[int, list[Reading]]) -> None:
    lower = (await api.get("/api/v1/telemetry/st-1", **ALL)).json()
    assert lower["station_id"] == "ST-1"
    assert lower["rows"]


async def test_one_connector_is_its_share_of_all(api: Api, stored: dict[int, list[Reading]]) -> None:
    whole = (await api.get(PATH, interval="15m", **ALL)).json()["rows"]
    one = (await api.get(PATH, interval="15m", connector_id=2, **ALL)).json()["rows"]
    assert one == [row for row in whole if row["connector_id"] == 2]
    assert one


async def test_a_reading_names_its_session(api: Api) -> None:
    key = add_connector(api.database_url, "ST-1", 1)
    session = "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11"
    with psycopg.connect(api.database_url) as connection:
        connection.execute(
            "INSERT INTO telemetry.session VALUES (7, %s, %s, 'TX', now(), now(), NULL, 0, 0, 0, NULL, NULL, 1, 0, 0)",
            (session, key),
        )
    add_readings(api.database_url, [Reading(key, NOW - timedelta(minutes=1), session_key=7, status=3, session_event=1)])
    (row,) = (await api.get(PATH, interval="raw")).json()["rows"]
    assert (row["session"], row["session_id"]) == (session, "TX")
    assert (row["status"], row["session_event"]) == ("Charging", "Started")


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"start": "yesterday"}, "RFC 3339"),
        ({"start": "2026-03-29T08:00:00"}, "offset"),
        ({"start": "1969-12-31T23:59:59Z"}, "1970"),
        ({"start": "9" * 20}, "RFC 3339"),
        ({"start": "2026-03-29T10:00:00Z", "end": "2026-03-29T09:00:00Z"}, "before"),
        ({"interval": "2m"}, "15m"),
        ({"limit": 10_001}, "10000"),
        ({"limit": 0}, "limit"),
        ({"connector_id": 40_000}, "connector_id"),
        ({"cursor": "!!!"}, "cursor"),
        ({"cursor": "laF3zwAF"}, "cursor"),
        ({"cursor": "ÿ"}, "cursor"),
    ],
)
async def test_a_wrong_question_is_a_422_that_says_why(
    api: Api, stored: dict[int, list[Reading]], params: dict[str, Any], word: str
) -> None:
    problem = (await api.get(PATH, 422, **params)).json()
    assert word in problem["detail"], problem


async def test_a_cursor_of_another_kind_of_page_is_refused(api: Api, stored: dict[int, list[Reading]]) -> None:
    following = (await api.get(PATH, interval="raw", limit=1, **ALL)).json()["next"]
    cursor = httpx.URL(following).params["cursor"]
    await api.get(PATH, 422, interval="1m", cursor=cursor, **ALL)


async def test_what_is_not_known_is_a_404_that_says_what_is(api: Api, stored: dict[int, list[Reading]]) -> None:
    assert "ST-9" in (await api.get("/api/v1/telemetry/st-9", 404)).json()["detail"]
    assert "it has 1, 2" in (await api.get(PATH, 404, connector_id=3)).json()["detail"]


async def test_a_format_that_is_not_offered_is_a_406_that_names_those_that_are(
    api: Api, stored: dict[int, list[Reading]]
) -> None:
    api.client.headers["accept"] = "application/xml"
    answer = await api.get(PATH, 406)
    assert answer.headers["content-type"] == "application/problem+json"
    assert all(media in answer.json()["detail"] for media in ("application/json", CSV, ARROW))
