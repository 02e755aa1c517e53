"""Each change of a station has an entry in the audit with what was before and after, and what is none has none."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.stations_app import StationsApp, running_stations

_QUERY = (
    "SELECT action, entity, actor, before, after FROM audit.entry WHERE entity ~ '^(station|credentials)/' ORDER BY id"
)


@pytest.fixture
async def stations(database_url: str) -> AsyncIterator[StationsApp]:
    async with running_stations(database_url) as running:
        yield running


async def test_a_station_and_its_connectors_are_recorded_from_registering_to_retiring(stations: StationsApp) -> None:
    plug = {"standard": "IEC_62196_T2_COMBO", "format": "CABLE", "power_type": "DC", "rated_power_w": 150_000}
    first = await stations.ask("PUT", "/A", 201, {"name": "one"})
    await stations.ask("PUT", "/A", 200, {"name": "one"}, match="*")  # no change
    await stations.ask("PUT", "/A", 412, {"name": "two"}, match='"9"')  # refused
    await stations.ask("PUT", "/A/connectors/1", 201, plug)
    await stations.ask("DELETE", "/A/connectors/1", 204, match="*")
    await stations.ask("DELETE", "/A", 204, match="*")
    created, plugged, unplugged, removed = stations.rows(_QUERY)
    assert [one[0] for one in (created, plugged, unplugged, removed)] == [
        "station.created", "station.updated", "station.updated", "station.removed"
    ]  # fmt: skip
    assert {one[1] for one in stations.rows(_QUERY)} == {"station/A"}
    assert all(one[2].startswith("operator/") for one in stations.rows(_QUERY))
    assert (created[3], created[4]["name"], created[4]["revision"]) == (None, "one", first["revision"])
    assert [len(side["connectors"]) for side in (plugged[3], plugged[4], unplugged[4])] == [0, 1, 0]
    assert (removed[3], removed[4]) == (unplugged[4], None)


async def test_of_an_import_each_station_that_changes_is_recorded(stations: StationsApp) -> None:
    lines = "\n".join(f"S{number},n{number}" for number in range(250))

    async def send(text: str, **params: Any) -> None:
        answer = await stations.client.post(
            "/api/v1/stations/import", content=text.encode(), params={"format": "csv", **params}
        )
        assert answer.status_code == 200, answer.text

    await send(f"station_id,name\n{lines}\n", dry_run="true")
    assert stations.rows(_QUERY) == []
    await send(f"station_id,name\n{lines}\n")
    assert [one[0] for one in stations.rows(_QUERY)] == ["station.created"] * 250
    await send(f"station_id,name\n{lines.replace('n7,', 'm7,').replace(',n249', ',other')}\n")
    action, entity, _, before, after = stations.rows(_QUERY)[-1]
    assert (action, entity) == ("station.updated", "station/S249")
    assert (before["name"], after["name"]) == ("n249", "other")
    assert len(stations.rows(_QUERY)) == 251


async def test_credentials_are_recorded_without_their_secret(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A", 201, {"name": "one"})
    secret = "0123456789abcdef-secret"  # noqa: S105  # of a charger that is not there
    await stations.ask("PUT", "/A/credentials", 200, {"password": secret})
    await stations.ask("PUT", "/A/credentials", 200, {"certificate_subject": "A.example"})
    await stations.ask("DELETE", "/A/credentials", 204)
    await stations.ask("DELETE", "/A/credentials", 404)
    await stations.ask("PUT", "/B/credentials", 404, {"password": secret})
    password = {"has_password": True, "certificate_subject": None}
    certificate = {"has_password": False, "certificate_subject": "A.example"}
    _, *entries = stations.rows(_QUERY)
    assert [(action, entity, before, after) for action, entity, _, before, after in entries] == [
        ("credentials.set", "credentials/A", None, password),
        ("credentials.set", "credentials/A", password, certificate),
        ("credentials.removed", "credentials/A", certificate, None),
    ]
    (texts,) = stations.rows("SELECT count(*) FROM audit.entry AS e WHERE e::text ~ 'secret|scrypt'")
    assert texts == (0,)
