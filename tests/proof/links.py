"""Bad links between the services and their servers, by Toxiproxy: cut, reset, slow, stalled, dripping."""

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from deploy.servers import Kafka, Server, ServerUnavailable, unused_port
from deploy.servers.ports import LOOPBACK
from deploy.servers.registry import ROOT
from tests.private_servers import PrivateServers
from tests.proof.faults import LINK_KINDS, SERVERS

_MODULE: Final = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"
_BINARY: Final = ROOT / "toxiproxy" / "server"
_INSTALL_S: Final = 600  # 16 s of a processor
_ANSWER_S: Final = 30
_FOR_EVER_MS: Final = 3_600_000

_Toxic = tuple[str, Mapping[str, int]]
_TOXICS: Final[Mapping[str, tuple[_Toxic, ...]]] = {
    "reset": (("reset_peer", {"timeout": 0}),),
    "slow": (("latency", {"latency": 200, "jitter": 150}),),
    # Not "timeout", which drops bytes out of the middle of a stream, as no network does.
    "stall": (("latency", {"latency": _FOR_EVER_MS}),),
    "drip": (("slicer", {"average_size": 300, "size_variation": 200, "delay": 100}), ("bandwidth", {"rate": 64})),
}
_CUT: Final = "cut"  # every connection is ended, and none can be made
assert {_CUT, *_TOXICS} == set(LINK_KINDS)


class Toxiproxy(Server):
    """The proxy's server, built by Go at the first start."""

    name: ClassVar[str] = "toxiproxy"
    keeps_data: ClassVar[bool] = False

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> None:
        """Send it a command. Raises OSError where it refuses."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port(), timeout=_ANSWER_S)
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body, {"user-agent": "voltstream"})
            answer = connection.getresponse()
            if answer.status >= http.client.BAD_REQUEST:
                raise OSError(f"toxiproxy: {method} {path}: {answer.read().decode()}")
        finally:
            connection.close()

    def _launch(self) -> None:
        _install()
        self._spawn([str(_BINARY), "-host", LOOPBACK, "-port", str(self.port())], {**os.environ, "LOG_LEVEL": "error"})

    def _answers(self) -> bool:
        self.ask("GET", "/version")
        return True


def _install() -> None:
    if _BINARY.exists():
        return
    go = shutil.which("go")
    if go is None:
        raise ServerUnavailable("Toxiproxy: no Go to build it with; install Go")
    done = subprocess.run(
        [go, "install", _MODULE],
        env={**os.environ, "GOBIN": str(_BINARY.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_INSTALL_S,
    )
    if done.returncode != 0:
        raise ServerUnavailable(f"Toxiproxy: Go could not build it: {done.stderr[-500:]}")


class Links:
    """A link to each server of a distributed run. Its methods block."""

    def __init__(self, servers: PrivateServers, folder: Path) -> None:
        """Before the first start of the servers: Kafka tells its clients where to connect to."""
        self._servers = servers
        self._proxy = Toxiproxy(folder)
        self._ports = {name: unused_port() for name in SERVERS}
        assert isinstance(servers.kafka, Kafka)
        servers.kafka.advertised = self._address("kafka")

    def start(self) -> None:
        """Once the servers run."""
        self._proxy.start()
        for name in SERVERS:
            upstream = getattr(self._servers, name).address
            self._proxy.ask("POST", "/proxies", {"name": name, "listen": self._address(name), "upstream": upstream})

    def through(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The same settings, with the links in place of the servers."""
        changed = dict(settings)
        for name in SERVERS:
            upstream = getattr(self._servers, name).address
            changed = {key: value.replace(upstream, self._address(name)) for key, value in changed.items()}
        return changed

    def disturb(self, server: str, kind: str) -> None:
        """One of LINK_KINDS, until it is mended."""
        if kind == _CUT:
            self._proxy.ask("POST", f"/proxies/{server}", {"enabled": False})
        for toxic, attributes in _TOXICS.get(kind, ()):
            for stream in ("upstream", "downstream"):
                document = {"name": f"{toxic} {stream}", "type": toxic, "stream": stream, "attributes": attributes}
                self._proxy.ask("POST", f"/proxies/{server}/toxics", document)

    def mend(self) -> None:
        """All of them."""
        self._proxy.ask("POST", "/reset")

    def destroy(self) -> None:
        """End the proxy."""
        self._proxy.destroy()

    def _address(self, server: str) -> str:
        return f"{LOOPBACK}:{self._ports[server]}"
