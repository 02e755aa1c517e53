"""The HTTP edge, over a real server: ids, problems, readiness, metrics."""

import json
import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.responses import StreamingResponse
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from kit.auth.requirements import require_scope
from kit.errors import ConfigError, Overloaded, Unavailable
from kit.observability.tracing import current_traceparent, setup_tracing
from kit.web.app import Problem, make_app, serve
from kit.web.json_body import JsonRoute
from kit.web.parameters import problems
from kit.web.route_rules import public

_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


class _Item(BaseModel):
    amount: int


def _router() -> APIRouter:
    router = APIRouter(prefix="/api/v1", dependencies=[Depends(public)], route_class=JsonRoute)

    @router.post("/items/{item_id}", tags=["items"])
    async def put(item_id: int, item: _Item) -> dict[str, str]:
        return {"traceparent": current_traceparent()}

    @router.get("/fail/{how}")
    async def fail(how: str) -> None:
        raise {
            "problem": Problem(409, "it is there already", extensions={"item": 7}),
            "unavailable": Unavailable("redis://u:hush@host does not answer"),
            "overloaded": Overloaded("the buffer is full", retry_after_s=3),
            "bug": ValueError("internal hush"),
        }[how]

    @router.get("/windows")
    async def windows(
        interval: str = "raw", also: Annotated[list[str] | None, Query(alias="station_id")] = None
    ) -> str:
        return interval

    @router.get("/half")
    async def half() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"a"
            raise ValueError("too late for a problem")

        return StreamingResponse(body())

    return router


async def _fails() -> None:
    raise Unavailable("redis does not answer")


async def _breaks() -> None:
    raise ValueError("internal hush")


async def _works() -> None:
    pass


@asynccontextmanager
async def _client(**checks: object) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app("test", "1", registry=CollectorRegistry(), ready=checks)  # type: ignore[arg-type]  # of this file
    app.include_router(_router())
    async with serve(app, "127.0.0.1", 0) as server, httpx.AsyncClient(base_url=server.url) as client:
        yield client


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with _client() as made:
        yield made


@pytest.mark.parametrize("given_id", ["a", "order 7/2", "x" * 128])
async def test_a_correlation_id_comes_back_as_it_was_sent(client: httpx.AsyncClient, given_id: str) -> None:
    response = await client.get("/healthz", headers={"X-Correlation-ID": given_id})
    assert response.headers["X-Correlation-ID"] == given_id


@pytest.mark.parametrize("bad_id", [b"x" * 129, b"caf\xe9", b"tab\there", b""])
async def test_a_bad_correlation_id_is_replaced(client: httpx.AsyncClient, bad_id: bytes) -> None:
    response = await client.get("/healthz", headers={b"X-Correlation-ID": bad_id})
    assert len(response.headers["X-Correlation-ID"]) == 32
    other = await client.get("/healthz")
    assert other.headers["X-Correlation-ID"] != response.headers["X-Correlation-ID"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nothing", b"", 404),
        ("DELETE", "/api/v1/items/1", b"", 405),
        ("POST", "/api/v1/items/1", b"{", 400),
        ("POST", "/api/v1/items/1", b'{"amount": "\xff"}', 400),
        ("POST", "/api/v1/items/x", b"{}", 422),
        ("GET", "/api/v1/fail/problem", b"", 409),
        ("GET", "/api/v1/fail/unavailable", b"", 503),
        ("GET", "/api/v1/fail/overloaded", b"", 503),
        ("GET", "/api/v1/fail/bug", b"", 500),
    ],
)
async def test_every_error_is_a_problem_document(
    client: httpx.AsyncClient, method: str, path: str, content: bytes, status: int
) -> None:
    headers = {"X-Correlation-ID": "mine", "Content-Type": "application/json"}
    response = await client.request(method, path, content=content, headers=headers)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["correlation_id"] == "mine"
    assert {"type", "title", "detail"} <= document.keys()
    assert "hush" not in response.text


async def test_a_validation_problem_lists_every_error_and_no_input(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/v1/items/hush", json={"amount": "hush"})
    assert [error["location"] for error in response.json()["errors"]] == ["path/item_id", "body/amount"]
    assert "hush" not in response.text


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "there is no Content-Type"),
        ({"Content-Type": "text/plain; charset=utf-8"}, "'text/plain; charset=utf-8' is"),
    ],
)
async def test_a_body_that_is_not_said_to_be_json_is_refused_with_the_header_to_send(
    client: httpx.AsyncClient, headers: dict[str, str], says: str
) -> None:
    response = await client.post("/api/v1/items/1", content=b'{"amount": 1}', headers=headers)
    assert response.status_code == 422
    assert says in response.json()["detail"]
    assert "send the header Content-Type: application/json" in response.json()["detail"]


async def test_a_parameter_that_an_operation_does_not_have_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/windows?interval=1h&station_id=A&station_id=B")).json() == "1h"
    refused = await client.get("/api/v1/windows?intervall=1h&intervall=1d&x=")
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"location": "query/intervall", "detail": "there is no such parameter; did you mean interval?"},
        {"location": "query/x", "detail": "there is no such parameter; there are: interval, station_id"},
    ]
    twice = await client.get("/api/v1/windows?interval=1h&interval=1d")
    assert twice.json()["detail"] == "query/interval: is there twice: which of the two is meant? Leave one out"
    alone = await client.get("/api/v1/half", params={"y" * 1_000: "1"})
    assert alone.json()["detail"] == f"query/{'y' * 64}: there is no such parameter; leave it out"
    assert (await client.get("/healthz?probe=1")).status_code == 200


async def test_overload_and_outage_say_when_to_come_back(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/fail/overloaded")).headers["Retry-After"] == "3"
    assert (await client.get("/api/v1/fail/unavailable")).headers["Retry-After"] == "1"
    assert (await client.delete("/healthz")).headers["Allow"] == "GET"


async def test_a_response_that_fails_half_way_does_not_look_complete(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/api/v1/half")


async def test_the_trace_goes_on_from_the_callers(client: httpx.AsyncClient) -> None:
    headers = {"traceparent": f"00-{_TRACE_ID}-00f067aa0ba902b7-01"}
    answer = (await client.post("/api/v1/items/1", json={"amount": 1}, headers=headers)).json()
    version, trace_id, span_id, flags = answer["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", _TRACE_ID, "01")
    assert span_id != "00f067aa0ba902b7"


async def test_a_request_is_one_server_span_named_by_its_route(client: httpx.AsyncClient) -> None:
    exporter = InMemorySpanExporter()
    tracing = setup_tracing("test", exporter=exporter)
    try:
        await client.post("/api/v1/items/1", json={"amount": 1})
    finally:
        tracing.shutdown()
    (span,) = exporter.get_finished_spans()
    assert span.name == "POST /api/v1/items/{item_id}"
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 200


async def test_requests_are_counted_by_template_and_never_by_path(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await client.post(f"/api/v1/items/{number}", json={"amount": 1})
        await client.get(f"/nothing/{number}")
        await client.request("PROPFIND", "/healthz")
    text = (await client.get("/metrics")).text
    name = "http_request_duration_seconds_count"
    assert f'{name}{{method="POST",route="/api/v1/items/{{item_id}}",status="200"}} 3.0' in text
    assert f'{name}{{method="GET",route="unmatched",status="404"}} 3.0' in text
    assert f'{name}{{method="other",route="/healthz",status="405"}} 3.0' in text
    counts = [line.removeprefix(name) for line in text.splitlines() if line.startswith(f"{name}{{")]
    name = "http_requests_total"
    assert counts == [line.removeprefix(name) for line in text.splitlines() if line.startswith(f"{name}{{")]


async def test_ready_says_which_check_fails_and_why() -> None:
    async with _client(redis=_fails, bug=_breaks, postgres=_works) as client:
        response = await client.get("/ready")
        assert response.status_code == 503
        assert response.json()["checks"] == {"redis": "redis does not answer", "bug": "ValueError"}
        assert (await client.get("/healthz")).status_code == 200


async def test_ready_is_ready_when_every_check_works() -> None:
    async with _client(postgres=_works) as client:
        assert (await client.get("/ready")).json() == {"status": "ready", "checks": {"postgres": "ok"}}


async def test_ready_looks_at_checks_that_were_added_after_the_app_was_made() -> None:
    checks: dict[str, object] = {}
    app = make_app("test", "1", registry=CollectorRegistry(), ready=checks)  # type: ignore[arg-type]  # of this file
    checks["redis"] = _fails
    async with serve(app, "127.0.0.1", 0) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/ready")).status_code == 503


async def test_the_openapi_describes_every_error_as_a_problem(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert {"400", "408", "421", "429", "431", "500", "503"} <= operation["responses"].keys()
            errors = {status: one for status, one in operation["responses"].items() if status[0] in "45"}
            assert all("application/problem+json" in one["content"] for one in errors.values())
            assert all(status.isdigit() for status in errors), "a range describes nothing"
    assert "HTTPValidationError" not in json.dumps(schema)
    assert (
        "application/problem+json" in schema["paths"]["/api/v1/items/{item_id}"]["post"]["responses"]["422"]["content"]
    )


def test_the_openapi_names_the_statuses_that_follow_from_a_routes_rules() -> None:
    router = APIRouter(prefix="/api/v1", route_class=JsonRoute)

    @router.get("/open", dependencies=[Depends(public)])
    async def _open() -> None: ...

    @router.get("/own/{name}", dependencies=[Depends(require_scope("stations:read"))])
    async def _own(name: str) -> None: ...

    @router.put("/own", dependencies=[Depends(require_scope("stations:write"))], responses=problems({409: "Taken"}))
    async def _put(value: list[int]) -> None: ...

    app = make_app("test", "1", registry=CollectorRegistry())
    app.include_router(router)
    every = {"200", "400", "408", "421", "422", "429", "431", "500", "503"}
    found = {path: {**one} for path, one in app.openapi()["paths"].items() if path.startswith("/api/")}
    assert found["/api/v1/open"]["get"]["responses"].keys() == every
    assert found["/api/v1/own/{name}"]["get"]["responses"].keys() == every | {"401", "403", "404"}
    assert found["/api/v1/own"]["put"]["responses"].keys() == every | {"401", "403", "409", "413"}


async def test_a_taken_port_is_a_wrong_setting() -> None:
    app = FastAPI()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"VOLTSTREAM_PORT={port}"):
            async with serve(app, "127.0.0.1", port):
                pass
    with pytest.raises(ConfigError, match="VOLTSTREAM_HOST="):
        async with serve(app, "203.0.113.1", 0):  # an address for documentation, never a machine's own
            pass


async def test_what_the_lifespan_raises_reaches_the_caller() -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        raise ConfigError("wrong")
        yield

    with pytest.raises(ConfigError, match="wrong"):
        async with serve(make_app("t", "1", registry=CollectorRegistry(), lifespan=lifespan), "127.0.0.1", 0):
            pass


async def test_a_stopped_server_gives_its_port_free() -> None:
    app = make_app("test", "1", registry=CollectorRegistry())
    async with serve(app, "127.0.0.1", 0) as first:
        port = first.port
    async with serve(app, "127.0.0.1", port) as second, httpx.AsyncClient() as client:
        assert (await client.get(f"{second.url}/healthz")).status_code == 200


_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_REFERENCE = re.compile(r"""(?:src|href|spec-url|url|action)\s*[=:]\s*["']([^"']*)["']""")


@pytest.mark.parametrize(("path", "references"), [("/docs", 4), ("/redoc", 3), ("/", 6)])
async def test_a_page_needs_no_other_host_and_all_that_it_refers_to_is_there(
    client: httpx.AsyncClient, path: str, references: int
) -> None:
    page = await client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "//" not in re.sub(r"<!--.*?-->|^\s*//.*$", "", page.text, flags=re.DOTALL | re.MULTILINE)
    found = _REFERENCE.findall(page.text)
    assert len(found) == references
    for reference in found:
        assert reference.startswith("/")
        answer = await client.get(reference)
        assert answer.status_code == 200, reference
        assert len(answer.content) > 20
    parts = re.split("[;,]", page.headers["Content-Security-Policy"])
    policy = {name: set(sources) for name, *sources in map(str.split, parts)}
    own = {f"'sha256-{b64encode(sha256(one).digest()).decode()}'" for one in _SCRIPT.findall(page.content)}
    assert set().union(*policy.values()) <= {"'self'", "'none'", "'unsafe-inline'", "data:", "blob:"} | own
    assert policy.get("script-src", set()) <= {"'self'"} | own
    assert "'unsafe-inline'" not in policy["default-src"]


async def test_scripts_and_styles_are_served_as_such_and_nothing_else_of_their_folder(
    client: httpx.AsyncClient,
) -> None:
    for name, media_type in (
        ("swagger-ui-bundle.js", "javascript"),
        ("redoc.standalone.js", "javascript"),
        ("swagger-ui.css", "css"),
    ):
        answer = await client.get(f"/docs/assets/{name}")
        assert media_type in answer.headers["Content-Type"]
        assert len(answer.content) > 100_000
    for name in ("../core.py", "..%2fcore.py", "core.py"):
        assert (await client.get(f"/docs/assets/{name}")).status_code == 404


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
async def test_an_encoded_slash_separates_no_parts_of_a_path(client: httpx.AsyncClient, slash: str) -> None:
    assert (await client.get("/api/v1/fail/problem")).status_code == 409
    refused = await client.get(f"/api/v1/fail{slash}problem")
    assert (refused.status_code, refused.headers["Content-Type"]) == (404, "application/problem+json")
    assert "an id in a path cannot have a slash" in refused.json()["detail"]
    assert (await client.get(f"/api/v1/windows?interval=a{slash}b")).json() == "a/b"


async def test_the_root_says_where_things_are(client: httpx.AsyncClient) -> None:
    about = (await client.get("/")).json()
    assert (about["name"], about["version"]) == ("test", "1")
    assert about["apis"] == {"items": ["/api/v1/items"]}
    page = await client.get("/", headers={"Accept": "text/html"})
    assert "<code>/api/v1/items</code>" in page.text
    assert "<script" not in page.text
    assert page.headers["Vary"] == "Accept"
    assert "/" not in (await client.get("/openapi.json")).json()["paths"]
