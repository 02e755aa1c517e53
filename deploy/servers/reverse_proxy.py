"""What the private reverse proxies have in common."""

from abc import ABC
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from deploy.servers.base import Server
from deploy.servers.ports import LOOPBACK

Configure = Callable[[Path, str], Mapping[str, str]]
"""Of the server's folder and its address (host:port): the text of its configuration by file name."""


class ReverseProxy(Server, ABC):
    """A proxy on one loopback port, with the configuration that a test gives it."""

    variable: ClassVar[str] = "VOLTSTREAM_URL"
    keeps_data: ClassVar[bool] = False
    configure: Configure | None = None  # set it before a start

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def _write(self, configure: Configure) -> None:
        for name, text in configure(self.home, f"{LOOPBACK}:{self.port()}").items():
            (self.home / name).write_text(text, encoding="utf-8")

    def _answers(self) -> bool:
        with self._connect() as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return connection.recv(16).startswith(b"HTTP/")
