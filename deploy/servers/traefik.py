"""A private Traefik, from the Python package that has its binary."""

import os
import shutil
import sysconfig
from typing import ClassVar

from deploy.servers.errors import ServerUnavailable
from deploy.servers.reverse_proxy import ReverseProxy


class Traefik(ReverseProxy):
    """Traefik, with a configuration of which traefik.yml is read first."""

    name: ClassVar[str] = "traefik"

    def _launch(self) -> None:
        binary = shutil.which("traefik", path=sysconfig.get_path("scripts")) or shutil.which("traefik")
        if binary is None:
            raise ServerUnavailable("traefik: not installed; `make check-deploy` adds it")
        if self.configure is None:
            raise ServerUnavailable("traefik: give it a configuration")
        self._write(self.configure)
        self._spawn([binary, f"--configFile={self.home / 'traefik.yml'}"], os.environ)
