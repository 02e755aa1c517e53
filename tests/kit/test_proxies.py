"""Proxies: what they say of a client counts where they are trusted, and nowhere else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import cast

import httpx
import pytest
from fastapi import APIRouter, Depends, Request
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from deploy.servers import Nginx
from kit.clock import SystemClock
from kit.errors import ConfigError
from kit.tls import client_context
from kit.web.app import make_app, serve
from kit.web.route_rules import public
from kit.web.serving.proxies import HOPS_MAX, TrustedProxies, scheme_of
from tests.certificates import Authority
from tests.private_servers import PrivateServers
from voltstream.settings import load_settings

PROXIES = TrustedProxies.of("10.0.0.0/8, 2001:db8::/32, 127.0.0.1")
INNER = st.sampled_from(["10.0.0.7", "10.9.8.7", "2001:db8::1", "::ffff:10.0.0.7", "127.0.0.1"])
OUTER = st.sampled_from(["192.0.2.1", "2001:db9::1", "203.0.113.9", "::1"])
NOISE = st.binary(max_size=30).filter(lambda octets: b"," not in octets)


def for_(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value) for value in values]


def written(address: str, port: int | None) -> bytes:
    if port is None:
        return address.encode()
    return (f"[{address}]:{port}" if ":" in address else f"{address}:{port}").encode()


@given(
    st.lists(NOISE, max_size=4),
    OUTER,
    st.lists(INNER, max_size=HOPS_MAX - 1),
    st.none() | st.integers(1, 65_535),
    st.lists(st.booleans(), min_size=HOPS_MAX + 4, max_size=HOPS_MAX + 4),
)
def test_the_client_is_the_last_that_is_no_proxy_whatever_it_says_itself(
    said: list[bytes], client: str, proxies: list[str], port: int | None, lines: list[bool]
) -> None:
    hops = [*said, written(client, port), *(written(proxy, port) for proxy in proxies)]
    values = [hops[0]]
    for hop, begins in zip(hops[1:], lines, strict=False):  # in one line or several, which is the same
        values = [*values, hop] if begins else [*values[:-1], values[-1] + b", " + hop]
    assert PROXIES.client_of("10.0.0.1", for_(*values)) == str(ip_address(client))


@given(st.text(max_size=50), st.lists(st.binary(max_size=60), max_size=6))
def test_no_header_is_an_error_and_what_comes_out_is_an_address(peer: str, values: list[bytes]) -> None:
    headers = [*for_(*values), *((b"x-forwarded-proto", value) for value in values)]
    assert PROXIES.trusts(peer) in (True, False)
    found = PROXIES.client_of("10.0.0.1", headers)
    assert str(ip_address(found)) == found
    assert scheme_of(headers) in (None, "http", "https")


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([], "10.0.0.1"),
        ([b""], "10.0.0.1"),
        ([b"unknown"], "10.0.0.1"),
        ([b"192.0.2.1, _hidden"], "10.0.0.1"),  # who was before it, only it could say
        ([b"192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ([b"198.51.100.1, 192.0.2.1"], "192.0.2.1"),
        ([b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ([b"192.0.2.1:80"], "192.0.2.1"),
        ([b"192.0.2.1:x"], "10.0.0.1"),
        ([b'"[2001:db9::1]:80"'], "2001:db9::1"),
        ([b"[2001:db9::1"], "10.0.0.1"),
        ([b"[192.0.2.1]"], "10.0.0.1"),
        ([b"fe80::1%eth0"], "fe80::1"),
        ([b"::ffff:192.0.2.1"], "192.0.2.1"),
        ([b"192.0.2.1", b"10.0.0.2"], "192.0.2.1"),
        ([b", ".join([b"192.0.2.1", *[b"10.0.0.2"] * HOPS_MAX])], "10.0.0.2"),
    ],
)
def test_ways_through_proxies(values: list[bytes], client: str) -> None:
    assert PROXIES.client_of("10.0.0.1", for_(*values)) == client


def test_of_several_schemes_the_nearest_proxys_counts() -> None:
    said = {b"https": "https", b"http, HTTPS": "https", b"https,http": "http", b"ftp": None, b"https,": None, b"": None}
    assert {value: scheme_of([(b"x-forwarded-proto", value)]) for value in said} == said
    assert scheme_of([(b"x-forwarded-proto", b"http"), (b"x-forwarded-proto", b"https")]) == "https"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("proxy.example", "no address or network"),
        ("10.0.0.7/8", "no address or network"),
        ("*", "no address or network"),
        ("0.0.0.0/0", "everybody"),
        ("10.0.0.1, ::/0", "everybody"),
        ("::ffff:10.0.0.0/104", "write it as IPv4"),
    ],
)
def test_what_names_no_proxies_is_a_wrong_setting(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"VOLTSTREAM_TRUSTED_PROXIES=.*{says}"):
        load_settings(trusted_proxies=text)
    assert load_settings(trusted_proxies=" 10.0.0.7 ,::1,").trusted_proxies


@asynccontextmanager
async def site(proxies: str) -> AsyncIterator[httpx.AsyncClient]:
    """A server that says where a request came from, and a client of it."""
    router = APIRouter()

    @router.get("/api/v1/whence", dependencies=[Depends(public)])
    async def whence(request: Request) -> dict[str, str]:
        assert request.client is not None
        return {"address": request.client.host, "scheme": request.url.scheme}

    app = make_app("test", "1", registry=CollectorRegistry(), ready={}, clock=SystemClock())
    app.include_router(router)
    trusted = TrustedProxies.of(proxies)
    async with (
        serve(app, "127.0.0.1", 0, proxies=trusted) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        yield client


SPOOFED = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "Forwarded": "for=192.0.2.2"}


@pytest.mark.parametrize("proxies", ["", "10.0.0.7"])
async def test_who_is_not_trusted_is_who_it_is(proxies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even on this machine, as uvicorn has it by itself, nor by a variable of uvicorn's."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    async with site(proxies) as client:
        answer = await client.get("/api/v1/whence", headers=SPOOFED)
    assert answer.json() == {"address": "127.0.0.1", "scheme": "http"}


async def test_of_one_connection_of_a_trusted_proxy_each_request_has_its_client() -> None:
    async with site("127.0.0.1") as client:
        for headers, address, scheme in (
            (SPOOFED, "192.0.2.1", "https"),
            ({}, "127.0.0.1", "http"),
            ({"X-Forwarded-For": "nobody, 2001:db9::5"}, "2001:db9::5", "http"),
            ({"Forwarded": "for=192.0.2.2;proto=https"}, "127.0.0.1", "http"),
        ):
            answer = await client.get("/api/v1/whence", headers=headers)
            assert answer.json() == {"address": address, "scheme": scheme}


async def test_behind_nginx_with_tls_the_client_is_who_it_sees(
    tls_servers: PrivateServers, authority: Authority
) -> None:
    """Two clients, on the connections that nginx keeps."""
    nginx, context = cast("Nginx", tls_servers.nginx), client_context(str(authority.file))
    async with site("127.0.0.1") as direct, AsyncExitStack() as stack:
        nginx.upstream = f"127.0.0.1:{direct.base_url.port}"
        stack.push_async_callback(asyncio.to_thread, nginx.destroy)
        url = await asyncio.to_thread(tls_servers.url_of, nginx)
        for address in ("127.0.0.2", "127.0.0.3") * 2:
            transport = httpx.AsyncHTTPTransport(verify=context, local_address=address)
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, transport=transport))
            garbage = [(b"X-Forwarded-For", b"\xff,,[::"), (b"X-Forwarded-Proto", b"gopher")]
            for headers in (httpx.Headers(SPOOFED), httpx.Headers(garbage), httpx.Headers()):
                answer = await client.get("/api/v1/whence", headers=headers)
                assert answer.json() == {"address": address, "scheme": "https"}
