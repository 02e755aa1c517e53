"""Backups and the URL of their database: others of its server are named whatever its form, and no secret is shown."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import psycopg
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from kit.errors import ConfigError
from kit.secrets.text import SecretText
from kit.secrets.urls import check_url, is_secret_option, shown_url
from voltstream.backups.manifest import BackupFile, Manifest, read_manifest, write_manifest
from voltstream.backups.store import database_name, named_url, restoring_alone
from voltstream.backups.tools import ToolLogin, login_of
from voltstream.errors import BackupFailed

# What has a meaning somewhere in a URL, a connection string or a file of services.
TEXT = st.text(st.sampled_from("avZ09-_.~ é€/?#[]@:&=+%;,'\"\\`$\t"), min_size=1, max_size=12)
HOSTS = st.sampled_from(["", "db", "db:5433", "127.0.0.1:1", "[::1]", "[fe80::1%25lo]:5432", ":5433", "%2Frun%2Fpg"])
OPTIONS = st.sampled_from(
    ["host", "port", "user", "sslmode", "application_name", "options", "dbname", "%64bname", "sslrootcert", "sslkey"]
)
SECRETS = st.sampled_from(["password", "sslpassword", "%73slpassword", "passfile", "sslkey"])


def encoded(text: str) -> str:
    return quote(text, safe="")


@st.composite
def urls(draw: st.DrawFn, options: st.SearchStrategy[str] = OPTIONS) -> str:
    """Those that libpq and we take."""
    user, password = draw(st.none() | TEXT), draw(st.none() | TEXT)
    login = "" if user is None else encoded(user) + ("" if password is None else f":{encoded(password)}") + "@"
    hosts = ",".join(draw(st.lists(HOSTS, min_size=1, max_size=3)))
    path = draw(st.just("") | st.just("/") | TEXT.map(lambda name: f"/{encoded(name)}"))
    query = "&".join(f"{name}={encoded(draw(TEXT))}" for name in draw(st.lists(options, max_size=4)))
    url = f"{draw(st.sampled_from(['postgresql', 'postgres']))}://{login}{hosts}{path}{'?' if query else ''}{query}"
    try:
        check_url(url)
        conninfo_to_dict(url)
    except (ValueError, psycopg.ProgrammingError):
        assume(False)
    return url


@given(urls(), TEXT)
@example("postgresql:///voltstream?host=/run/postgresql", "postgres")
@example("postgresql://h/?dbname=volt", "postgres")
@example("postgres://u:p@[::1]:5433,h2/volt?dbname=a&sslmode=verify-full&%64bname=b", "volt/ü")
def test_another_database_of_a_server_is_named_whatever_the_url(url: str, name: str) -> None:
    found = named_url(SecretText(url, ca_file="/ca.pem"), name)
    before, after = conninfo_to_dict(url), conninfo_to_dict(found)
    assert after.pop("dbname") == name
    before.pop("dbname", None)
    assert after == before
    assert (found.ca_file, found.file) == ("/ca.pem", None)
    assert database_name(found) == name


def test_a_url_from_a_file_is_as_the_file_has_it_now(tmp_path: Path) -> None:
    file = tmp_path / "url"
    url = SecretText("postgresql://u:before@h/volt", file, "/ca.pem")
    file.write_text("postgresql://u:after@h/volt\n")
    assert named_url(url, "postgres") == "postgresql://u:after@h/postgres"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://h/volt?sslmod=disable", "invalid URI query parameter"),
        ("postgresql://h", "names no database"),
        ("postgresql://h/postgres", "restore to one of another name"),
    ],
)
def test_a_url_to_which_nothing_can_be_restored_is_refused_at_once(url: str, words: str) -> None:
    with pytest.raises((BackupFailed, ConfigError), match=words), restoring_alone(url):
        pass


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _as_read_by_libpq(login: ToolLogin) -> dict[str, Any]:
    """What a tool that is started so connects with."""
    options: dict[str, Any] = conninfo_to_dict(login.conninfo)
    service = options.pop("service", "")
    with _environment(**login.environment, PGSERVICE=service):
        given = {one.keyword.decode(): one.val.decode() for one in Conninfo.get_defaults() if one.val is not None}
    return {name: value for name, value in given.items() if is_secret_option(name)} | options


@given(urls(SECRETS | OPTIONS))
@example("postgresql://u@h/d?sslcert=/c&sslkey=/k&sslpassword=hush")
@example("postgresql://u:hush@h/d?%73slpassword=hush")
def test_no_secret_of_a_url_is_in_the_arguments_of_a_tool_and_the_tool_has_it(url: str) -> None:
    wanted = conninfo_to_dict(url)
    try:
        with login_of(url) as login:
            told, found = conninfo_to_dict(login.conninfo), _as_read_by_libpq(login)
    except BackupFailed as error:
        assert "ends with a blank" in str(error)  # noqa: PT017  # some are refused, and only these
        assert any(is_secret_option(name) and str(value)[-1:] in " \t" for name, value in wanted.items())
        return
    assert not [name for name in told if is_secret_option(name)]
    assert {name: str(value) for name, value in wanted.items()} == found


def test_a_secret_beside_a_service_is_refused_with_where_it_belongs() -> None:
    with (
        pytest.raises(BackupFailed, match="has sslpassword beside a service") as raised,
        login_of("postgresql://h/d?service=theirs&sslpassword=hush"),
    ):
        pass
    assert "hush" not in str(raised.value)
    with login_of("postgresql://u:hush@h/d?service=theirs") as login:
        assert login.environment == {"PGPASSWORD": "hush"}
        assert conninfo_to_dict(login.conninfo)["service"] == "theirs"


def test_an_option_whose_name_is_encoded_is_masked_too() -> None:
    assert "hush" not in shown_url("postgresql://u@h/d?%73slp%61ssword=hush")


MANIFEST = Manifest(
    format=1, taken_at=datetime(2026, 1, 1, tzinfo=UTC), voltstream="1", server_major=15, tool_major=15,
    timescaledb=None, encoding="UTF8", collate="C", ctype="C", partitions=1, roles=(), migrations={}, rows={},
    offsets={}, lake="included", lake_files=0, lake_bytes=0, files=(),
)  # fmt: skip
PARTS = st.sampled_from(["lake", "database", "..", ".", "", "x", "tmp", "\0", "~", "day=1"])


@given(st.lists(PARTS, max_size=5).map("/".join))
@example("lake/../../x")
@example("/etc/passwd")
@example("lake//etc/passwd")
@example("lake/x")
def test_a_manifest_that_names_a_file_beside_the_backup_is_refused(tmp_path_factory: Any, path: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    write_manifest(folder, msgspec.structs.replace(MANIFEST, files=(BackupFile(path, 1, "0"),)))
    top, _, rest = path.partition("/")
    below = top in ("lake", "database") and not {*rest.split("/")} & {"..", ".", "", "\0"}
    if below:
        assert read_manifest(folder).files[0].path == path
        assert (folder / path).resolve().is_relative_to((folder / top).resolve())
        return
    with pytest.raises(BackupFailed, match="names files that are not of the backup") as raised:
        read_manifest(folder)
    assert repr(path) in str(raised.value)
