"""Questions about raw readings have the same answers before and after these are moved to the lake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from api.sessions.declaration import SERVICE as SESSIONS
from api.telemetry.declaration import SERVICE as TELEMETRY
from api.telemetry.store import TelemetryStore
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock, format_rfc3339, from_ms
from kit.database.postgres import Database, open_database
from kit.lake.reader import LakeReader
from kit.live.view import InProcessLive
from kit.web.app import make_app
from kit.web.serving.server import serve
from streams.storage.connections import Connections, open_writer
from streams.storage.store import Store
from tests.serving import open_service
from tests.streams.lake_fleet import BORDER_MS, NOW, START_MS, everything, fill, move, moved
from voltstream.settings import load_settings

_STATIONS = ("P0-A", "P1-A", "P1-B")
_ACCEPTED = ("application/json", "text/csv", "application/vnd.apache.arrow.stream")
_WHOLE = {"from": format_rfc3339(from_ms(START_MS)), "to": format_rfc3339(NOW)}
_BORDER = from_ms(BORDER_MS)


@pytest.fixture
def filled_url(database_url: str, seed: int) -> str:
    """A database with all tables, and the fleet's readings."""
    fill(database_url, seed)
    return database_url


@asynccontextmanager
async def asking(url: str, lake: Path | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the queries and the sessions."""
    clock, live = ManualClock(NOW), InProcessLive()
    settings = load_settings(lake_url=str(lake) if lake else None)
    access = await open_database(url, name="access", connections_max=1)
    tokens = TokenStore(access)
    token, _ = await tokens.issue("operator")
    app = make_app("queries", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(tokens, clock)
    try:
        async with (
            open_service(TELEMETRY, url, clock, app=app, live=live, settings=settings) as telemetry,
            open_service(SESSIONS, url, clock, app=app, settings=settings),
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client,
        ):
            yield client
            await telemetry.components.streams.close()
    finally:
        await live.close()
        await access.close()


async def answers(client: httpx.AsyncClient, url: str) -> dict[str, bytes]:
    """Every question, with its answer."""
    questions = [(f"/api/v1/telemetry/{station}", kind | _WHOLE) for station in _STATIONS for kind in _KINDS]
    for station in _STATIONS:  # a slice about the border, and one that ends in a moved week
        near = {"from": _BORDER - timedelta(days=3), "to": _BORDER + timedelta(days=1)}
        within = {"from": from_ms(START_MS) + timedelta(days=2, hours=3), "to": from_ms(START_MS) + timedelta(days=4)}
        for bounds in (near, within):
            given = {name: format_rfc3339(moment) for name, moment in bounds.items()}
            questions.append((f"/api/v1/telemetry/{station}", {"interval": "raw", "limit": "1000"} | given))
        questions.append((f"/api/v1/telemetry/{station}/energy", _WHOLE))
    with psycopg.connect(url) as connection:
        ids = [one for (one,) in connection.execute("SELECT id FROM telemetry.session ORDER BY id")]
    questions += [(f"/api/v1/sessions/{one}/readings", {}) for one in ids]
    found = {}
    for path, parameters in questions:
        for accept in _ACCEPTED if "/telemetry/" in path and "energy" not in path else _ACCEPTED[:1]:
            found[f"{accept} {path} {parameters}"] = await pages(client, path, parameters, accept)
    return found


_KINDS: list[dict[str, str]] = [
    *({"interval": "raw", "limit": limit} for limit in ("7", "1000")),
    {"interval": "raw", "limit": "1000", "flag": "outside_session"},
    {"interval": "raw", "limit": "5", "connector_id": "1"},
    *({"interval": interval, "limit": "1000"} for interval in ("1m", "15m", "1h", "1d")),
]


async def pages(client: httpx.AsyncClient, path: str, parameters: dict[str, str], accept: str) -> bytes:
    """All pages of an answer."""
    found, following = [], None
    while True:
        response = await client.get(
            following or path, params=None if following else parameters, headers={"Accept": accept}
        )
        if response.status_code == httpx.codes.NOT_FOUND:
            return response.content
        assert response.status_code == httpx.codes.OK, response.text
        found.append(response.content)
        if accept == _ACCEPTED[0]:
            following = response.json().get("next")
        else:
            following = response.links["next"]["url"] if "next" in response.links else None
        if following is None:
            return b"\n".join(found)


async def test_every_answer_is_the_same_before_and_after_a_move(filled_url: str, tmp_path: Path) -> None:
    async with asking(filled_url, tmp_path) as client:
        before = await answers(client, filled_url)
        readings = everything(filled_url, tmp_path)
        await asyncio.to_thread(move, filled_url, tmp_path)
        assert len(moved(filled_url, tmp_path)) > len(readings) / 2
        after = await answers(client, filled_url)
    assert {name: after[name] for name in before if after[name] != before[name]} == {}


async def test_a_lake_that_does_not_answer_is_a_503_for_what_is_there_and_nothing_else(
    filled_url: str, tmp_path: Path
) -> None:
    place = tmp_path / "lake"
    await asyncio.to_thread(move, filled_url, place)
    place.rename(tmp_path / "away")
    recent = {"from": format_rfc3339(_BORDER), "to": format_rfc3339(NOW), "interval": "raw"}
    for lake in (place, None):
        async with asking(filled_url, lake) as client:
            old = await client.get("/api/v1/telemetry/P0-A", params=_WHOLE | {"interval": "raw"})
            assert old.status_code == httpx.codes.SERVICE_UNAVAILABLE, old.text
            assert (await client.get("/api/v1/telemetry/P0-A", params=recent)).status_code == httpx.codes.OK


_COARSE = ("15m", "1h", "1d")


async def of_windows(client: httpx.AsyncClient, widths: tuple[str, ...]) -> dict[str, bytes]:
    """History by windows, whole and from within a week; the ledger of energy of whole days; raw readings."""
    found = {}
    within = {"from": format_rfc3339(from_ms(START_MS) + timedelta(days=2)), "to": _WHOLE["to"]}
    for station in _STATIONS:
        path = f"/api/v1/telemetry/{station}"
        for bounds in (_WHOLE, within):
            for width in widths:
                parameters = {"interval": width, "limit": "40"} | bounds
                found[f"{station} {parameters}"] = await pages(client, path, parameters, _ACCEPTED[0])
            found[f"{station} energy {bounds}"] = await pages(client, f"{path}/energy", bounds, _ACCEPTED[0])
        raw = {"interval": "raw", "limit": "1000"} | _WHOLE
        found[f"{station} raw"] = await pages(client, path, raw, _ACCEPTED[0])
    return found


async def of_connectors(url: str) -> list[list[tuple[Any, ...]]]:
    """The newest register of each connector, and what is said of stations that nobody registered."""
    database = await open_database(url, name="queries", connections_max=1)
    try:
        store = TelemetryStore(database)
        registers = await store.newest_registers(_STATIONS)
        unclaimed = await store.unclaimed(None, NOW - timedelta(days=1), NOW, 10)
        return [[tuple(row) for row in registers], [tuple(row) for row in unclaimed]]
    finally:
        await database.close()


async def test_coarse_windows_energy_and_raw_readings_are_the_same_once_finer_windows_are_dropped(
    filled_url: str, tmp_path: Path
) -> None:
    connections = Connections(partial(open_writer, filled_url), 2)
    store = Store(connections)
    try:
        async with asking(filled_url, tmp_path) as client:
            before, of_all = await of_windows(client, _COARSE), await of_connectors(filled_url)
            store.drop_windows(NOW, {"1m": 10})
            assert await of_connectors(filled_url) == of_all
            with psycopg.connect(filled_url) as connection:
                minutes = connection.execute("SELECT min(bucket) FROM telemetry.window_1m").fetchone()
            assert minutes is not None
            assert minutes[0] >= from_ms(START_MS) + timedelta(weeks=2)
            assert await of_windows(client, _COARSE) == before
            # And as well when the raw readings are gone, to the lake.
            await asyncio.to_thread(move, filled_url, tmp_path)
            assert await of_windows(client, _COARSE) == before
            # Quarters end too: what they came to stays in those of an hour and a day.
            store.drop_windows(NOW, {"1m": 10, "15m": 10})
            after = await of_windows(client, _COARSE[1:])
            assert after == {name: before[name] for name in after}
            store.drop_windows(NOW, {"1m": 10, "15m": 10, "1h": 10})
            after = await of_windows(client, _COARSE[2:])
            assert after == {name: before[name] for name in after}
    finally:
        connections.close()


async def test_the_ledger_of_energy_is_of_one_moment_while_minutes_are_dropped(
    filled_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = Connections(partial(open_writer, filled_url), 2)
    store, whole = Store(connections), Database.snapshot

    def drop_before(database: Database) -> AbstractAsyncContextManager[Any]:
        store.drop_windows(NOW, {"1m": 10})
        return whole(database)

    path = "/api/v1/telemetry/P0-A/energy"
    within = {"from": format_rfc3339(from_ms(START_MS) + timedelta(days=2, minutes=7)), "to": _WHOLE["to"]}
    try:
        async with asking(filled_url, tmp_path) as client:
            with monkeypatch.context() as patched:
                patched.setattr(Database, "snapshot", drop_before)
                found = await pages(client, path, within, _ACCEPTED[0])
            assert found == await pages(client, path, within, _ACCEPTED[0])
    finally:
        connections.close()


async def test_a_move_while_windows_are_read_neither_hides_nor_repeats_any_and_files_take_no_connection(
    filled_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, parameters = "/api/v1/telemetry/P0-A", {"interval": "1m", "limit": "1000"} | _WHOLE
    whole, of_files = Database.snapshot, LakeReader.rows
    open_now, reads = [0], [0]

    @asynccontextmanager
    async def counted(database: Database) -> AsyncIterator[Any]:
        async with whole(database) as connection:
            open_now[0] += 1
            yield connection
            open_now[0] -= 1

    async def meanwhile(reader: LakeReader, *arguments: Any) -> Any:
        assert open_now == [0]
        found = await of_files(reader, *arguments)
        reads[0] += 1
        if reads[0] == 1:
            await asyncio.to_thread(move, filled_url, tmp_path, window_days=10)
        return found

    async with asking(filled_url, tmp_path) as client:
        before = await pages(client, path, parameters, _ACCEPTED[0])
        await asyncio.to_thread(move, filled_url, tmp_path, window_days=17)  # of the first week
        monkeypatch.setattr(Database, "snapshot", counted)
        monkeypatch.setattr(LakeReader, "rows", meanwhile)
        assert await pages(client, path, parameters, _ACCEPTED[0]) == before
    assert reads[0] > 2


async def test_windows_of_a_minute_are_the_same_once_they_are_in_the_lake(filled_url: str, tmp_path: Path) -> None:
    async with asking(filled_url, tmp_path) as client:
        before = await of_windows(client, ("1m", *_COARSE))
        await asyncio.to_thread(move, filled_url, tmp_path, window_days=10)
        with psycopg.connect(filled_url) as connection:
            files = connection.execute("SELECT sum(rows) FROM telemetry.lake_file WHERE kind = 'window_1m'").fetchone()
            left = connection.execute(
                "SELECT count(*) FROM telemetry.window_1m WHERE bucket < %s", (from_ms(START_MS) + timedelta(weeks=2),)
            ).fetchone()
        assert files is not None
        assert left is not None
        assert files[0] > 2 * left[0]
        after = await of_windows(client, ("1m", *_COARSE))
        assert {name: after[name] for name in before if after[name] != before[name]} == {}
