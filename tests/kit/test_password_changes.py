"""A password of PostgreSQL changes: who connects reads it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from kit.database.postgres import connect_sync, open_database
from kit.errors import ConfigError, Unavailable
from kit.secrets.text import SecretText
from tests.password_login import PasswordLogin, answers, password_login


@pytest.fixture
def login(postgres_url: str) -> Iterator[PasswordLogin]:
    with password_login(postgres_url) as made:
        yield made


async def test_the_pool_and_new_connections_go_on_with_the_new_password(login: PasswordLogin, tmp_path: Path) -> None:
    file = tmp_path / "url"
    first, second = uuid4().hex, uuid4().hex
    login.change(first)
    file.write_text(login.url(first))
    url = SecretText(login.url(first), file)
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
            f"{login.url(second)}_not_there",
            f"{login.url(second)}?no=such",
        ):
            file.write_text(wrong)
            with pytest.raises(Unavailable, match=r"well-formed|refuses"):
                await database.fetchval("SELECT 1")
        file.write_text(login.url(second))
        with pytest.raises(Unavailable):  # the blocking connection was lost, too
            await asyncio.to_thread(database.fetch_blocking, "SELECT 1")
        await answers(url, database)
        file.unlink()
        await database.fetchval("SELECT 1")  # what is open stays
    finally:
        await database.close()
    with pytest.raises(Unavailable, match="cannot be read"):
        await open_database(url, name="test")


async def test_a_wrong_password_that_no_file_could_change_is_a_wrong_setting(login: PasswordLogin) -> None:
    login.change(uuid4().hex)
    with pytest.raises(ConfigError, match="VOLTSTREAM_DATABASE_URL"):
        await open_database(login.url("wrong"), name="test")
    with pytest.raises(ConfigError, match="VOLTSTREAM_DATABASE_URL"):
        connect_sync(login.url("wrong"), name="test")
