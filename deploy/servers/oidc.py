"""A private OpenID provider: the npm package `oidc-provider`, in memory, whose keys and roles a test sets."""

import http.client
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from deploy.servers.base import Server
from deploy.servers.npm import NodePackages
from deploy.servers.ports import LOOPBACK

SOURCE: Final = Path(__file__).with_name("oidc_provider")
_ANSWER_S: Final = 10.0


class OidcProvider(Server):
    """server.mjs on one loopback port. Its clients are `machine` (client credentials) and `web` (code and PKCE); every
    access token is a JWT for the audience `voltstream`, with the subject's `roles`."""

    name: ClassVar[str] = "oidc"
    variable: ClassVar[str] = "VOLTSTREAM_JWT_ISSUER"
    keeps_data: ClassVar[bool] = False

    def __init__(self, home: Path, packages: NodePackages) -> None:
        super().__init__(home)
        self._packages = packages

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port()}"

    def configure(self, keys: Sequence[Mapping[str, Any]], roles: Mapping[str, Sequence[str]]) -> None:
        """Sign with the first of these private JWKs and publish all of them; these are the subjects' roles from now on.
        Call it before the first start, and later as often as you like."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({"keys": keys, "roles": roles}))
        if self.running and self._ask("POST", "/control") != http.client.OK:
            raise OSError("the OpenID provider did not take its configuration")

    @property
    def _file(self) -> Path:
        return self.home / "provider.json"

    def _launch(self) -> None:
        self._spawn([*self._packages.command("server.mjs"), str(self.port()), str(self._file)], os.environ)

    def _answers(self) -> bool:
        return self._ask("GET", "/.well-known/openid-configuration") == http.client.OK

    def _ask(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection(LOOPBACK, self.port(), timeout=_ANSWER_S)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        finally:
            connection.close()
