"""No text that anyone reads has a piece of a password, whatever the password is and wherever its URL is wrong."""

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.clock import SystemClock
from kit.database.login import connect_async
from kit.database.postgres import connect_sync, open_database
from kit.documents.mongodb import MongoDocuments
from kit.errors import ConfigError, Unavailable
from kit.live.redis_client import redis_client
from kit.live.redis_view import RedisLive
from kit.log.kafka import client_options, partitions_of
from kit.log.kafka_url import KafkaUrl
from kit.masking import mask_secrets
from kit.messaging.rabbit_connection import Rabbit, rabbit_parameters
from kit.secrets.text import SecretText, current
from kit.secrets.urls import PIECE, check_url, shown_url, without_secrets
from streams.worker.kafka_worker import KafkaSource
from voltstream.cli.doctor_server_checks import run_server_checks
from voltstream.settings import load_settings

# Letters that no text of ours has four of, and all that has a meaning in some URL.
PASSWORD = st.text(st.sampled_from("QXZJKVWqxzjkvw@:/?#%[] &=,;+\"'<>\\^`{|}~℀é"), min_size=PIECE, max_size=24)
CLOSED = "127.0.0.1:1"
SERVERS = {
    "database_url": f"postgresql://keeper:{{}}@{CLOSED}/data?sslmode=disable",
    "rabbitmq_url": f"amqp://keeper:{{}}@{CLOSED}/host",
    "kafka_url": f"sasl_ssl://keeper:{{}}@{CLOSED}",
    "redis_url": f"redis://:{{}}@{CLOSED}/0",
    "mongodb_url": f"mongodb://keeper:{{}}@{CLOSED}/data",
    "otlp_endpoint": f"http://keeper:{{}}@{CLOSED}",
    "lake_url": "s3://key:{}@bucket/folder",
}
BESIDE = {"rabbitmq_url": {"kafka_url": "k:1"}, "kafka_url": {"rabbitmq_url": "amqp://r"}}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VOLTSTREAM_")]:
        monkeypatch.delenv(name)


def damaged(url: str, at: int) -> str:
    """Without one character of what stands before the server. Without its colon, the password is the user's name."""
    at %= url.rindex("@") + 1
    return url if url[at - 6 : at + 1] == "keeper:" else url[:at] + url[at + 1 :]


def pieces_in(text: str, password: str) -> list[str]:
    pieces = {password[at : at + PIECE] for at in range(len(password) - PIECE + 1)}
    return [piece for piece in pieces if piece in text]


@given(PASSWORD, st.sampled_from(sorted(SERVERS)), st.booleans(), st.none() | st.integers(0, 60))
@settings(deadline=None, max_examples=60)
def test_no_setting_shows_a_piece_of_a_password(password: str, name: str, encoded: bool, damage: int | None) -> None:
    written = quote(password, safe="") if encoded else password
    url = SERVERS[name].format(written)
    url = url if damage is None else damaged(url, damage)
    try:
        loaded = load_settings(**{name: url, **BESIDE.get(name, {})})
    except ConfigError as error:
        assert not encoded or damage is not None
        shown = str(error)
    else:
        shown = f"{loaded.describe()} {loaded!r} {getattr(loaded, name)!r} {mask_secrets(url)}"
    assert pieces_in(shown, password) == []
    assert pieces_in(shown, written) == []


async def by_redis(url: str) -> None:
    live = RedisLive(url)
    try:
        await live.check_ready()
    finally:
        await live.close()


async def by_mongodb(url: str) -> None:
    documents = MongoDocuments(url, connect_ms=1)
    try:
        await documents.check_ready()
    finally:
        await documents.close()


async def by_asyncpg(url: str) -> None:
    await (await open_database(url, name="test")).close()


async def by_psycopg(url: str) -> None:
    await asyncio.to_thread(connect_sync, url, name="test")


async def by_rabbit(url: str) -> None:
    rabbit = Rabbit(url, name="test")
    rabbit.start()
    try:
        await rabbit.wait_ready(0.05)
    finally:
        await rabbit.close()


async def by_kafka(url: str) -> None:
    await partitions_of(url, "topic")


CLIENTS: dict[str, list[Callable[[str], Any]]] = {
    "database_url": [by_asyncpg, by_psycopg],
    "rabbitmq_url": [by_rabbit],
    "kafka_url": [by_kafka],
    "redis_url": [by_redis],
    "mongodb_url": [by_mongodb],
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # MongoDB's leaves sockets open
@pytest.mark.parametrize("name", sorted(CLIENTS))
@given(PASSWORD, st.booleans(), st.none() | st.integers(0, 60))
@settings(deadline=None, max_examples=10)
def test_no_driver_says_a_piece_of_a_password(name: str, password: str, encoded: bool, damage: int | None) -> None:
    written = quote(password, safe="") if encoded else password
    url = SERVERS[name].format(written)
    url = url if damage is None else damaged(url, damage)

    async def said_by_all() -> str:
        said = []
        for connect in CLIENTS[name]:
            for given_url in (url, SecretText(url, Path("/nowhere"))):
                with pytest.raises((ConfigError, Unavailable)) as raised:
                    await connect(given_url)
                said.append(str(raised.value))
        return "\n".join(said)

    shown = asyncio.run(said_by_all())
    gc.collect()
    assert pieces_in(shown, password) == []
    assert pieces_in(shown, written) == []


@given(PASSWORD, st.sampled_from(["database_url", "redis_url", "rabbitmq_url"]))
@settings(deadline=None, max_examples=8)
def test_the_doctor_says_no_piece_of_a_password(password: str, name: str) -> None:
    loaded = load_settings(**{name: SERVERS[name].format(quote(password, safe="")), **BESIDE.get(name, {})})
    checks = [one for one in asyncio.run(run_server_checks(loaded, SystemClock())) if one.name != "disk"]
    assert not any(check.ok for check in checks)
    assert pieces_in(str(checks), password) == []


@pytest.mark.parametrize("name", sorted(CLIENTS.keys() - {"mongodb_url"}))
@given(password=PASSWORD, damage=st.integers(0, 60))
@settings(deadline=None, max_examples=10)
def test_a_file_that_holds_no_url_any_more_is_an_outage(name: str, password: str, damage: int) -> None:
    """Its driver would read it as something, or refuse it with an error that nobody expects."""
    good, bad = SERVERS[name].format("right"), damaged(SERVERS[name].format(password), damage)

    async def outages(file: Path) -> str:
        url = SecretText(good, file)
        attempts: dict[str, list[Any]] = {
            "database_url": [lambda: connect_async(url), lambda: asyncio.to_thread(connect_sync, url, name="test")],
            "rabbitmq_url": [lambda: asyncio.to_thread(Rabbit(url, name="test")._parameters)],
            "kafka_url": [lambda: asyncio.to_thread(client_options, url)],
            "redis_url": [lambda: by_redis(url)],
        }
        said = []
        for attempt in attempts[name]:
            try:
                await attempt()
            except (Unavailable, OSError) as error:  # an OSError is the closed port: it was well-formed
                said.append(str(error))
        return "\n".join(said)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "url")
        file.write_text(f"{bad}\n", encoding="utf-8")
        shown = asyncio.run(outages(file))
    assert pieces_in(shown, password) == []


@asynccontextmanager
async def echoing_server() -> AsyncIterator[int]:
    """A Redis that knows no login and says what it was sent, as old ones and proxies do."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while sent := await reader.read(4_096):
            writer.write(b"-ERR unknown command, with args beginning with: " + sent.replace(b"\r\n", b" ") + b"\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@given(PASSWORD)
@settings(deadline=None, max_examples=10)
def test_a_server_that_says_what_it_was_sent_makes_no_error_with_the_password(password: str) -> None:
    async def said(file: Path) -> str:
        async with echoing_server() as port:
            url = f"redis://user:{quote(password, safe='')}@127.0.0.1:{port}/0"
            await asyncio.to_thread(file.write_text, url)
            errors = []
            for one in (url, SecretText(f"redis://user:old@127.0.0.1:{port}/0", file)):
                with pytest.raises(Unavailable, match="args beginning with") as raised:
                    await by_redis(one)
                errors.append(str(raised.value))
        return "\n".join(errors)

    with tempfile.TemporaryDirectory() as folder:
        shown = asyncio.run(said(Path(folder, "url")))
    assert pieces_in(shown, password) == []


@given(st.text(min_size=PIECE, max_size=40), st.text(max_size=40), st.integers(0, 40))
def test_of_a_text_only_pieces_of_the_password_are_taken_out(password: str, text: str, at: int) -> None:
    try:
        quoted = quote(password, safe="")
    except UnicodeEncodeError:
        return
    url = f"redis://:{quoted}@h/0?ssl_password={quoted}"
    told = without_secrets(f"{text[:at]}{password}{text[at:]}", url)
    assert not pieces_in(told, password) or pieces_in("***", password)
    assert without_secrets("nobody listens there", "redis://:ZQ@h/0") == "nobody listens there"


def test_what_is_shown_of_urls() -> None:
    shown = {
        "redis://:p@h:1/0": "redis://:***@h:1/0",
        "redis://p@h:1/0": "redis://***@h:1/0",
        "postgresql://u@/d?host=/run&password=p&sslmode=disable": "postgresql://***@/d?host=/run&password=***&sslmode=disable",
        "sasl_ssl://u:p@a:1,sasl_ssl://u:p@b:2": "sasl_ssl://u:***@a:1,sasl_ssl://u:***@b:2",
        "mongodb://u:p@a:1,b:2/d?replicaSet=rs": "mongodb://u:***@a:1,b:2/d?replicaSet=rs",
        "a:1, b:2": "a:1, b:2",
        "/mnt/a@b": "/mnt/a@b",
        "https://[::1]:1/x": "https://[::1]:1/x",
        "redis://:a/b@h": "redis://***",
        "redis://:a@b@h": "redis://***",
        "u:p@h": "***",
    }
    assert {url: shown_url(url) for url in shown} == shown
    for url, masked in shown.items():
        if masked in ("redis://***", "***"):
            with pytest.raises(ValueError, match="percent-encode"):
                check_url(url)
        else:
            check_url(url)


def test_what_holds_a_url_shows_no_password() -> None:
    url = "sasl_ssl://u:QXZJ@h:1"
    source = KafkaSource(url, "topic", Path("data"))
    known = KafkaUrl(("h:1",), "sasl_ssl", "u", "QXZJ")
    assert "QXZJ" not in f"{source!r}{known!r}{SecretText(url)!r}{current(SecretText(url))!r}"


def test_pika_has_no_error_of_its_own_for_wrong_options() -> None:
    for options in ("ssl_options=QXZJ", "ssl_options={", "ssl_options={'ca_certs':'/nowhere'}", "heartbeat=QXZJ"):
        with pytest.raises(ConfigError, match="VOLTSTREAM_RABBITMQ_URL="):
            rabbit_parameters(f"amqps://u:p@h/%2F?{options}")


async def test_redis_reads_its_login_beside_the_loop(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("redis://u:first@h")
    client = redis_client(SecretText("redis://u:first@h", file))
    provider = client.connection_pool.connection_kwargs["credential_provider"]
    file.write_text("redis://u:second@h")
    assert await provider.get_credentials_async() == ("u", "second")
    file.unlink()
    os.mkfifo(file)  # a read of it waits for a writer
    reading = asyncio.create_task(provider.get_credentials_async())
    await asyncio.to_thread(file.write_text, "redis://:third@h")
    assert await reading == ("third",)
    await client.aclose()
