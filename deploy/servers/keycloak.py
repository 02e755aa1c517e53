"""A private Keycloak, in memory, from Maven Central's distribution: 180 MB, which only slow tests fetch."""

import http.client
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.base import Server
from deploy.servers.errors import ServerUnavailable
from deploy.servers.maven import Jars, java
from deploy.servers.ports import LOOPBACK

POM: Final = Path(__file__).parent / "keycloak_server" / "pom.xml"
ADMIN: Final = ("admin", "admin")
"""Name and password of the administrator."""
_ANSWER_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class KeycloakDistribution:
    """The distribution, unpacked in the folder of its archive, which goes then."""

    archive: Jars

    def install(self) -> None:
        """Fetch and unpack it unless it is there. Raises ServerUnavailable with the reason."""
        self.archive.install()
        if self._found() is not None:
            return
        (packed,) = self.archive.folder.glob("*.tar.gz")
        unpacking = self.archive.folder / "unpacking"
        shutil.rmtree(unpacking, ignore_errors=True)
        with tarfile.open(packed) as archive:
            archive.extractall(unpacking, filter="data")
        (folder,) = unpacking.iterdir()
        folder.rename(self.archive.folder / folder.name)
        unpacking.rmdir()
        packed.unlink()

    def command(self) -> str:
        """Its kc.sh. Raises ServerUnavailable."""
        self.archive.require()
        found = self._found()
        if found is None:
            raise ServerUnavailable(f"{self.archive.server}: it is not unpacked")
        return str(found)

    def _found(self) -> Path | None:
        return next(self.archive.folder.glob("keycloak-*/bin/kc.sh"), None)


class Keycloak(Server):
    """kc.sh start-dev on a loopback port each for clients and for its health. To start takes half a minute and more."""

    name: ClassVar[str] = "keycloak"
    variable: ClassVar[str] = "VOLTSTREAM_JWT_ISSUER"
    port_names: ClassVar[tuple[str, ...]] = ("main", "management")
    keeps_data: ClassVar[bool] = False
    start_timeout_s: ClassVar[float] = 600.0

    def __init__(self, home: Path, distribution: KeycloakDistribution) -> None:
        super().__init__(home)
        self._distribution = distribution

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port()}"

    def _launch(self) -> None:
        java("Keycloak")
        options = {
            "http-host": LOOPBACK,
            "http-port": str(self.port()),
            "http-management-port": str(self.port("management")),
            "health-enabled": "true",
            "hostname": self.url,
            "db": "dev-mem",
            "cache": "local",
        }
        settings = {
            "KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN[0],
            "KC_BOOTSTRAP_ADMIN_PASSWORD": ADMIN[1],
            "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m",
        }
        command = [self._distribution.command(), "start-dev", *(f"--{name}={value}" for name, value in options.items())]
        self._spawn(command, os.environ | settings)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port("management"), timeout=_ANSWER_S)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
