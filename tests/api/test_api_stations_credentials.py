"""Credentials of chargers: whoever has them may be recognized by them, and nobody is shown the password."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.stations import declaration
from kit.auth.passwords import hashed, matches
from kit.auth.token_store import TokenStore
from kit.database.postgres import open_database
from tests.api.stations_app import StationsApp

OLDER = "GM/8plVTNY2Jr5+H+TMEUW0SMD0/pCcA0XgAgW7i7jw="
PASSWORD = "correct-horse-battery"  # noqa: S105  # of a test
BY_CERTIFICATE = "SELECT * FROM stations.certificate_stations(ARRAY['a.example', 'A.example', 'C.example', ''])"
MIGRATIONS = Path(declaration.__file__).parent / "migrations"
ASKED = "SELECT * FROM stations.charger_credentials(ARRAY['A', 'B', 'a'])"


async def test_a_password_is_verified_and_never_shown(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A/credentials", 404, {"password": PASSWORD})
    await stations.ask("PUT", "/A", 201, {})
    await stations.ask("GET", "/A/credentials", 404)
    shown = await stations.ask("PUT", "/a/credentials", 200, {"password": PASSWORD, "certificate_subject": "A.example"})
    assert await stations.ask("GET", "/A/credentials", 200) == shown
    assert (shown["has_password"], shown["certificate_subject"]) == (True, "A.example")
    assert PASSWORD not in str(shown)
    [(station, stored, subject)] = stations.rows(ASKED)
    assert (station, subject) == ("A", "A.example")
    assert PASSWORD not in stored
    assert matches(PASSWORD, stored)
    assert not matches(PASSWORD + "x", stored)
    await stations.ask("PUT", "/A/credentials", 200, {"certificate_subject": "B.example"})
    assert stations.rows(ASKED) == [("A", None, "B.example")]
    await stations.ask("DELETE", "/A/credentials", 204)
    await stations.ask("DELETE", "/A/credentials", 404)
    assert stations.rows(ASKED) == []


async def test_a_certificate_is_one_station_s(stations: StationsApp) -> None:
    for station_id in "ABC":
        await stations.ask("PUT", f"/{station_id}", 201, {})
    given = {"certificate_subject": "a.example"}
    await stations.ask("PUT", "/A/credentials", 200, given)
    await stations.ask("PUT", "/A/credentials", 200, {**given, "password": PASSWORD})
    refused = await stations.ask("PUT", "/B/credentials", 409, given)
    assert "another station's" in refused["detail"]
    await stations.ask("GET", "/B/credentials", 404)
    assert stations.rows(BY_CERTIFICATE) == [("a.example", "A")]
    await stations.ask("DELETE", "/A/credentials", 204)
    await stations.ask("PUT", "/B/credentials", 200, given)
    assert stations.rows(BY_CERTIFICATE) == [("a.example", "B")]
    await stations.ask("DELETE", "/B", 204, match="*")
    assert stations.rows(BY_CERTIFICATE) == []


async def test_what_several_stations_had_before_identifies_none_until_one_is_given_it(stations: StationsApp) -> None:
    given = {"certificate_subject": "a.example"}
    for station_id in "ABC":
        await stations.ask("PUT", f"/{station_id}", 201, {})
        await stations.ask("PUT", f"/{station_id}/credentials", 200, {"certificate_subject": f"{station_id}.example"})
    with psycopg.connect(stations.url, autocommit=True) as connection:
        connection.execute("DROP INDEX stations.credential_certificate_key")
        connection.execute("ALTER TABLE stations.credential DROP COLUMN certificate_shared")
        connection.execute("DROP FUNCTION stations.certificate_stations(text[])")
        connection.execute("UPDATE stations.credential SET certificate_subject = 'a.example' WHERE station_id <> 'C'")
        connection.execute((MIGRATIONS / "0010.certificate_subjects.sql").read_bytes())
    assert stations.rows(BY_CERTIFICATE) == [("C.example", "C")]
    assert (await stations.ask("GET", "/B/credentials", 200))["certificate_subject"] == "a.example"
    await stations.ask("PUT", "/B/credentials", 200, given)
    await stations.ask("PUT", "/A/credentials", 409, given)
    assert set(stations.rows(BY_CERTIFICATE)) == {("a.example", "B"), ("C.example", "C")}


async def test_the_authenticator_finds_the_station_of_a_certificate(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A", 201, {})
    await stations.ask("PUT", "/A/credentials", 200, {"certificate_subject": "a.example"})
    database = await open_database(stations.url, name="access", connections_max=1)
    try:
        store = TokenStore(database)
        assert [await store.certificate_station(name) for name in ("a.example", "A.example", "")] == ["A", None, None]
        asked = {"a.example": "A", "b.example": "B"}
        assert await asyncio.to_thread(store.certificates_moved, asked) == {"b.example"}
        assert await asyncio.to_thread(store.certificates_moved, {"a.example": "B"}) == {"a.example"}
    finally:
        await database.close()


async def test_a_retired_station_loses_its_credentials(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A", 201, {})
    await stations.ask("PUT", "/A/credentials", 200, {"password": PASSWORD})
    await stations.ask("DELETE", "/A", 204, match="*")
    await stations.ask("PUT", "/A", 201, {})
    assert stations.rows(ASKED) == []
    assert PASSWORD not in str(await stations.ask("GET", "/A/history", 200))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "give a password"),
        ({"password": "short"}, "16 to 40"),
        ({"password": "x" * 41}, "16 to 40"),
        ({"password": "ä" * 20}, "ASCII"),
        ({"certificate_subject": ""}, "empty"),
    ],
)
async def test_wrong_credentials_are_refused_with_the_reason(stations: StationsApp, body: Any, says: str) -> None:
    await stations.ask("PUT", "/A", 201, {})
    refused = await stations.client.put("/api/v1/stations/A/credentials", json=body)
    assert refused.status_code == 422
    assert says in refused.json()["detail"] or "at least 1" in refused.json()["detail"]
    assert body.get("password", "no") not in refused.text


async def test_only_those_who_declare_it_may_ask_for_credentials(stations: StationsApp) -> None:
    with psycopg.connect(stations.url) as connection:
        connection.execute("CREATE ROLE credentials_stranger")
        connection.execute("GRANT USAGE ON SCHEMA stations TO credentials_stranger")
        connection.execute("SET ROLE credentials_stranger")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(ASKED.encode())


@settings(max_examples=5)
@given(st.text(max_size=40), st.text(max_size=40))
def test_a_hash_matches_its_password_alone(password: str, other: str) -> None:
    stored = hashed(password)
    assert matches(password, stored)
    assert matches(other, stored) == (other == password)
    assert hashed(password) != stored


def test_a_hash_costs_what_asvs_asks_for_and_older_ones_still_match() -> None:
    """ASVS 5.0, appendix C: N of 2^15 and r of 8 where p is 3 or more."""
    name, cost, block, parallel, *_ = hashed("password").split("$")
    assert (name, int(cost) >= 2**15, int(block) >= 8, int(parallel) >= 3) == ("scrypt", True, True, True)
    older = "scrypt$16384$8$1$c2FsdHNhbHRzYWx0c2FsdA==$" + OLDER
    assert matches("password", older)
    assert not matches("Password", older)


@given(
    st.text(max_size=60)
    | st.from_regex(r"scrypt\$[0-9]{1,3}\$[0-9]\$[0-9]\$[A-Za-z0-9+/=]*\$[A-Za-z0-9+/=]*", fullmatch=True)
)
@settings(max_examples=20)
def test_what_is_no_hash_matches_nothing(stored: str) -> None:
    assert not matches("password", stored)
