"""A private Redis with an append-only file, so that a restart keeps its keys."""

import os
import shutil
from typing import ClassVar

from deploy.servers.base import Server
from deploy.servers.errors import ServerUnavailable
from deploy.servers.ports import LOOPBACK


class Redis(Server):
    """redis-server on one loopback port."""

    name: ClassVar[str] = "redis"
    variable: ClassVar[str] = "VOLTSTREAM_REDIS_URL"

    @property
    def url(self) -> str:
        return f"{'rediss' if self.tls else 'redis'}://{self.address}/0"

    def _launch(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise ServerUnavailable("Redis: no redis-server; `python -m deploy.servers install` as root adds it")
        options = {"bind": LOOPBACK, "port": str(self.port()), "appendonly": "yes", "save": "", "dir": str(self.home)}
        if self.tls:
            options |= {"port": "0", "tls-port": str(self.port()), "tls-auth-clients": "no"}
            options |= {"tls-cert-file": str(self.tls.certificate), "tls-key-file": str(self.tls.key)}
            options |= {"tls-ca-cert-file": str(self.tls.ca)}
        self._spawn([binary, *(part for key, value in options.items() for part in (f"--{key}", value))], os.environ)

    def _answers(self) -> bool:
        with self._connect() as connection:
            connection.sendall(b"PING\r\n")  # answered with -LOADING until its file is read
            return connection.recv(16).startswith(b"+PONG")
