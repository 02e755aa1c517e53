"""What a device's token may send: readings, new stations, new weeks. Beyond, nothing of the request is taken."""

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, NamedTuple

import httpx
import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ingest.admission import Admitted, DecodedReadings, RefusedItem, WireReading
from ingest.framing import Framer
from ingest.limits import TelemetryBounds, TelemetryLimits
from ingest.limits.novelty import WEEK_MS, KnownStations
from ingest.settings import IngestSettings
from kit.auth.token_store import Principal
from kit.clock import ManualClock, from_ms
from kit.errors import Overloaded
from kit.live.view import InProcessLive
from kit.web.limits import refusals as refusals_module
from kit.web.limits.refusals import Refusals
from kit.web.limits.settings import RequestLimitSettings
from kit.web.problem import Problem
from kit.web.serving.server import RunningServer, serve
from schemas.frame import decode_header
from tests.ingest import conftest
from tests.ingest.conftest import BOUND_DEVICE, DEVICE, ControlledLog, make_gateway_app

PATH: Final = "/api/v1/telemetry"
NOW_MS: Final = 1_780_000_000_000
JSON: Final = "application/json"
ARROW: Final = "application/vnd.apache.arrow.stream"
WAYS: Final = pytest.mark.parametrize("query", ["", "?strict=false"])  # directly, and by the framework


@dataclass
class Gateway:
    """A gateway, its clock and what reached its log."""

    client: httpx.AsyncClient
    clock: ManualClock
    log: ControlledLog
    app: Any
    server: RunningServer

    @property
    def items(self) -> int:
        return sum(decode_header(frame).items for frame in self.log.frames)

    async def post(self, body: Any, token: str = DEVICE, query: str = "", content_type: str = JSON) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body)
        headers = {"authorization": f"Bearer {token}", "content-type": content_type}
        return await self.client.post(PATH + query, content=content, headers=headers)

    async def limited(self, limit: str) -> bool:
        return f'http_requests_limited_total{{limit="{limit}"}}' in (await self.client.get("/metrics")).text


@asynccontextmanager
async def gateway_with(monkeypatch: pytest.MonkeyPatch, **changes: int) -> AsyncIterator[Gateway]:
    settings = IngestSettings().model_copy(update={"linger_ms": 1, **changes})
    monkeypatch.setattr(conftest, "SETTINGS", settings)
    log, clock = ControlledLog(), ManualClock(from_ms(NOW_MS))
    app, _ = make_gateway_app(log, InProcessLive(), clock)
    async with serve(app, "127.0.0.1", 0) as server, httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield Gateway(client, clock, log, app, server)


def reading(station: str = "CP1", weeks_ago: int = 0, seq: int = 0) -> dict[str, Any]:
    return {"station_id": station, "connector_id": 1, "ts": NOW_MS - weeks_ago * WEEK_MS, "seq": seq}


def arrow(rows: list[dict[str, Any]]) -> bytes:
    table = pa.Table.from_pylist(rows)
    types = {"ts": pa.timestamp("ms", tz="UTC"), "connector_id": pa.int16(), "seq": pa.int64()}
    columns = [table.column(name).cast(types.get(name, pa.string())) for name in table.column_names]
    table = pa.table(columns, table.column_names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


# -- the attacks of the review ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [JSON, ARROW])
@WAYS
async def test_a_request_with_100_000_new_stations_reaches_no_log_and_others_are_answered(
    query: str, content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway_with(monkeypatch) as gateway:
        rows = [reading(f"S{number}") for number in range(100_000)]
        body = arrow(rows) if content_type == ARROW else json.dumps(rows).encode()
        refused = await gateway.post(body, query=query, content_type=content_type)
        assert (refused.status_code, refused.json()["reason"]) == (429, "new_stations_limited")
        assert "this request has 100000" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) <= 3_600
        assert refused.headers["RateLimit-Policy"] == '"new_stations";q=20000;w=3600'
        assert gateway.items == 0
        assert (await gateway.post([reading()], BOUND_DEVICE, query)).status_code == 202
        assert await gateway.limited("new_stations")


@pytest.mark.parametrize("content_type", [JSON, ARROW])
@WAYS
async def test_readings_a_week_apart_make_no_more_weeks_than_the_bound(
    query: str, content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals_module, "LATER_S", 0.0)
    async with gateway_with(monkeypatch) as gateway:
        rows = [reading(weeks_ago=number) for number in range(255)]
        body = arrow(rows) if content_type == ARROW else json.dumps(rows).encode()
        refused = await gateway.post(body, query=query, content_type=content_type)
        assert (refused.status_code, refused.json()["reason"]) == (429, "new_weeks_limited")
        statuses = [(await gateway.post([row], query=query)).status_code for row in rows]
        assert statuses == [202] * 60 + [429] * 195
        assert gateway.items == 60
        assert (await gateway.post(rows[:60], query=query)).status_code == 202  # they are there
        assert (await gateway.post([reading()], BOUND_DEVICE, query)).status_code == 202
        gateway.clock.advance(60)
        assert (await gateway.post([rows[60]], query=query)).status_code == 202


@WAYS
async def test_beyond_its_readings_a_token_owes_them_and_no_body_of_it_is_decoded(
    query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = {"station_readings_per_minute_max": 60, "fleet_readings_per_minute_max": 600}
    async with gateway_with(monkeypatch, **bounds) as gateway:
        batch = [reading(seq=number) for number in range(90)]
        assert (await gateway.post(batch, BOUND_DEVICE, query)).status_code == 202  # 30 are owed
        refused = await gateway.post(b"no json" * 1_000, BOUND_DEVICE, query)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "31")
        assert refused.headers["RateLimit-Policy"] == '"readings";q=60;w=60'
        assert (await gateway.post(batch, DEVICE, query)).status_code == 202
        gateway.clock.advance(30)
        assert (await gateway.post([reading()], BOUND_DEVICE, query)).status_code == 429
        gateway.clock.advance(1)
        assert [(await gateway.post([reading()], BOUND_DEVICE, query)).status_code for _ in range(2)] == [202, 429]
        assert gateway.items == 181


@WAYS
async def test_beyond_its_requests_a_token_gets_429_on_either_way(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway_with(monkeypatch) as gateway:
        gateway.app.state.request_limits.follow(lambda: RequestLimitSettings(station_requests_per_minute_max=20))
        answers = [await gateway.post([reading()], BOUND_DEVICE, query) for _ in range(21)]
        assert [answer.status_code for answer in answers] == [202] * 20 + [429]
        assert ["RateLimit" in answer.headers for answer in answers] == [False] * 17 + [True] * 4
        assert answers[-2].headers["RateLimit"] == '"requests";r=0;t=60'
        assert (await gateway.post([reading()], DEVICE, query)).status_code == 202
        gateway.clock.advance(3)
        assert [(await gateway.post([reading()], BOUND_DEVICE, query)).status_code for _ in range(2)] == [202, 429]
        assert gateway.items == 22


async def test_whoever_does_not_heed_its_refusals_is_answered_later_and_read_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gateway_with(monkeypatch) as gateway:
        gateway.app.state.request_limits.follow(lambda: RequestLimitSettings(station_requests_per_minute_max=1))
        monkeypatch.setattr(refusals_module, "LATER_S", 3_600.0)
        monkeypatch.setattr(gateway.server._server.config, "timeout_graceful_shutdown", 1)
        assert [(await gateway.post([reading()], BOUND_DEVICE)).status_code for _ in range(11)] == [202] + [429] * 10
        unheeding = asyncio.create_task(gateway.post([reading()], BOUND_DEVICE))
        _, writer = await asyncio.open_connection(gateway.client.base_url.host, gateway.client.base_url.port)
        request = gateway.client.build_request(
            "POST", PATH, json=[reading()], headers={"authorization": f"Bearer {BOUND_DEVICE}"}
        )
        lines = [f"POST {PATH} HTTP/1.1".encode(), *(b"%b: %b" % header for header in request.headers.raw)]
        writer.write((b"\r\n".join(lines) + b"\r\n\r\n" + request.content) * 1_000)
        assert [(await gateway.post([reading(seq=seq)])).status_code for seq in range(20)] == [202] * 20
        metrics = (await gateway.client.get("/metrics")).text
        assert 'http_requests_limited_total{limit="requests"} 12.0' in metrics, "the first of a thousand waits"
        assert not unheeding.done()
        unheeding.cancel()
        writer.close()
        monkeypatch.setattr(refusals_module, "LATER_S", 0.001)
        later = await gateway.post([reading()], BOUND_DEVICE)
        assert (later.status_code, later.headers["RateLimit-Policy"]) == (429, '"requests";q=1;w=60')
    assert not gateway.server._server.server_state.connections, "no socket stays open behind a server that has stopped"


async def test_a_request_that_the_direct_path_declines_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway_with(monkeypatch) as gateway:
        gateway.app.state.request_limits.follow(lambda: RequestLimitSettings(station_requests_per_minute_max=4))
        noise = np.random.default_rng(1).integers(0, 2**62, 2_000).tolist()
        body = zstandard.compress(json.dumps([reading(seq=number) for number in noise]).encode())
        assert len(body) > 4_096  # it is inflated in a thread
        headers = {
            "authorization": f"Bearer {BOUND_DEVICE}", "content-type": JSON, "content-encoding": "zstd"
        }  # fmt: skip
        statuses = [(await gateway.client.post(PATH, content=body, headers=headers)).status_code for _ in range(5)]
        assert statuses == [202] * 4 + [429]


async def test_a_station_is_new_once_whoever_sends_it_and_however_it_is_spelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gateway_with(monkeypatch, new_stations_per_hour_max=3) as gateway:
        assert (await gateway.post([reading("a"), reading("A"), reading("b")])).status_code == 202
        assert (await gateway.post([reading("CP1")], BOUND_DEVICE)).status_code == 202  # it names its station
        assert (await gateway.post([reading("CP1"), reading("B")])).status_code in (202,)
        both = await gateway.post([reading("d"), reading("e")])
        assert (both.status_code, gateway.items) == (429, 6)
        assert (await gateway.post([reading("A"), reading("b")])).status_code == 202


async def test_zero_is_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    none = dict.fromkeys(
        (
            "station_readings_per_minute_max",
            "fleet_readings_per_minute_max",
            "new_stations_per_hour_max",
            "new_weeks_per_hour_max",
            "quarantined_per_hour_max",
        ),
        0,
    )
    async with gateway_with(monkeypatch, **none) as gateway:
        rows = [reading(f"S{number}", number) for number in range(260)]
        assert (await gateway.post(rows)).status_code == 202


# -- laws -------------------------------------------------------------------------------------------------------------

BOUND: Final = 3  # the token of one station


class Request(NamedTuple):
    """Of an arbitrary sequence. `passed_on`: the gateway has room for it."""

    token: int
    rows: list[tuple[int, int]]  # station, week
    refused: int
    passed_on: bool
    pause_s: int


@dataclass
class Model:
    """What the limits are, in plain words: by token what it spent of each hour, and what is known to the process."""

    bounds: dict[str, int]
    spent_s: dict[tuple[int, str], Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    stations: set[int] = field(default_factory=set)
    weeks: set[int] = field(default_factory=set)

    def pause(self, seconds: int) -> None:
        """An hour's bound comes back in an hour."""
        for key, spent_s in self.spent_s.items():
            self.spent_s[key] = max(Fraction(0), spent_s - seconds)

    def costs_s(self, request: Request) -> dict[str, Fraction]:
        new = {
            "stations": len({station for station, _ in request.rows} - self.stations) if request.token != BOUND else 0,
            "weeks": len({week for _, week in request.rows} - self.weeks),
            "refused": request.refused,
        }
        return {
            name: Fraction(3_600 * new[name], bound) if bound else Fraction(0) for name, bound in self.bounds.items()
        }

    def takes(self, request: Request) -> bool:
        """Stations and weeks fit; one more refused item fits, or, beside readings, is among those that may be owed."""
        costs_s = self.costs_s(request)
        left_s = {name: 3_600 - self.spent_s[request.token, name] for name in self.bounds}
        bound = self.bounds["refused"]
        one_s = Fraction(3_600, bound) if bound and request.refused else Fraction(0)
        owed_s = 3_600 if request.rows else 0
        fits = all(not costs_s[name] or costs_s[name] <= left_s[name] for name in ("stations", "weeks"))
        return fits and (not one_s or one_s <= left_s["refused"] + owed_s)

    def take(self, request: Request) -> None:
        for name, cost_s in self.costs_s(request).items():
            self.spent_s[request.token, name] += cost_s
        self.weeks |= {week for _, week in request.rows}
        if request.token != BOUND:
            self.stations |= {station for station, _ in request.rows}


REQUESTS: Final = st.builds(
    Request,
    st.sampled_from((1, 2, BOUND)),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=5),
    st.integers(0, 4),
    st.booleans(),
    st.integers(0, 1_500),
)
BOUNDS: Final = st.fixed_dictionaries({name: st.integers(0, 8) for name in ("stations", "weeks", "refused")})


@given(BOUNDS, st.lists(REQUESTS, max_size=40))
def test_what_is_taken_is_spent_and_what_is_not_taken_costs_nothing(
    bounds: dict[str, int], requests: list[Request]
) -> None:
    clock, model = ManualClock(), Model(bounds)
    given_bounds = TelemetryBounds(
        quarantined_per_hour=bounds["refused"],
        new_stations_per_hour=bounds["stations"],
        new_weeks_per_hour=bounds["weeks"],
    )
    limits = TelemetryLimits(lambda: given_bounds, clock.monotonic_s, Refusals(CollectorRegistry(), clock.monotonic_s))
    buckets = {"stations": limits._new_stations, "weeks": limits._new_weeks, "refused": limits._refused}
    for request in requests:
        clock.advance(request.pause_s)
        model.pause(request.pause_s)
        who = Principal("device", uuid.UUID(int=request.token), frozenset({"S0"}) if request.token == BOUND else None)
        items = admitted(request.rows, request.refused)
        if not model.takes(request):
            with pytest.raises(Problem, match="is reached") as refused:
                limits.judge(who, items)
            assert int(refused.value.headers["Retry-After"]) >= 1
        elif request.passed_on:
            costs = limits.judge(who, items)
            if costs is not None:
                limits.take(costs)
            model.take(request)
        else:
            limits.judge(who, items)
        for name, spent in buckets.items():
            for token in (1, 2, BOUND):
                assert spent.wait_s(token, 3_600.0) == pytest.approx(float(model.spent_s[token, name]), abs=1e-5)


def admitted(rows: list[tuple[int, int]], refused: int = 0) -> Admitted:
    readings = [WireReading(station_id=f"S{station}", connector_id=1, ts=0) for station, _ in rows]
    weeks_ms = np.array([week * WEEK_MS for _, week in rows], np.int64)
    items = [RefusedItem(at, "malformed", "no", b"{", None) for at in range(refused)]
    return Admitted(DecodedReadings(readings, weeks_ms), items)


@WAYS
async def test_a_request_that_is_refused_for_another_reason_makes_nothing_known_and_spends_nothing(
    query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = {"new_stations_per_hour_max": 2, "new_weeks_per_hour_max": 2, "quarantined_per_hour_max": 1}
    async with gateway_with(monkeypatch, **bounds) as gateway:
        bad = {"station_id": "A"}
        assert (await gateway.post([reading("A"), bad, bad], query=query)).status_code == 202
        for _ in range(5):
            mixed = await gateway.post([reading("B", 1), bad], query=query)
            assert (mixed.status_code, mixed.json()["reason"]) == (429, "quarantine_limited")
        assert (await gateway.post([reading("B", 1)], query=query)).status_code == 202
        assert (await gateway.post([reading("C")], query=query)).status_code == 429


@WAYS
async def test_a_request_for_which_there_is_no_room_spends_nothing(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway_with(monkeypatch, new_stations_per_hour_max=1) as gateway:
        with monkeypatch.context() as full:

            def enqueue(*_: object) -> None:
                raise Overloaded("200000 readings are pending already")

            full.setattr(Framer, "enqueue", enqueue)
            assert [(await gateway.post([reading(name)], query=query)).status_code for name in "ABC"] == [503] * 3
        assert (await gateway.post([reading("D")], query=query)).status_code == 202
        assert (await gateway.post([reading("A")], query=query)).status_code == 429


@given(st.lists(st.lists(st.integers(0, 40), max_size=8), max_size=40))
def test_the_newest_stations_are_known_and_memory_is_bounded(requests: list[list[int]]) -> None:
    known = KnownStations(half_max=10)
    recent: list[str] = []
    for numbers in requests:
        stations = [f"s{number}" for number in numbers]
        unknown = known.unknown(stations)
        upper = {station.upper() for station in stations}
        assert unknown <= upper
        assert unknown.isdisjoint(recent[-9:])
        known.add(unknown)
        recent = [station for station in recent if station not in upper] + sorted(upper)
        assert not known.unknown(recent[-1:])
    assert len(known._newer) <= 10
    assert len(known._older) <= 10
