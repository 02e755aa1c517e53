"""The ledger of energy: what meters rose by is in sessions, outside of any or rejected, to the last mWh."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from api.telemetry.models import Energy
from tests.api.conftest import NOW, Api
from tests.api.rows import Reading, add_connector, add_readings, random_readings

DAY = datetime(2026, 3, 29, tzinfo=UTC)
START = DAY + timedelta(hours=6)
PATH = "/api/v1/telemetry/ST-1/energy"


@pytest.fixture
def stored(api: Api, seed: int) -> dict[int, list[Reading]]:
    """Readings of three connectors, one of which is the main meter, and of another station."""
    rng = random.Random(seed)
    readings = {
        number: random_readings(rng, add_connector(api.database_url, "ST-1", number), START, 300) for number in range(3)
    }
    other = random_readings(rng, add_connector(api.database_url, "ST-2", 1), START, 20)
    add_readings(api.database_url, [*(one for of_one in readings.values() for one in of_one), *other])
    return readings


def sums(readings: list[Reading], start: datetime, end: datetime) -> dict[str, Decimal]:
    """In plain Python, of the readings of the minutes from `start` on, to `end`."""
    inside = [one for one in readings if start <= one.ts < end]
    parts = [
        sum(getattr(one, name) or 0 for one in inside) for name in ("in_session_mwh", "outside_mwh", "rejected_mwh")
    ]
    names = ("rise_wh", "in_sessions_wh", "outside_wh", "rejected_wh", "register_leapt")
    values = (sum(parts), *parts, parts[-1])
    return {name: Decimal(value) / 1_000 for name, value in zip(names, values, strict=True)}


def exact(entry: dict[str, Any]) -> dict[str, Decimal]:
    flat = entry | entry["rejected_by_reason_wh"]
    return {
        name: Decimal(str(value))
        for name, value in flat.items()
        if name not in ("connector_id", "rejected_by_reason_wh")
    }


@pytest.mark.parametrize("minutes", [(0, 180), (7, 8), (12, 31)])
async def test_it_is_the_sum_of_what_the_readings_account_for(
    api: Api, stored: dict[int, list[Reading]], minutes: tuple[int, int]
) -> None:
    start, end = (START + timedelta(minutes=minute) for minute in minutes)
    answer = (await api.get(PATH, start=(start + timedelta(seconds=30)).isoformat(), end=end.isoformat())).json()
    Energy.model_validate(answer)
    assert datetime.fromisoformat(answer["from"]) == start, "the whole minute"
    found = {entry["connector_id"]: exact(entry) for entry in answer["connectors"]}
    assert found == {number: sums(stored[number], start, end) for number in (1, 2)}
    assert exact(answer["total"]) == sums(stored[1] + stored[2], start, end)
    assert exact(answer["main_meter"]) == sums(stored[0], start, end), "never added to its connectors"


async def test_without_a_range_it_is_of_today(api: Api, stored: dict[int, list[Reading]]) -> None:
    answer = (await api.get(PATH)).json()
    assert [datetime.fromisoformat(answer[name]) for name in ("from", "to")] == [DAY, NOW]
    assert exact(answer["total"]) == sums(stored[1] + stored[2], DAY, NOW)


async def test_a_connector_without_a_register_accounts_for_nothing(api: Api) -> None:
    add_connector(api.database_url, "ST-1", 1)
    answer = (await api.get(PATH)).json()
    nothing = {"rise_wh": 0, "in_sessions_wh": 0, "outside_wh": 0, "rejected_wh": 0,
               "rejected_by_reason_wh": {"register_leapt": 0}}  # fmt: skip
    assert (answer["total"], answer["connectors"]) == (nothing, [nothing | {"connector_id": 1}])
    assert answer["main_meter"] is None


async def test_a_station_that_is_not_known_and_a_range_that_ends_before_it_begins_are_refused(api: Api) -> None:
    assert "ST-1" in (await api.get(PATH, 404)).json()["detail"]
    add_connector(api.database_url, "ST-1", 1)
    backwards = await api.get(PATH, 422, start=NOW.isoformat(), end=DAY.isoformat())
    assert "must be before" in backwards.json()["detail"]
