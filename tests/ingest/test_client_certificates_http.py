"""Devices by client certificate, behind a real nginx that ends TLS, and who tries to be one without."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from deploy.servers import Nginx
from ingest.gateway import PATH
from kit.live.view import InProcessLive
from kit.tls import client_context
from kit.web.app import serve
from kit.web.serving.proxies import TrustedProxies
from schemas.frame import FrameKind, decode_body, decode_header
from tests.certificates import Authority, ClientFiles
from tests.ingest.conftest import CERTIFICATE, DEVICE, ControlledLog, make_gateway_app
from tests.private_servers import PrivateServers

HEADER = "SSL-Client-Cert"


def reading(station_id: str = "CP1") -> dict[str, Any]:
    return {"station_id": station_id, "connector_id": 1, "ts": datetime.now(UTC).isoformat(), "power_w": 11_000}


@asynccontextmanager
async def gateway(proxies: str, header: str = HEADER.lower()) -> AsyncIterator[tuple[str, ControlledLog]]:
    """A gateway that trusts these proxies: its URL and its log."""
    log = ControlledLog()
    app, _ = make_gateway_app(log, InProcessLive())
    async with serve(app, "127.0.0.1", 0, proxies=TrustedProxies.of(proxies, header)) as server:
        yield server.url, log


def stations_in(log: ControlledLog) -> set[str]:
    """Of the readings that were accepted."""
    frames = (frame for frame in log.frames if decode_header(frame).kind == FrameKind.READINGS)
    return {str(row["station_id"]) for frame in frames for row in decode_body(frame).to_pylist()}


async def post(client: httpx.AsyncClient, body: Any, headers: httpx.Headers | dict[str, str] | None = None) -> int:
    return (await client.post(PATH, json=body, headers=headers)).status_code


async def test_behind_nginx_a_certificate_is_the_device_of_its_station(
    tls_servers: PrivateServers, authority: Authority, tmp_path: Path
) -> None:
    nginx = cast("Nginx", tls_servers.nginx)
    cp1, cp2, nobody = (authority.client(f"{name}.example") for name in ("cp1", "cp2", "nobody"))
    over = authority.client("cp1.example", now=datetime.now(UTC) - timedelta(days=3))
    foreign = Authority(tmp_path, "another CA").client("cp1.example")
    async with gateway("127.0.0.1") as (upstream, log):
        nginx.upstream = upstream.removeprefix("http://")
        try:
            url = await asyncio.to_thread(tls_servers.url_of, nginx)
            with_certificate = _clients(url, str(authority.file))
            async with with_certificate(cp1) as client:
                for _ in range(3):  # the last is known without waiting
                    assert await post(client, reading()) == 202
                assert await post(client, reading("CP2")) == 403
                both = (await client.post(PATH, json=[reading(), reading("CP2")])).json()
                assert [entry["reason"] for entry in both["quarantined"]] == ["station_forbidden"]
                assert await post(client, reading(), {"Authorization": f"Bearer {DEVICE}"}) == 202
                for spoofed in (cp2.as_byte_sequence, cp2.as_escaped_pem):  # nginx puts its own in its place
                    headers = httpx.Headers([(HEADER.encode(), spoofed), (b"Client-Cert", spoofed)])
                    assert await post(client, reading("CP2"), headers) == 403
                    assert await post(client, reading(), headers) == 202
            assert "CP2" not in stations_in(log)
            async with with_certificate(cp2) as client:
                assert await post(client, reading("CP2")) == 202
            async with with_certificate(nobody) as client:
                assert await post(client, reading()) == 401
            async with with_certificate(None) as client:
                assert await post(client, reading()) == 401
                headers = httpx.Headers([(HEADER.encode(), cp1.as_escaped_pem)])
                assert await post(client, reading(), headers) == 401
            for refused in (over, foreign):  # by nginx
                async with with_certificate(refused) as client:
                    assert await post(client, reading()) == 400
        finally:
            await asyncio.to_thread(nginx.destroy)


def _clients(url: str, ca_file: str) -> Callable[[ClientFiles | None], httpx.AsyncClient]:
    def made(files: ClientFiles | None) -> httpx.AsyncClient:
        context: ssl.SSLContext = client_context(ca_file)
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        return httpx.AsyncClient(base_url=url, verify=context, trust_env=False)

    return made


@pytest.mark.parametrize(
    ("proxies", "header", "headers", "status"),
    [
        ("127.0.0.1", "client-cert", [(b"client-cert", CERTIFICATE)], 202),
        ("127.0.0.1", "client-cert", [(b"client-cert", CERTIFICATE)] * 2, 401),
        ("127.0.0.1", "client-cert", [(b"client-cert", b"\xff")], 401),
        ("127.0.0.1", "client-cert", [(b"client-cert", b"::")], 401),
        ("127.0.0.1", "client-cert", [(b"ssl-client-cert", CERTIFICATE)], 401),
        ("127.0.0.1", "", [(b"client-cert", CERTIFICATE)], 401),
        ("10.0.0.7", "client-cert", [(b"client-cert", CERTIFICATE)], 401),
        ("", "", [(b"client-cert", CERTIFICATE)], 401),
    ],
    ids=["trusted", "twice", "garbage", "empty", "another header", "no header is set", "another proxy", "nobody"],
)
async def test_the_header_counts_once_from_a_trusted_proxy_alone(
    proxies: str, header: str, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    async with gateway(proxies, header) as (url, log), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for _ in range(2):
            assert await post(client, reading(), httpx.Headers(headers)) == status
    assert stations_in(log) == ({"CP1"} if status == 202 else set())
