"""The live view asked for, and streamed over real HTTP."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from api.telemetry.live_streams import CHECK_S, HEARTBEAT, LiveStreams
from api.telemetry.models import LiveFleet, LiveStation
from kit.auth.authenticator import REVOCATION_S, Authenticator, TokenCheck
from kit.auth.token_store import Principal
from kit.clock import ManualClock, SystemClock, from_ms
from kit.errors import Overloaded, Unavailable
from kit.live.view import InProcessLive
from kit.web.limits.refusals import Refusals
from kit.web.problem import Problem
from tests.api.conftest import NOW, Api
from tests.api.rows import add_connector
from tests.waiting import eventually

FLEET = "/api/v1/telemetry/live"


def document(
    station_id: str, connector_id: int, power_w: float | None = 0.0, status: str | None = "Available"
) -> bytes:
    return json.dumps(
        {
            "station_id": station_id,
            "connector_id": connector_id,
            "ts": "2026-03-29T08:59:58.000Z",
            "received_at": "2026-03-29T08:59:58.210Z",
            "status": status,
            "power_w": power_w,
            "voltage_v": None,
            "current_a": 1.5,
            "temperature_c": None,
            "soc_pct": None,
            "energy_wh": 12.345,
            "flags": ["late"],
            "session": None,
        }
    ).encode()


def fill(*keys: str, power_w: float = 0.0) -> dict[str, bytes]:
    parts = [key.split("/") for key in keys]
    return {key: document(station, int(number), power_w) for key, (station, number) in zip(keys, parts, strict=True)}


async def test_a_station_shows_its_connectors_in_order(api: Api) -> None:
    for connector_id in (10, 2, 1):
        add_connector(api.database_url, "ST-1", connector_id)
    await api.live.put("telemetry", fill("ST-1/10", "ST-1/2", "ST-10/1"))
    answer = (await api.get("/api/v1/telemetry/st-1/live")).json()
    LiveStation.model_validate(answer)
    assert [row["connector_id"] for row in answer["connectors"]] == [2, 10]
    assert answer["connectors"][0] == json.loads(document("ST-1", 2))
    await api.get("/api/v1/telemetry/ST-10/live", 404)


async def test_the_totals_cover_what_the_limit_leaves_out(api: Api) -> None:
    documents = fill("A/1", "A/2", "A/10", power_w=0.1) | {"B/1": document("B", 1, 1e6, "Charging")}
    documents["C/1"] = document("C", 1, None, None)
    await api.live.put("telemetry", documents)
    answer = (await api.get(FLEET, limit=2)).json()
    LiveFleet.model_validate(answer)
    assert answer["total"] == {
        "stations": 3,
        "connectors": 5,
        "by_status": {"Available": 3, "Charging": 1, "Unknown": 1},
        "power_w": 1_000_000.3,
    }
    assert (answer["truncated"], answer["silent"]) == (True, [])
    assert [(row["station_id"], row["connector_id"]) for row in answer["connectors"]] == [("A", 1), ("A", 2)]


async def test_stations_asked_for_by_name_are_shown_or_named_as_silent(api: Api) -> None:
    for station_id in ("A", "B"):
        add_connector(api.database_url, station_id, 1)
    await api.live.put("telemetry", fill("A/1", "D/1"))
    answer = (await api.get(FLEET, station_id=["a", "b", "c"])).json()
    assert [row["station_id"] for row in answer["connectors"]] == ["A"]
    assert (answer["silent"], answer["truncated"], answer["total"]["stations"]) == (["B", "C"], False, 1)


async def test_stations_named_like_resources_are_reached_in_upper_case(api: Api) -> None:
    for station_id in ("LIVE", "LEDGER", "QUARANTINE"):
        add_connector(api.database_url, station_id, 1)
        assert (await api.get(f"/api/v1/telemetry/{station_id}")).json()["station_id"] == station_id
    assert (await api.get("/api/v1/telemetry/live/live")).json() == {"station_id": "LIVE", "connectors": []}


Event = tuple[int, str, list[dict[str, Any]]]


async def parsed_events(answer: httpx.Response) -> AsyncIterator[Event | str]:
    """The events as a browser reads them, and comments as text."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            yield line
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])["connectors"]
            fields = {}


@contextlib.asynccontextmanager
async def stream(api: Api, path: str, **params: Any) -> AsyncIterator[AsyncIterator[Event | str]]:
    async with api.client.stream("GET", path, params=params or None) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield parsed_events(answer)


async def event_of(events: AsyncIterator[Event | str]) -> Event:
    event = await anext(events)
    assert not isinstance(event, str)
    return event


def summary(event: Event) -> tuple[str, list[tuple[str, int, float]]]:
    _, name, rows = event
    return name, [(row["station_id"], row["connector_id"], row["power_w"]) for row in rows]


async def test_a_stream_is_a_snapshot_and_then_the_changes(api: Api) -> None:
    await api.live.put("telemetry", fill("A/1", "B/1"))
    async with stream(api, f"{FLEET}/stream") as events:
        first = await event_of(events)
        assert summary(first) == ("snapshot", [("A", 1, 0.0), ("B", 1, 0.0)])
        await api.live.put("telemetry", fill("B/1", "C/1", power_w=5.5))
        second = await event_of(events)
        assert summary(second) == ("change", [("B", 1, 5.5), ("C", 1, 5.5)])
        assert first[0] < second[0]


@pytest.mark.parametrize(
    ("path", "params"), [("/api/v1/telemetry/b/live/stream", {}), (f"{FLEET}/stream", {"station_id": ["b", "x"]})]
)
async def test_a_stream_tells_only_of_its_stations(api: Api, path: str, params: dict[str, Any]) -> None:
    add_connector(api.database_url, "B", 1)
    await api.live.put("telemetry", fill("A/1", "B/1", "BB/1"))
    async with stream(api, path, **params) as events:
        assert summary(await event_of(events)) == ("snapshot", [("B", 1, 0.0)])
        await api.live.put("telemetry", fill("A/1", "BB/1", power_w=1))
        await api.live.put("telemetry", fill("A/1", "B/1", power_w=2))
        assert summary(await event_of(events)) == ("change", [("B", 1, 2)])


async def test_an_unknown_station_has_no_stream(api: Api) -> None:
    await api.get("/api/v1/telemetry/X/live/stream", 404)


async def test_a_stream_that_the_client_leaves_is_forgotten(api: Api) -> None:
    async with stream(api, f"{FLEET}/stream") as events:
        await anext(events)
        assert api.streams.count == 1
    await eventually(lambda: api.streams.count == 0)


async def test_streams_end_when_the_server_stops(api: Api) -> None:
    async with stream(api, f"{FLEET}/stream") as events, stream(api, f"{FLEET}/stream") as other:
        await anext(events)
        await anext(other)
        await api.streams.close()
        async with asyncio.timeout(10):  # against hanging: the next heartbeat is due after that
            assert [event async for event in events] == [event async for event in other] == []
        await api.get(f"{FLEET}/stream", 503)
        await api.server.stop()


async def test_a_stream_ends_with_its_token_revoked_or_expired_and_others_go_on(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.streams, "_check_s", 0.001)
    expires_at = from_ms(SystemClock().now_ms()) + timedelta(days=1)  # the database has the machine's time
    revoked, listed = await api.tokens.issue("auditor")
    expiring, _ = await api.tokens.issue("support", expires_at=expires_at)
    tokens = [{"Authorization": f"Bearer {token}"} for token in (revoked, expiring, api.operator_token)]
    async with (
        api.client.stream("GET", f"{FLEET}/stream", headers=tokens[0]) as first,
        api.client.stream("GET", f"{FLEET}/stream", headers=tokens[1]) as second,
        api.client.stream("GET", f"{FLEET}/stream", headers=tokens[2]) as third,
        asyncio.timeout(30),  # against hanging
    ):
        events = [parsed_events(answer) for answer in (first, second, third)]
        for one in events:
            await event_of(one)
        await api.tokens.revoke(listed.token_id)
        api.clock.advance(REVOCATION_S)
        assert [event async for event in events[0]] == []
        assert api.streams.count == 2
        api.clock.set_wall(expires_at)
        api.clock.advance((expires_at - NOW).total_seconds())
        assert [event async for event in events[1]] == []
        await api.live.put("telemetry", fill("A/1"))
        assert summary(await event_of(events[2])) == ("change", [("A", 1, 0.0)])


async def test_a_revoked_token_is_known_within_5_s_whenever_it_is_revoked(api: Api) -> None:
    """Streams ask each CHECK_S. The answer to a question is there at the next one, and a new one is sent then."""
    authenticator: Authenticator = Authenticator(api.tokens, api.clock)
    for steps_before in range(6):
        token, listed = await api.tokens.issue("operator")
        request = Request({"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]})
        await authenticator.require(request, "telemetry:read")
        is_allowed = authenticator.check_of(request)

        async def allowed_after_a_step(is_allowed: TokenCheck = is_allowed) -> bool:
            api.clock.advance(CHECK_S)
            allowed = await is_allowed()
            if authenticator._query is not None:
                authenticator._query.result.result(30)
            return allowed

        for _ in range(steps_before):
            assert await allowed_after_a_step()
        await api.tokens.revoke(listed.token_id)
        steps = 1
        while await allowed_after_a_step():
            steps += 1
        assert steps * CHECK_S <= 5


async def test_a_check_that_fails_for_a_bug_ends_the_stream() -> None:
    async def broken() -> bool:
        raise RuntimeError("a bug")

    streams = LiveStreams(InProcessLive(), check_s=0.0)
    events = streams.events(await streams.subscribe(None, is_allowed=broken))
    await take(events)
    assert [event async for event in events] == []
    await streams.close()


async def test_a_token_for_some_stations_is_shown_those_alone(api: Api) -> None:
    for station_id in ("A", "B", "C"):
        add_connector(api.database_url, station_id, 1)
    await api.live.put("telemetry", fill("A/1", "B/1", "C/1"))
    token, _ = await api.tokens.issue("operator", stations=["a", "c"])
    api.client.headers["Authorization"] = f"Bearer {token}"
    assert (await api.get(FLEET)).json()["total"]["stations"] == 2
    assert (await api.get(FLEET, station_id="a")).json()["total"]["stations"] == 1
    await api.get(FLEET, 403, station_id=["a", "b"])
    async with stream(api, f"{FLEET}/stream") as events:
        assert summary(await event_of(events)) == ("snapshot", [("A", 1, 0.0), ("C", 1, 0.0)])
    await api.get(f"{FLEET}/stream", 403, station_id="b")
    await api.get("/api/v1/telemetry/A/live")
    await api.get("/api/v1/telemetry/B/live", 403)
    await api.get("/api/v1/telemetry/B/live/stream", 403)
    for path in ("/api/v1/telemetry/ledger", "/api/v1/telemetry/unclaimed"):
        assert "all stations" in (await api.get(path, 403)).json()["detail"]
    nowhere, _ = await api.tokens.issue("operator", stations=[])
    api.client.headers["Authorization"] = f"Bearer {nowhere}"
    await api.get(FLEET, 403)


def _changed_rows(event: bytes) -> list[str]:
    """The stations of a change."""
    assert b"event: change" in event
    return [row["station_id"] for row in json.loads(event.partition(b"data: ")[2])["connectors"]]


async def test_a_stream_of_an_organisation_has_the_stations_that_are_its_own_now() -> None:
    live, own = InProcessLive(), frozenset({"A"})

    async def stations_now() -> frozenset[str]:
        return own

    streams = LiveStreams(live, check_s=0.0)
    await live.put("telemetry", fill("A/1", "B/1", "C/1"))
    events = streams.events(await streams.subscribe(own, stations_now=stations_now))
    assert b'"B"' not in await take(events)
    own = frozenset({"B"})
    assert _changed_rows(await take(events)) == ["B"], "all of what came to it"
    own = frozenset({"B", "C"})
    assert _changed_rows(await take(events)) == ["B", "C"]
    await streams.close()


async def take(source: AsyncIterator[bytes]) -> bytes:
    """One event or comment, put together from its pieces."""
    text = b""
    while not text.endswith(b"\n\n"):
        text += await anext(source)
    return text


async def test_a_silent_stream_beats() -> None:
    streams = LiveStreams(InProcessLive(), heartbeat_s=0.001)
    events = streams.events(await streams.subscribe(None))
    assert b"snapshot" in await take(events)
    assert [await take(events), await take(events)] == [HEARTBEAT, HEARTBEAT]
    await streams.close()


async def test_a_slow_client_skips_what_was_overtaken() -> None:
    live = InProcessLive()
    streams = LiveStreams(live)
    client = await streams.subscribe(None)
    events = streams.events(client)
    await take(events)
    for power_w in range(5_000):
        await live.put("telemetry", fill("A/1", power_w=power_w))
    await live.put("telemetry", fill("B/1"))
    await eventually(lambda: streams.behind(client) == 2)
    change = json.loads((await take(events)).partition(b"data: ")[2])
    assert [row["power_w"] for row in change["connectors"]] == [4_999, 0.0]
    await streams.close()


def documents_of(event: bytes) -> dict[str, int]:
    rows = json.loads(event.partition(b"data: ")[2])["connectors"]
    return {f"{row['station_id']}/{row['connector_id']}": row["power_w"] for row in rows}


_KEYS = [f"{station}/{number}" for station in "ABC" for number in (1, 2)]
_PUTS = st.lists(st.sampled_from(_KEYS), min_size=1, max_size=4)


@given(
    wanted=st.lists(st.none() | st.frozensets(st.sampled_from("ABC"), min_size=1), min_size=1, max_size=4),
    steps=st.lists(_PUTS | st.integers(0, 3), max_size=25),
    remembered=st.integers(0, 12),
)
def test_however_slowly_each_client_reads_it_has_the_newest_documents_in_the_end(
    wanted: list[frozenset[str] | None], steps: list[list[str] | int], remembered: int
) -> None:
    """A step is a put of these keys, or one client reads a piece of what it is sent; a piece has two documents."""

    async def scenario() -> None:
        live, power_w = InProcessLive(), 0
        streams = LiveStreams(live)
        clients = [await streams.subscribe(stations) for stations in wanted]
        sources = [streams.events(client) for client in clients]
        views: list[dict[str, int]] = [{} for _ in clients]
        parts = [b"" for _ in clients]

        async def read(number: int) -> None:
            parts[number] += await anext(sources[number])
            if parts[number].endswith(b"\n\n"):
                views[number] |= documents_of(parts[number])
                parts[number] = b""

        for number in range(len(clients)):
            await read(number)
        truth: dict[str, int] = {}
        for step in steps:
            if isinstance(step, list):
                power_w += 1
                truth |= dict.fromkeys(step, power_w)
                await live.put("telemetry", fill(*step, power_w=power_w))
                for _ in range(5):
                    await asyncio.sleep(0)  # the watcher is told
            elif parts[step % len(clients)] or streams.behind(clients[step % len(clients)]):
                await read(step % len(clients))
        for number, client in enumerate(clients):
            while parts[number] or streams.behind(client):
                await read(number)
            assert views[number] == {key: value for key, value in truth.items() if client.wants(key)}
        await streams.close()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("api.telemetry.live_streams._DOCUMENTS_PER_PIECE", 2)
        patched.setattr("api.telemetry.live_streams._KEYS_REMEMBERED_MAX", remembered)
        asyncio.run(scenario())


async def test_clients_in_step_are_sent_the_same_pieces() -> None:
    live = InProcessLive()
    streams = LiveStreams(live)
    sources = [streams.events(await streams.subscribe(None)) for _ in range(20)]
    for source in sources:
        await take(source)
    await live.put("telemetry", fill("A/1", "B/1"))
    pieces = [await anext(source) for source in sources]
    assert len({id(piece) for piece in pieces}) == 1
    assert documents_of(pieces[0]) == {"A/1": 0, "B/1": 0}
    await streams.close()


async def test_a_document_of_several_lines_stays_one_event() -> None:
    live = InProcessLive()
    await live.put("telemetry", {"A/1": b'{\n "station_id": "A"\n}'})
    streams = LiveStreams(live)
    text = await take(streams.events(await streams.subscribe(None)))
    assert text.count(b"\n") == 4
    assert json.loads(text.partition(b"data: ")[2]) == {"connectors": [{"station_id": "A"}]}
    await streams.close()


async def test_streams_are_bounded() -> None:
    streams = LiveStreams(InProcessLive(), streams_max=2)
    first, _ = await streams.subscribe(None), await streams.subscribe(None)
    with pytest.raises(Overloaded, match="2 live streams"):
        await streams.subscribe(None)
    streams.leave(first)
    await streams.subscribe(None)
    await streams.close()


async def test_streams_of_one_token_end_where_its_bound_is_and_leave_room_for_others() -> None:
    clock, most = ManualClock(), 3
    refusals = Refusals(CollectorRegistry(), clock.monotonic_s)
    streams = LiveStreams(InProcessLive(), streams_max=8, per_token_max=lambda: most, refusals=refusals)
    first, second = (Principal("operator", uuid.UUID(int=number), None) for number in (1, 2))
    own = [await streams.subscribe(None, first) for _ in range(3)]
    for _ in range(100):
        with pytest.raises(Problem, match="3 live streams of this token") as refused:
            await streams.subscribe(None, first)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "10")
    assert refused.value.headers["RateLimit-Policy"] == '"streams";q=3'
    theirs = [await streams.subscribe(None, second) for _ in range(3)]
    streams.leave(own[0])
    streams.leave(own[0])  # as often as it likes
    own[0] = await streams.subscribe(None, first)
    with pytest.raises(Problem):
        await streams.subscribe(None, first)
    most = 0
    own += [await streams.subscribe(None, first) for _ in range(2)]
    for client in (*own, *theirs):
        streams.leave(client)
    assert not streams._by_token
    await streams.close()


async def test_a_stream_beyond_the_bound_of_its_token_is_answered_429(api: Api) -> None:
    api.streams._per_token_max = lambda: 1
    async with api.client.stream("GET", "/api/v1/telemetry/live/stream") as stream:
        assert stream.status_code == 200
        refused = await api.client.get("/api/v1/telemetry/live/stream")
        assert (refused.status_code, refused.json()["reason"]) == (429, "streams_limited")
        other, _ = await api.tokens.issue("operator")
        headers = {"authorization": f"Bearer {other}"}
        async with api.client.stream("GET", "/api/v1/telemetry/live/stream", headers=headers) as beside:
            assert beside.status_code == 200


class Flickering(InProcessLive):
    """A view whose watchers can be cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.cuts = asyncio.Event()
        self.watched = 0

    @contextlib.asynccontextmanager
    async def watch(self, topic: str) -> AsyncIterator[AsyncIterator[Any]]:
        async def cut() -> AsyncIterator[Any]:
            await self.cuts.wait()
            raise Unavailable("cut off")
            yield {}

        self.watched += 1
        if self.watched == 1:
            yield cut()
        else:
            async with super().watch(topic) as changes:
                yield changes


async def test_changes_missed_while_the_view_was_away_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.telemetry.live_streams._WATCH_AGAIN_S", 0.0)
    live = Flickering()
    await live.put("telemetry", fill("A/1", "B/1"))
    streams = LiveStreams(live)
    events = streams.events(await streams.subscribe(None))
    await take(events)
    await live.put("telemetry", fill("B/1", power_w=7))
    live.cuts.set()
    change = json.loads((await take(events)).partition(b"data: ")[2])
    assert [(row["station_id"], row["power_w"]) for row in change["connectors"]] == [("B", 7)]
    await streams.close()
