"""The proxies before the services: both are started with what is generated, before stand-ins that say what came."""

import itertools
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.gateways.__main__ import FOLDER, configurations
from deploy.gateways.routing import REPEATABLE, operations, routings
from deploy.gateways.site import CERTIFICATE_HEADERS, Site
from tests.certificates import Authority
from tests.deploy import http2
from tests.deploy.proxies import PROXIES, Front, addresses, fronting
from tests.deploy.standins import STREAM_PATH, ServiceStandIn, running
from tests.private_servers import PrivateServers
from tests.waiting import eventually

BURST, AT_ONCE = 80, 6
UNANSWERED = ("gateway", "sessions")  # by one of their processes
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# Not public: what the services have for those who run them, and ways around.
HIDDEN = (
    "/metrics", "/ready", "/healthz", "/docs", "/redoc", "/openapi.json", "/", "/api", "/api/v1", "/api/v1/metrics",
    "/api/v1/telemetry/../../../metrics", "/api/v1/telemetry/%2e%2e/%2e%2e/%2e%2e/metrics", "//metrics",
    "/api/v1/telemetryx", "/api/v1/stations%2f..%2f..%2f..%2fmetrics",
)  # fmt: skip


@pytest.mark.usefixtures("processes")  # libraries ask for the kind of machine
def test_the_files_are_those_of_the_services_as_they_are() -> None:
    """`python -m deploy.gateways` writes them."""
    for path, text in configurations(Site()).items():
        assert (FOLDER / path).read_text(encoding="utf-8") == text, path


@pytest.mark.usefixtures("processes")
def test_every_operation_has_one_service_and_every_service_a_routing() -> None:
    found = routings()
    for operation in operations():
        exact = [one for one in found if operation.path in one.exact]
        below = [one for one in found if any(f"{operation.path}/".startswith(f"{p}/") for p in one.prefixes)]
        (winner,) = exact or below
        assert winner.service == operation.service, operation
        assert winner.body_bytes_max >= operation.body_bytes_max
    assert {one.service for one in found if one.repeatable} == REPEATABLE


@pytest.fixture(scope="module")
def standins() -> Iterator[dict[str, list[ServiceStandIn]]]:
    """One of each service, and of `gateway` and `sessions` another, which does not answer."""
    names = [one.service for one in routings()]
    with running(
        lambda: [
            *(ServiceStandIn(name) for name in names),
            ServiceStandIn("ocpp"),
            *(ServiceStandIn(name, answers=False) for name in UNANSWERED),
        ]
    ) as found:
        yield found


@pytest.fixture(scope="module", params=PROXIES)
def front(
    request: pytest.FixtureRequest,
    tls_servers: PrivateServers,
    authority: Authority,
    standins: dict[str, list[ServiceStandIn]],
) -> Iterator[Front]:
    """Each other service has a second process that is away."""
    servers = {name: [one.address for one in some] for name, some in standins.items()}
    (ocpp,) = servers.pop("ocpp")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        away = "{}:{}".format(*nobody.getsockname())
        site = Site(
            addresses({name: some if name in UNANSWERED else [*some, away] for name, some in servers.items()}),
            ocpp=(ocpp,), requests_per_s=5, requests_burst=BURST, requests_at_once=AT_ONCE,
        )  # fmt: skip
        with fronting(request.param, tls_servers, authority, site) as found:
            yield found


def test_every_operation_reaches_its_service(front: Front) -> None:
    with front.client("127.0.0.10") as one_half, front.client("127.0.0.20") as other_half:
        for one, client in zip(operations(), itertools.cycle((one_half, other_half)), strict=False):
            if one.service in UNANSWERED and one.method == "POST":
                continue  # of which one process does not answer: below
            path = re.sub(r"\{[^}]*\}", "DE*VLT*E1%23%3F%3Bä", one.path)
            answer = client.request(one.method, path, params={"a": "b c"})
            assert answer.status_code == 200, (one, answer.text)
            said = answer.json()
            assert (said["service"], said["method"]) == (one.service, one.method), one
            assert said["path"] == httpx.URL(f"{path}?a=b+c").raw_path.decode(), one


def test_nothing_else_is_reached(front: Front, standins: dict[str, list[ServiceStandIn]]) -> None:
    before = [dict(one.requests) for some in standins.values() for one in some]
    address = urlsplit(front.url)
    with front.client("127.0.0.11") as client:
        for path in HIDDEN:
            request = client.build_request("GET", front.url)
            request.url = request.url.copy_with(raw_path=path.encode())
            answer = client.send(request)
            assert answer.status_code in ((404,) if "%2f" not in path else (400, 404, 200)), (path, answer.text)
            if answer.status_code == 200:
                assert answer.json()["path"] == path  # as it came: services answer 404 themselves
                before = [dict(one.requests) for some in standins.values() for one in some]
    assert [dict(one.requests) for some in standins.values() for one in some] == before
    with socket.create_connection((address.hostname, address.port), timeout=60) as plain:
        plain.sendall(b"GET /api/v1/audit HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert plain.recv(1_024).split()[1] in (b"400", b"404")
    assert [dict(one.requests) for some in standins.values() for one in some] == before


def test_what_a_client_says_of_itself_is_replaced_and_ids_are_passed_on(front: Front) -> None:
    given = {
        "X-Correlation-ID": "a charger's own/1",
        "traceparent": TRACEPARENT,
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "gopher",
        **dict.fromkeys(CERTIFICATE_HEADERS, ":c3Bvb2ZlZA==:"),
        "Authorization": "Bearer vso_x",
        "Idempotency-Key": "k-1",
        "Host": "volt.example",
    }
    with front.client("127.0.0.12") as client:
        came = client.get("/api/v1/audit", headers=given).json()["headers"]
    assert came["x-forwarded-for"] == "127.0.0.12"
    assert came["x-forwarded-proto"] == "https"
    assert set(CERTIFICATE_HEADERS) & set(came) == set()
    for name in ("X-Correlation-ID", "traceparent", "Authorization", "Idempotency-Key", "Host"):
        assert came[name.lower()] == given[name]


@pytest.mark.parametrize(
    "head",
    [b"Host: localhost\r\nHost: elsewhere\r\n", b"Host: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n"],
)
def test_a_request_that_can_be_read_in_two_ways_is_none(front: Front, head: bytes) -> None:
    address = urlsplit(front.url)
    with (
        socket.create_connection(("localhost", address.port), timeout=60) as plain,
        front.context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /api/v1/audit HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n")
        assert connection.recv(1_024).split()[1] == b"400"


def test_http_2_is_spoken(front: Front) -> None:
    address = urlsplit(front.url)
    assert address.port is not None
    found, body = http2.get(front.context, "localhost", address.port, "/api/v1/audit")
    assert found
    assert json.loads(body)["service"] == "audit"


def test_an_event_is_passed_on_at_once(front: Front, standins: dict[str, list[ServiceStandIn]]) -> None:
    """The second is sent once the first has arrived."""
    (stand_in,) = standins["telemetry"]
    stand_in.go_on.clear()
    with front.client("127.0.0.13") as client, client.stream("GET", STREAM_PATH) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line) == "data: first"
        stand_in.go_on.set()
        assert next(line for line in lines if line) == "data: second"


def test_one_address_has_so_many_requests_at_once(front: Front, standins: dict[str, list[ServiceStandIn]]) -> None:
    (stand_in,) = standins["telemetry"]
    stand_in.go_on.clear()
    with ExitStack() as stack:
        client, other = (stack.enter_context(front.client(f"127.0.0.{last}")) for last in (22, 23))
        answers = [stack.enter_context(client.stream("GET", STREAM_PATH)) for _ in range(AT_ONCE)]
        lines = [answer.iter_lines() for answer in answers]  # one that nobody holds closes its stream
        assert [next(one) for one in lines] == ["data: first"] * AT_ONCE
        assert client.get("/api/v1/telemetry/ledger").status_code == 429  # Traefik counts for each service
        assert other.get("/api/v1/telemetry/ledger").status_code == 200
        stand_in.go_on.set()


def test_a_websocket_is_opened(front: Front) -> None:
    address = urlsplit(front.url)
    with (
        socket.create_connection(("localhost", address.port), timeout=60) as plain,
        front.context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(
            b"GET /ocpp/DE*VLT*E1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp2.0.1\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        with connection.makefile("rb") as incoming:
            assert incoming.readline().split()[1] == b"101"
            while incoming.readline() != b"\r\n":
                pass
            connection.sendall(b"eight oc")
            assert incoming.read(8) == b"eight oc"


@pytest.mark.parametrize(("service", "path"), [("gateway", "/api/v1/telemetry"), ("sessions", "/api/v1/sessions")])
def test_what_may_be_taken_twice_is_sent_again_and_nothing_else(
    front: Front, standins: dict[str, list[ServiceStandIn]], service: str, path: str
) -> None:
    """Of two processes one takes requests and does not answer."""
    tries = 12
    before = sum(one.requests["POST"] for one in standins[service])
    with front.client("127.0.0.14") as client:
        posted = [client.post(path, json={}).status_code for _ in range(tries)]
        read = [client.get(path).status_code for _ in range(tries)]
    sent = sum(one.requests["POST"] for one in standins[service]) - before
    if service == "gateway":
        assert posted == [200] * tries
        assert sent > tries
    else:
        assert set(posted) <= {200, 502}
        assert sent == tries
    assert read == [200] * tries


def test_a_body_is_as_long_as_its_service_takes(front: Front) -> None:
    """Traefik would have to keep each body, and buffer each answer, so there the service says it."""
    longest = {one.service: one.body_bytes_max for one in routings()}
    with front.client("127.0.0.15") as client:
        taken = client.put("/api/v1/stations/x", content=b"x" * longest["stations"])
        assert taken.json()["body_bytes"] == longest["stations"]
        if front.name == "nginx":
            refused = client.put("/api/v1/pricing/demand/default", content=b"x" * (longest["pricing"] + 1))
            assert refused.status_code == 413
            assert_problem(refused, 413)


def test_a_flood_from_one_address_is_told_to_come_back_and_others_are_not(front: Front) -> None:
    own_id = {"X-Correlation-ID": 'quoted "id"'}
    with front.client("127.0.0.16") as client, front.client("127.0.0.17") as other:
        for _ in range(BURST * 10):
            answer = client.get("/api/v1/audit", headers=own_id)
            if answer.status_code != 200:
                break
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 0
        if front.name == "nginx":
            assert_problem(answer, 429)
        assert other.get("/api/v1/audit").status_code == 200


def assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["correlation_id"] == answer.headers["x-correlation-id"]


async def test_a_request_is_logged_with_its_ids_and_not_its_query(front: Front) -> None:
    with front.client("127.0.0.18") as client:
        ids = {"X-Correlation-ID": "a-logged-one", "traceparent": TRACEPARENT}
        client.get("/api/v1/audit?secret=hunter2", headers=ids)

    def line() -> str:
        whole = front.log.read_text(errors="replace").rpartition("\n")[0]  # not a line that is half there
        return next((one for one in whole.splitlines() if "a-logged-one" in one), "")

    logged = await eventually(line, 60)
    assert TRACEPARENT in logged
    assert "127.0.0.18" in logged
    assert json.loads(logged)
    assert "hunter2" not in front.log.read_text(errors="replace")
