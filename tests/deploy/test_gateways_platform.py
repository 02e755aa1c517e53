"""The proxies before the services themselves, and a restart of each process under load."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.deploy.proxies import PROXIES
from tests.private_servers import PrivateServers
from tests.proof.rolling.fronted import Fronted, fronted
from tests.proof.rolling.run import rolled
from tests.waiting import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ENOUGH_S = 60


@pytest.fixture(params=PROXIES)
async def platform(
    request: pytest.FixtureRequest,
    servers: PrivateServers,
    tls_servers: PrivateServers,
    authority: Authority,
    database_url: str,
    tmp_path: Path,
) -> AsyncIterator[Fronted]:
    """In the lane of the deployed tools there is no Kafka: what is taken stays in RabbitMQ."""
    async with fronted(
        request.param, servers, tls_servers, authority, database_url, tmp_path,
        drain_s=2.5, upstream_idle_s=1, stores=request.param == "nginx",
    ) as running:  # fmt: skip
        yield running


async def test_no_request_fails_and_no_reading_is_lost_while_each_process_is_restarted(platform: Fronted) -> None:
    stores = platform.front.name == "nginx"
    await _says_who_asked(platform)
    result = await rolled(platform, 1, stored=stores)
    load = result.load
    assert result.failures == []
    assert platform.unexpected() == []
    assert load.streams.answered >= 2  # one ended with its process, and the next began with all there is
    if stores:
        assert (result.lost, result.doubled) == (0, 0)
        assert result.ledger["closed"] is True
        assert result.ledger["quarantined"] == 0


async def _says_who_asked(platform: Fronted) -> None:
    """In the audit, the log and the answer: the client's address and ids, whatever it says of itself."""
    spoofed = {"X-Forwarded-For": "192.0.2.1", "X-Correlation-ID": "from-a-client", "Authorization": "Bearer vso_none"}
    traced = spoofed | {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    with platform.front.client("127.0.0.21") as client:
        refused = client.get("/api/v1/telemetry/ledger", headers=traced)
        assert refused.status_code == 401
        assert refused.headers["x-correlation-id"] == refused.json()["correlation_id"] == "from-a-client"
        assert client.get("/api/v1/telemetry/ledger", headers={"Host": "elsewhere.example"}).status_code == 421
        admin = {"Authorization": f"Bearer {platform.admin_token}"}

        def entries() -> list[dict[str, Any]]:
            found = client.get("/api/v1/audit", headers=admin).json()["entries"]
            return [one for one in found if "from-a-client" in json.dumps(one)]

        (entry, *_) = await eventually(entries, ENOUGH_S)
    assert "127.0.0.21" in json.dumps(entry)
    assert "192.0.2.1" not in json.dumps(entry)

    def lines() -> list[dict[str, Any]]:
        logs = "".join(service.log.read_text(errors="replace") for service in platform.answering)
        return [json.loads(line) for line in logs.splitlines() if "from-a-client" in line]

    (line, *_) = await eventually(lines, ENOUGH_S)
    assert line["correlation_id"] == "from-a-client"
    assert line["trace_id"] == TRACE
