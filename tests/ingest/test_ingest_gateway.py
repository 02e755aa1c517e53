"""Laws of the gateway over real HTTP: an exact answer to every request, nothing half-accepted, never a 500."""

import gzip
import json
import socket
import time
import tracemalloc
import zlib
from typing import Any

import httpx
import pyarrow as pa
import pytest
import schemathesis
import zstandard
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from ingest.bodies import inflate
from ingest.errors import TooLarge
from kit.live.view import InProcessLive
from schemas.frame import FrameKind, decode_body, decode_header
from schemas.reading import with_all_columns
from tests.ingest.conftest import (
    BOUND_DEVICE,
    DEVICE,
    OPERATOR,
    SETTINGS,
    ControlledLog,
    RunningGateway,
    make_gateway_app,
)

PATH = "/api/v1/telemetry"
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}


def reading(**changes: Any) -> dict[str, Any]:
    return {"station_id": "CP1", "connector_id": 1, "ts": int(time.time() * 1_000), "power_w": 11_000.5} | changes


def post(
    gateway: RunningGateway, body: Any, headers: dict[str, str] | None = None, token: str | None = None
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with gateway.client() if token is None else gateway.client(token) as client:
        return client.post(PATH, content=content, headers=JSON | (headers or {}))


def rows(gateway: RunningGateway, kind: FrameKind) -> list[dict[str, Any]]:
    frames = [frame for frame in gateway.log.frames if decode_header(frame).kind == kind]
    return [row for frame in frames for row in with_all_columns(decode_body(frame)).to_pylist()]


def assert_problem(response: httpx.Response, status: int, words: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "correlation_id"} <= set(document)
    assert words in document["detail"]
    return document


def test_one_reading_is_durable_before_the_202(gateway: RunningGateway) -> None:
    response = post(gateway, reading(seq=7))
    assert (response.status_code, response.json()) == (202, {"accepted": 1, "quarantined": []})
    assert [(row["station_id"], row["seq"], row["power_mw"]) for row in rows(gateway, FrameKind.READINGS)] == [
        ("CP1", 7, 11_000_500)
    ]


def test_correlation_id_and_trace_travel_in_the_frame(gateway: RunningGateway) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    response = post(gateway, reading(), {"X-Correlation-ID": "abc", "traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert response.headers["x-correlation-id"] == "abc"
    header = decode_header(gateway.log.frames[0])
    assert header.correlation_id == "abc"
    assert header.traceparent.split("-")[1] == trace


def test_bad_items_are_listed_and_kept_and_good_ones_pass(gateway: RunningGateway) -> None:
    response = post(gateway, [reading(seq=1), reading(connector_id="one"), reading(seq=3)])
    answer = response.json()
    assert (response.status_code, answer["accepted"]) == (202, 2)
    (item,) = answer["quarantined"]
    assert (item["index"], item["reason"]) == (1, "wrong_type")
    assert item["detail"] == "connector_id must be an integer, this is a string"
    assert [row["seq"] for row in rows(gateway, FrameKind.READINGS)] == [1, 3]
    (kept,) = rows(gateway, FrameKind.REFUSED)
    assert (kept["station_id"], kept["reason"]) == ("CP1", "wrong_type")
    assert json.loads(kept["raw"])["connector_id"] == "one"


def test_fields_that_cannot_be_and_unknown_ones_are_told_and_kept_beside_the_reading(gateway: RunningGateway) -> None:
    sent = [reading(seq=1), reading(seq=2, soc_pct=65_535, energy_wh="5000.0", vendor_mode="eco", frequency_hz=50)]
    response = post(gateway, sent)
    assert response.status_code == 202
    assert response.json() == {
        "accepted": 2,
        "quarantined": [],
        "dropped": [{"index": 1, "field": "soc_pct", "reason": "absurd"}],
        "unknown_fields": ["vendor_mode"],
    }
    plain, detailed = rows(gateway, FrameKind.READINGS)
    assert (plain["extra"], detailed["energy_mwh"]) == (None, 5_000_000)
    assert detailed["extra"] == '{"dropped":{"soc_pct":65535},"frequency_hz":50,"vendor_mode":"eco"}'
    with gateway.client() as client:
        assert 'ingest_fields_dropped_total{reason="absurd"}' in client.get("/metrics").text


def test_dropped_fields_beyond_the_list_are_counted(gateway: RunningGateway) -> None:
    answer = post(gateway, [reading(seq=at, soc_pct=-1) for at in range(130)]).json()
    assert (len(answer["dropped"]), answer["dropped_omitted"]) == (100, 30)


@pytest.mark.parametrize("value", ["true", "True", "1"])
def test_strict_refuses_unknown_and_impossible_fields(gateway: RunningGateway, value: str) -> None:
    body = json.dumps([reading(seq=1), reading(energy_kwh=2), reading(soc_pct=65_535), reading(power_w="5")])
    with gateway.client() as client:
        answer = client.post(PATH, params={"strict": value}, content=body, headers=JSON).json()
        assert answer["accepted"] == 1
        assert [item["reason"] for item in answer["quarantined"]] == ["unknown_field", "absurd", "wrong_type"]
        assert answer["quarantined"][0]["detail"] == "unknown field energy_kwh; send energy_wh in watt-hours"
        assert "dropped" not in answer
        alone = client.post(PATH, params={"strict": value}, json=reading(energy_kwh=2))
        assert assert_problem(alone, 422, "energy_wh")["reason"] == "unknown_field"
        for query in ("strict=false", "strict=0", "&"):
            assert client.post(f"{PATH}?{query}", content=body, headers=JSON).json()["accepted"] == 4


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("strict=maybe", "strict is true or false"),
        ("strict=", "strict is true or false"),
        ("strict=true&strict=2", "strict is true or false"),
        ("stict=true", "did you mean strict?"),
        ("&".join(f"a{at}=1" for at in range(2_000)), "there is no such parameter"),
    ],
)
def test_a_query_that_is_not_understood_is_refused(gateway: RunningGateway, query: str, words: str) -> None:
    with gateway.client() as client:
        response = client.post(f"{PATH}?{query}", json=reading())
    assert_problem(response, 422, "")
    assert words in response.text
    assert gateway.log.frames == []


def test_one_damaged_item_of_an_array_costs_no_other(gateway: RunningGateway) -> None:
    good = json.dumps(reading()).encode()
    answer = post(gateway, b"[%b,%b,%b]" % (good, good[:-1] + b',"soc_pct":NaN}', good)).json()
    assert answer["accepted"] == 2
    assert [(item["index"], item["reason"]) for item in answer["quarantined"]] == [(1, "malformed")]


def test_an_array_of_bad_items_is_quarantined(gateway: RunningGateway) -> None:
    response = post(gateway, [reading(seq=-1)])
    assert (response.status_code, response.json()["accepted"]) == (202, 0)
    assert len(rows(gateway, FrameKind.REFUSED)) == 1


def test_a_single_bad_reading_is_answered_422_and_kept(gateway: RunningGateway) -> None:
    document = assert_problem(post(gateway, reading(seq=-1)), 422, "seq must be 0")
    assert document["reason"] == "out_of_range"
    assert len(rows(gateway, FrameKind.REFUSED)) == 1


def test_an_empty_array_is_accepted_with_no_readings(gateway: RunningGateway) -> None:
    response = post(gateway, b"[]")
    assert (response.status_code, response.json()) == (202, {"accepted": 0, "quarantined": []})
    assert gateway.log.frames == []


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_an_empty_json_body_is_refused(gateway: RunningGateway, body: bytes) -> None:
    assert_problem(post(gateway, body), 400, "the body is empty; send a reading")


def test_ndjson_and_arrow_are_accepted(gateway: RunningGateway) -> None:
    lines = b"\n".join(json.dumps(reading(seq=at)).encode() for at in range(3))
    assert post(gateway, lines, NDJSON).json()["accepted"] == 3
    table = pa.Table.from_pylist([reading(seq=at) for at in range(3, 6)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert post(gateway, sink.getvalue().to_pybytes(), ARROW).json()["accepted"] == 3
    assert sorted(row["seq"] for row in rows(gateway, FrameKind.READINGS)) == list(range(6))


@pytest.mark.parametrize("count", [1, 500])
@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("GZIP", lambda body: gzip.compress(body[:10]) + gzip.compress(body[10:])),
        ("zstd", zstandard.compress),
        ("zstd", lambda body: zstandard.compress(body[:10]) + zstandard.compress(body[10:])),
        ("identity", bytes),
    ],
)
def test_encoded_bodies_are_read(gateway: RunningGateway, count: int, coding: str, compress: Any) -> None:
    body = compress(json.dumps([reading(seq=at) for at in range(count)]).encode())
    assert post(gateway, body, {"Content-Encoding": coding}).json()["accepted"] == count


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_bomb_is_refused_while_it_inflates(gateway: RunningGateway, compress: Any) -> None:
    coding = {"Content-Encoding": "gzip" if compress is gzip.compress else "zstd"}
    bomb = compress(b"[" + b" " * 50_000_000 + b"]")
    assert len(bomb) < SETTINGS.body_bytes_max
    assert_problem(post(gateway, bomb, coding), 413, "inflates to more than 1000000")
    at_the_bound = compress(b"[" + b" " * (SETTINGS.inflated_bytes_max - 2) + b"]")
    assert post(gateway, at_the_bound, coding).status_code == 202


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_a_bomb_never_takes_much_more_memory_than_the_bound(coding: str, compress: Any) -> None:
    bomb = compress(bytes(200_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            inflate(bomb, coding, 100_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 40 << 20  # zstd's slack of 32 MiB, see bodies.py


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_broken_streams_are_refused_with_the_remedy(gateway: RunningGateway, coding: str) -> None:
    compress = gzip.compress if coding == "gzip" else zstandard.compress
    body = compress(json.dumps([reading(seq=at) for at in range(20)]).encode())
    for broken, words in ((body[:-5], "too early"), (b"junk" + body, "broken"), (b"", "too early")):
        assert_problem(post(gateway, broken, {"Content-Encoding": coding}), 400, words)
    assert_problem(post(gateway, compress(b"[]") * 65, {"Content-Encoding": coding}), 400, "more than 64")


def test_raw_deflate_and_stacked_encodings_are_unsupported(gateway: RunningGateway) -> None:
    for coding in ("deflate", "br", "gzip, gzip"):
        response = post(gateway, zlib.compress(b"[]"), {"Content-Encoding": coding})
        assert_problem(response, 415, "gzip, zstd or identity")
        assert "zstd" in response.headers["accept-encoding"]


def test_unsupported_content_types_are_answered_with_the_supported_ones(gateway: RunningGateway) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert_problem(post(gateway, reading(), {"Content-Type": kind}), 415, "application/vnd.apache.arrow.stream")
    assert post(gateway, reading(), {"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 202


def test_a_body_that_is_not_json_is_refused_with_the_position(gateway: RunningGateway) -> None:
    assert assert_problem(post(gateway, b'{"station_id": }'), 400, "at byte 15")["position"] == 15
    assert gateway.log.frames == []


def test_too_many_readings_are_refused_whole(gateway: RunningGateway) -> None:
    lines = b"\n".join([b'{"station_id":"A","connector_id":1,"ts":1}'] * 1_002)
    assert_problem(post(gateway, lines, NDJSON), 413, "at most 1000 readings")
    assert gateway.log.frames == []


def test_oversize_bodies_are_refused_declared_or_not(gateway: RunningGateway) -> None:
    body = b" " * (SETTINGS.body_bytes_max + 1)
    assert_problem(post(gateway, body), 413, "larger than 100000 bytes")
    with gateway.client() as client:
        chunks = (body[at : at + 5_000] for at in range(0, len(body), 5_000))
        assert_problem(client.post(PATH, content=chunks, headers=JSON), 413, "larger than 100000 bytes")
        assert client.post(PATH, content=b"[]", headers=JSON).status_code == 202


def test_a_false_content_length_reserves_nothing(gateway: RunningGateway) -> None:
    url = httpx.URL(gateway.url)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {'vsd_' + 'd' * 43}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 999999999999\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_wrong_tokens_are_refused(gateway: RunningGateway) -> None:
    assert_problem(post(gateway, reading(), token=""), 401, "a token is needed")
    response = post(gateway, reading(), token="vsd_" + "x" * 43)
    assert_problem(response, 401, "unknown, revoked or expired")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert_problem(post(gateway, reading(), token=OPERATOR), 403, "device")
    assert gateway.log.frames == []


def test_a_bound_token_is_for_its_stations_only(gateway: RunningGateway) -> None:
    assert post(gateway, reading(station_id="cp1"), token=BOUND_DEVICE).status_code == 202
    gateway.log.frames.clear()
    for body in (reading(station_id="CP2"), [reading(station_id="CP2"), reading(station_id="CP3")]):
        document = assert_problem(post(gateway, body, token=BOUND_DEVICE), 403, "CP2")
        assert document["reason"] == "station_forbidden"
    assert gateway.log.frames == []
    answer = post(gateway, [reading(station_id="CP2"), reading()], token=BOUND_DEVICE).json()
    assert answer["accepted"] == 1
    assert [item["reason"] for item in answer["quarantined"]] == ["station_forbidden"]


def test_overload_and_outage_are_503_with_retry_after(gateway: RunningGateway) -> None:
    gateway.log.behaviour = "full"
    response = post(gateway, [reading(), reading(seq=-1)])
    assert_problem(response, 503, "the buffer is full")
    assert response.headers["retry-after"] == "3"
    gateway.log.behaviour = "down"
    response = post(gateway, reading())
    assert_problem(response, 503, "try again")
    assert response.headers["retry-after"] == "1"
    gateway.log.behaviour = "fine"
    assert post(gateway, reading()).status_code == 202
    numbers = [decode_header(frame).number for frame in gateway.log.frames]
    assert len(numbers) == len(set(numbers))


def test_metrics_and_openapi_cover_the_request(gateway: RunningGateway) -> None:
    post(gateway, [reading(), reading(seq=-1)])
    with gateway.client() as client:
        text = client.get("/metrics").text
        operation = client.get("/openapi.json").json()["paths"][PATH]["post"]
    assert 'ingest_readings_refused_total{reason="out_of_range"}' in text
    assert 'route="/api/v1/telemetry"' in text
    assert set(operation["requestBody"]["content"]) == {item["Content-Type"] for item in (JSON, NDJSON, ARROW)}
    assert {"202", "400", "401", "403", "413", "415", "422", "503"} <= set(operation["responses"])
    documented = {status: text for status, text in operation["responses"].items() if status.isdigit()}
    assert all("example" in json.dumps(text) for text in documented.values())
    assert operation["security"]


_OPERATION = schemathesis.openapi.from_dict(make_gateway_app(ControlledLog(), InProcessLive())[0].openapi())[PATH][
    "POST"
]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_the_openapi_allows_or_forbids_gives_a_5xx(
    running_gateway: RunningGateway, mode: GenerationMode
) -> None:
    running_gateway.log.behaviour = "fine"
    checks = CHECKS.get_by_names(["not_a_server_error", "response_schema_conformance", "status_code_conformance"])

    @settings(suppress_health_check=list(HealthCheck), max_examples=min(60, settings().max_examples))
    @given(case=_OPERATION.as_strategy(generation_mode=mode))
    def answers_well(case: Any) -> None:
        headers = {"Authorization": f"Bearer {DEVICE}"}
        case.call_and_validate(base_url=running_gateway.url, headers=headers, checks=checks)

    answers_well()
