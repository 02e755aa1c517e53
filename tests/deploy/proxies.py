"""nginx and Traefik, started with the configuration of a site, and clients that come from addresses of their own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpx
import pytest

from deploy.gateways.nginx_configuration import nginx_configuration
from deploy.gateways.routing import routings
from deploy.gateways.site import Site
from deploy.gateways.traefik_configuration import traefik_configuration
from deploy.servers import ReverseProxy
from kit.tls import client_context
from tests.certificates import Authority
from tests.private_servers import PrivateServers

PROXIES = (
    pytest.param("nginx", marks=pytest.mark.server),
    pytest.param("traefik", marks=pytest.mark.deploy),
)


class Front:
    """A proxy at work."""

    def __init__(self, name: str, url: str, ca_file: str, log: Path) -> None:
        self.name, self.url, self.log = name, url, log
        self.context = client_context(ca_file)

    def client(self, address: str = "127.0.0.1", headers: Mapping[str, str] | None = None) -> httpx.Client:
        """Of somebody at that loopback address."""
        transport = httpx.HTTPTransport(verify=self.context, local_address=address)
        return httpx.Client(base_url=self.url, transport=transport, timeout=60, headers=headers)


@contextmanager
def fronting(name: str, servers: PrivateServers, authority: Authority, site: Site) -> Iterator[Front]:
    """The proxy of that name, of servers with TLS, before a site: its address and certificate are put into it."""
    proxy = cast(ReverseProxy, getattr(servers, name))
    assert proxy.tls is not None
    tls = proxy.tls

    def configure(home: Path, address: str) -> Mapping[str, str]:
        here = replace(site, listen=address, certificate=str(tls.certificate), key=str(tls.key))
        if name == "traefik":
            return traefik_configuration(here, routings(), str(home))
        return {"nginx.conf": nginx_configuration(here, routings())}

    proxy.configure = configure
    try:
        yield Front(name, servers.url_of(proxy), str(authority.file), proxy.home / "log")
    finally:
        proxy.destroy()
        proxy.configure = None


def addresses(servers: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """As a site has them; services that are not named are nowhere."""
    return {one.service: tuple(servers.get(one.service, ("127.0.0.1:1",))) for one in routings()}
