"""Changes of stations: nobody's is lost, each is audited and published once, and retiring keeps the history."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.stations.registry import examples
from api.stations.registry.opening_hours import (
    ExceptionalPeriod,
    OpeningHours,
    RegularPeriod,
    is_open,
    open_intervals,
)
from schemas.events import StationChanged
from schemas.topics import STATION_CREATED, STATION_REMOVED, STATION_UPDATED
from tests.api.stations_app import PATH, StationsApp

PLUG = {"connector_id": 1, "standard": "CHADEMO", "evse_id": "DE*VLT*E1"}


async def test_what_exists_is_changed_only_in_the_version_that_was_read(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A", 412, {}, match='"1"')
    created = await stations.client.put(f"{PATH}/A", json={"city": "Bonn"})
    assert (created.status_code, created.headers["etag"]) == (201, '"1"')
    for method, path, body in (("PUT", "/A", {}), ("DELETE", "/A", None)):
        assert "If-Match" in (await stations.ask(method, path, 428, body))["detail"]
        assert "version 1, not 2" in (await stations.ask(method, path, 412, body, match='"2"'))["detail"]
        await stations.ask(method, path, 422, body, match="1")
    changed = await stations.client.put(f"{PATH}/A", json={"city": "Köln"}, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"], changed.json()["revision"]) == (200, '"2"', 2)
    await stations.ask("PUT", "/A/connectors/1", 412, {}, match='"1"')
    plug = await stations.client.put(f"{PATH}/A/connectors/1", json={})
    assert (plug.status_code, plug.headers["etag"]) == (201, '"3"')
    for method, path in (("PUT", "/A/connectors/1"), ("DELETE", "/A/connectors/1")):
        await stations.ask(method, path, 428, {} if method == "PUT" else None)
        await stations.ask(method, path, 412, {} if method == "PUT" else None, match='"2"')
    assert (await stations.client.get(f"{PATH}/A/connectors/1")).headers["etag"] == '"3"'
    assert (await stations.client.get(f"{PATH}/A")).headers["etag"] == '"3"'


async def test_of_changes_to_one_version_at_once_one_is_made(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A", 201, {})
    answers = await asyncio.gather(
        *(
            stations.client.put(f"{PATH}/A", json={"city": f"C{number}"}, headers={"If-Match": '"1"'})
            for number in range(6)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 5]
    created = await asyncio.gather(*(stations.client.post(PATH, json={"station_id": "B"}) for _ in range(6)))
    assert sorted(answer.status_code for answer in created) == [201, *[409] * 5]


async def test_a_change_that_changes_nothing_is_none(stations: StationsApp) -> None:
    created = await stations.ask("POST", "", 201, examples.NEW_STATION)
    stations.clock.advance(60)
    body = {name: value for name, value in examples.NEW_STATION.items() if name != "station_id"}
    assert await stations.ask("PUT", "/DE-VS-0001", 200, body, match='"1"') == created == examples.STATION
    assert len(stations.published()) == 1
    assert len((await stations.ask("GET", "/DE-VS-0001/history", 200))["changes"]) == 1


async def test_a_station_is_posted_once_whatever_is_repeated(stations: StationsApp) -> None:
    headers = {"Idempotency-Key": "k"}
    answers = [await stations.client.post(PATH, json=examples.NEW_STATION, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].headers["location"] == f"{PATH}/DE-VS-0001"
    assert answers[1].headers["idempotency-replayed"] == "true"
    await stations.ask("POST", "", 409, examples.NEW_STATION)
    assert len(stations.published()) == 1


async def test_each_change_is_published_with_all_of_the_station(stations: StationsApp) -> None:
    await stations.ask("POST", "", 201, examples.NEW_STATION)
    await stations.ask("PUT", "/DE-VS-0001", 200, {"group": "b", "connectors": [PLUG]}, match="*")
    await stations.ask("DELETE", "/DE-VS-0001", 204, match='"2"')
    await stations.ask("POST", "", 201, {"station_id": "de-vs-0001"})
    published = stations.published()
    assert [type_ for type_, _ in published] == [STATION_CREATED, STATION_UPDATED, STATION_REMOVED, STATION_CREATED]
    payloads = [msgspec.convert(payload, StationChanged) for _, payload in published]
    assert [one.revision for one in payloads] == [1, 2, 3, 4]
    first, second, removed, again = payloads
    assert (first.group, first.latitude_udeg, first.bays[0].restrictions) == ("city", 52_520_008, ("EV_ONLY",))
    assert (first.connectors[0].rated_power_w, first.connectors[0].evse_id) == (150_000, "DE*VLT*E1*1")
    assert (second.group, second.latitude_udeg, second.bays, second.connectors[0].standard) == (
        "b",
        None,
        (),
        "CHADEMO",
    )
    assert (removed.group, again.group, again.connectors) == ("b", None, ())


async def test_a_retired_station_keeps_its_history_and_goes_on_with_it(stations: StationsApp) -> None:
    await stations.ask("GET", "/A/history", 404)
    await stations.ask("PUT", "/A", 201, {"city": "Bonn", "connectors": [PLUG]})
    stations.clock.advance(60)
    await stations.ask("DELETE", "/A/connectors/1", 204, match="*")
    await stations.ask("DELETE", "/A", 204, match="*")
    await stations.ask("GET", "/A", 404)
    retired = (await stations.ask("GET", "/A/history", 200))["changes"]
    assert [(one["revision"], one["kind"]) for one in retired] == [(3, "removed"), (2, "updated"), (1, "created")]
    assert (retired[2]["before"], retired[0]["after"]) == (None, None)
    assert retired[2]["after"]["connectors"][0]["evse_id"] == "DE*VLT*E1"
    assert retired[1]["after"] == retired[0]["before"]
    assert retired[0]["changed_at"] == "2026-03-29T09:01:00Z"
    assert retired[0]["changed_by"].startswith("operator/")
    assert (await stations.ask("PUT", "/A", 201, {}))["revision"] == 4
    seen: list[int] = []
    address: str | None = f"{PATH}/A/history?limit=3"
    while address:
        page = (await stations.client.get(address)).json()
        seen += [one["revision"] for one in page["changes"]]
        address = page["next"]
    assert seen == [4, 3, 2, 1]


async def test_a_refused_change_leaves_nothing(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A", 201, {"connectors": [PLUG]})
    assert "station A" in (await stations.ask("PUT", "/B", 409, {"connectors": [PLUG]}))["detail"]
    await stations.ask("GET", "/B", 404)
    await stations.ask("GET", "/B/history", 404)
    assert len(stations.published()) == 1
    await stations.ask("PUT", "/A", 200, {"connectors": []}, match="*")
    await stations.ask("PUT", "/B", 201, {"connectors": [PLUG]})


# -- Opening hours. ---------------------------------------------------------------------------------------------------

_ZONES = ("Europe/Berlin", "UTC", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca")
_CLOCKS = st.integers(0, 24 * 60 - 1).map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}")
_ENDS = st.one_of(_CLOCKS, st.just("24:00"))
_SINCE = datetime(2026, 3, 27, tzinfo=UTC)  # the clocks of Europe change within the days after, and later of others
_MOMENTS = st.integers(0, 10 * 24 * 3_600).map(lambda seconds: _SINCE + timedelta(seconds=seconds))


def _period(kind: Any, **fields: Any) -> Any:
    try:
        return kind(**fields)
    except ValidationError:
        return None


def _some(periods: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(periods, max_size=5).map(lambda found: [one for one in found if one is not None])


_REGULAR = _some(
    st.builds(
        lambda day, a, b: _period(RegularPeriod, weekday=day, period_begin=a, period_end=b),
        st.integers(1, 7),
        _CLOCKS,
        _ENDS,
    )
)
_EXCEPTIONS = _some(
    st.builds(lambda a, b: _period(ExceptionalPeriod, period_begin=a, period_end=b), _MOMENTS, _MOMENTS)
)


@given(st.sampled_from(_ZONES), _REGULAR, _EXCEPTIONS, _EXCEPTIONS, st.booleans(), st.lists(_MOMENTS, min_size=10))
def test_open_intervals_are_when_it_is_open(
    zone: str, regular: Any, openings: Any, closings: Any, always: bool, moments: list[datetime]
) -> None:
    hours = OpeningHours(
        twentyfourseven=always,
        regular_hours=[] if always else regular,
        exceptional_openings=openings,
        exceptional_closings=closings,
    )
    intervals = open_intervals(hours, zone, _SINCE, _SINCE + timedelta(days=11))
    assert all(begin < end for begin, end in intervals)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(intervals))
    edges = [edge for interval in intervals for edge in interval if edge < _SINCE + timedelta(days=11)]
    for at in moments + edges:
        assert any(begin <= at < end for begin, end in intervals) == is_open(hours, zone, at), at


@pytest.mark.parametrize(("local", "opened"), [("2026-10-25T02:30", 2), ("2026-03-29T02:30", 0)])
def test_an_hour_that_comes_twice_is_open_twice(local: str, opened: int) -> None:
    period = RegularPeriod(weekday=7, period_begin="02:00", period_end="03:00")
    hours = OpeningHours(twentyfourseven=False, regular_hours=[period])
    day = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo("Europe/Berlin"), hour=12).astimezone(UTC)
    intervals = open_intervals(hours, "Europe/Berlin", day - timedelta(days=1), day)
    assert sum((end - begin for begin, end in intervals), timedelta()) == timedelta(hours=opened)
