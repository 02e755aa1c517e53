"""What other services ask of pricing: which version, which document; and that no version is ever changed."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from api.pricing.declaration import SERVICE
from api.pricing.store import PricingStore
from kit.clock import from_ms
from kit.database.postgres import connect_sync, open_database
from kit.database.roles import Grant, ensure_roles
from tests.api.pricing_app import ZONE, tariff
from tests.serving import make_schemas

Connection = psycopg.Connection[tuple[Any, ...]]
STATIONS = ("S1", "S2", "S3")
GROUPS = ("A", "B")
TARGETS = [("station", name) for name in STATIONS] + [("group", name) for name in GROUPS] + [("default", "")]
BASE_MS = 1_774_774_800_000
MOMENTS = st.integers(0, 5)
CONTRACTS = tuple(contract.name for contract in SERVICE.contracts)


@dataclass(frozen=True)
class Known:
    """A version; moments in ms after BASE_MS."""

    target: tuple[str, str]
    effective_ms: int
    starts_ms: int | None
    ends_ms: int | None

    def in_force(self, moment_ms: int) -> bool:
        starts = self.starts_ms is None or self.starts_ms <= moment_ms
        return self.effective_ms <= moment_ms and starts and (self.ends_ms is None or moment_ms < self.ends_ms)


VERSIONS = st.lists(st.builds(Known, st.sampled_from(TARGETS), MOMENTS, st.none() | MOMENTS, st.none() | MOMENTS))
MEMBERS = st.dictionaries(st.sampled_from(STATIONS), st.sampled_from(GROUPS))


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """As the owner of pricing's tables, made by the migrations."""
    make_schemas(database_url, [SERVICE])
    with psycopg.connect(database_url) as opened:
        yield opened
        opened.rollback()


def store(connection: Connection, version: Known) -> int:
    """Publish it; its key."""
    dates = {"start_date_time": version.starts_ms, "end_date_time": version.ends_ms}
    bounds = {name: from_ms(BASE_MS + ms).isoformat() for name, ms in dates.items() if ms is not None}
    row = connection.execute(
        "INSERT INTO pricing.version "
        "(id, target_kind, target, time_zone, currency, tariff, effective_from, reason, published_by) "
        "VALUES (%s, %s, %s, %s, 'EUR', %s, %s, 'operator', 'a test') RETURNING version_key",
        (
            *(uuid4(), *version.target, ZONE, json.dumps(tariff(0.29, **bounds))),
            from_ms(BASE_MS + version.effective_ms),
        ),
    ).fetchone()
    assert row is not None
    return int(row[0])


def oracle(versions: dict[int, Known], members: dict[str, str], station: str, moment_ms: int) -> int | None:
    """ADR and brief in plain Python."""
    for target in (("station", station), ("group", members.get(station)), ("default", "")):
        fitting = [
            (version.effective_ms, key)
            for key, version in versions.items()
            if version.target == target and version.in_force(moment_ms)
        ]
        if fitting:
            return max(fitting)[1]
    return None


def test_the_version_in_force_is_that_of_the_most_specific_target_and_the_last_effective(
    connection: Connection,
) -> None:
    @settings(suppress_health_check=list(HealthCheck))
    @given(versions=VERSIONS, members=MEMBERS)
    def law(versions: list[Known], members: dict[str, str]) -> None:
        with connection.transaction(force_rollback=True):
            known = {store(connection, version): version for version in versions}
            for station, group in members.items():
                connection.execute("INSERT INTO pricing.station_group VALUES (%s, %s)", (station, group))
            questions = [(station, moment) for station in (*STATIONS, "S9") for moment in range(-1, 7)]
            answered = connection.execute(
                "SELECT place, version_key FROM pricing.tariffs_at(%s, %s)",
                ([station for station, _ in questions], [BASE_MS + moment for _, moment in questions]),
            ).fetchall()
            expected = [oracle(known, members, *question) for question in questions]
            assert sorted(answered) == [(place, key) for place, key in enumerate(expected, start=1) if key is not None]

    law()


async def test_what_is_next_is_the_first_moment_of_another_version(database_url: str, connection: Connection) -> None:
    connection.execute("ALTER TABLE pricing.version DISABLE TRIGGER USER")  # to begin anew with each example
    connection.commit()
    database = await open_database(database_url, name="next", connections_max=2)
    asked = PricingStore(database)
    loop = asyncio.get_running_loop()

    async def ask(station: str, moment: int) -> tuple[Any, tuple[int, UUID | None] | None]:
        row = await asked.in_force(station, BASE_MS + moment)
        return row and row["version_key"], await asked.next_change(station, from_ms(BASE_MS + moment), row)

    @settings(suppress_health_check=list(HealthCheck), max_examples=60)
    @given(versions=VERSIONS, members=MEMBERS, station=st.sampled_from(STATIONS), at=st.integers(-1, 6))
    def law(versions: list[Known], members: dict[str, str], station: str, at: int) -> None:
        connection.execute("DELETE FROM pricing.version; DELETE FROM pricing.station_group")
        known = {store(connection, version): version for version in versions}
        for member, group in members.items():
            connection.execute("INSERT INTO pricing.station_group VALUES (%s, %s)", (member, group))
        ids: dict[Any, Any] = dict(connection.execute("SELECT version_key, id FROM pricing.version").fetchall())
        connection.commit()
        answered = asyncio.run_coroutine_threadsafe(ask(station, at), loop).result()
        now = oracle(known, members, station, at)
        later = [(moment, oracle(known, members, station, moment)) for moment in range(at + 1, 8)]
        change = next(((moment, key) for moment, key in later if key != now), None)
        expected = None if change is None else (BASE_MS + change[0], ids.get(change[1]))
        assert answered == (now, expected)

    try:
        await asyncio.to_thread(law)
    finally:
        await database.close()


def test_documents_are_those_asked_for(connection: Connection) -> None:
    keys = [store(connection, Known(("default", ""), n, None, None)) for n in range(3)]
    asked = [keys[2], keys[0], keys[2], 10**9]
    rows = connection.execute("SELECT version_key, time_zone FROM pricing.documents(%s)", (asked,)).fetchall()
    assert sorted(rows) == [(keys[0], ZONE), (keys[2], ZONE)]
    assert connection.execute("SELECT count(*) FROM pricing.documents('{}')").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM pricing.tariffs_at('{}', '{}')").fetchone() == (0,)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE pricing.version SET time_zone = 'Europe/Paris'",
        "UPDATE pricing.version SET effective_from = effective_from",
        "DELETE FROM pricing.version",
        "TRUNCATE pricing.version CASCADE",
        "INSERT INTO pricing.version "
        "(id, target_kind, target, time_zone, currency, tariff, effective_from, reason, published_by) "
        "SELECT id, target_kind, target, time_zone, currency, tariff, effective_from, reason, published_by "
        "FROM pricing.version ON CONFLICT (id) DO UPDATE SET reason = 'demand'",
    ],
)
def test_a_version_is_never_changed_not_even_by_its_owner(connection: Connection, change: str) -> None:
    store(connection, Known(("default", ""), 0, None, None))
    before = connection.execute("SELECT * FROM pricing.version").fetchall()
    with pytest.raises(psycopg.errors.RestrictViolation), connection.transaction():
        connection.execute(change.encode())
    assert connection.execute("SELECT * FROM pricing.version").fetchall() == before


def test_a_reader_may_ask_the_two_questions_and_nothing_else(database_url: str, connection: Connection) -> None:
    key = store(connection, Known(("default", ""), 0, None, None))
    connection.commit()
    reader = f"reader_{uuid4().hex}"
    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(reader)))
    connection.commit()
    try:
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            connect_sync(database_url, name="reader", role=reader) as refused,
        ):
            refused.execute("SELECT * FROM pricing.tariffs_at(ARRAY['S1'], ARRAY[%s::bigint])", (BASE_MS,))
        for _ in range(2):
            ensure_roles(database_url, [Grant(reader, contracts=CONTRACTS)])
        for role in (reader, SERVICE.role):
            with connect_sync(database_url, name="reader", role=role, autocommit=True) as asking:
                found = asking.execute(
                    "SELECT version_key FROM pricing.tariffs_at(ARRAY['S1'], ARRAY[%s::bigint])", (BASE_MS,)
                ).fetchall()
                assert found == [(key,)]
                documents = asking.execute("SELECT tariff::text FROM pricing.documents(%s)", ([key],)).fetchall()
                assert json.loads(documents[0][0], parse_float=Decimal)["elements"][0]["price_components"][0][
                    "price"
                ] == Decimal("0.29")
                if role == reader:
                    for table in ("version", "station_group", "outbox"):
                        with pytest.raises(psycopg.errors.InsufficientPrivilege):
                            asking.execute(f"SELECT * FROM pricing.{table}".encode())
    finally:
        connection.rollback()
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(reader)))
        connection.commit()
