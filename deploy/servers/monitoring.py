"""Prometheus and Alertmanager, each with a configuration that is given."""

import os
import shutil
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from deploy.servers.base import Server
from deploy.servers.errors import ServerUnavailable
from deploy.servers.ports import LOOPBACK


class _Monitor(Server):
    """What both have in common."""

    binary: ClassVar[str]
    keeps_data: ClassVar[bool] = False

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.configuration = ""  # YAML; set it before a start

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def _launch(self) -> None:
        found = shutil.which(self.binary)
        if found is None:
            raise ServerUnavailable(f"{self.name}: not installed; `python -m deploy.servers install` as root adds it")
        file = self.home / "configuration.yml"
        file.write_text(self.configuration, encoding="utf-8")
        options = [f"--config.file={file}", f"--web.listen-address={LOOPBACK}:{self.port()}", *self._options()]
        self._spawn([found, *options], os.environ)

    @abstractmethod
    def _options(self) -> list[str]:
        """Of its own."""

    def _answers(self) -> bool:
        with self._connect() as connection:
            connection.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")
            return connection.recv(12).endswith(b" 200")


class Prometheus(_Monitor):
    """Tells Alertmanager of what still fires every 2 s."""

    name: ClassVar[str] = "prometheus"
    variable: ClassVar[str] = "PROMETHEUS_URL"
    binary: ClassVar[str] = "prometheus"

    def _options(self) -> list[str]:
        return [f"--storage.tsdb.path={self.home / 'data'}", "--rules.alert.resend-delay=2s"]


class Alertmanager(_Monitor):
    """A single one."""

    name: ClassVar[str] = "alertmanager"
    variable: ClassVar[str] = "ALERTMANAGER_URL"
    binary: ClassVar[str] = "prometheus-alertmanager"

    def _options(self) -> list[str]:
        return [f"--storage.path={self.home / 'data'}", "--cluster.listen-address="]
