"""TLS to real servers: their certificates are verified, chain and name, and a refusal says what to mend."""

import asyncio
import gc
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx
import psycopg
import pytest

from kit.auth.jwks import fetch_over_http
from kit.database.postgres import connect_sync, open_database
from kit.documents.mongodb import MongoDocuments
from kit.errors import ConfigError, Unavailable
from kit.live.redis_view import RedisLive
from kit.log.kafka import ensure_topic, idempotent_producer, partitions_of, stop_producer
from kit.messaging.rabbit_connection import Rabbit
from kit.observability.tracing import setup_tracing, span
from kit.secrets.text import SecretText, ca_file_of
from kit.tls import asks_for_tls, client_context, outside_context
from tests.certificates import Authority
from tests.private_servers import PrivateServers
from voltstream.cli.doctor_server_checks import Check, check_kafka, check_postgres, check_rabbitmq, check_redis
from voltstream.settings import load_settings

Connects = Callable[[str], Awaitable[object]]


async def by_asyncpg(url: str) -> None:
    database = await open_database(url, name="test", connections_max=1)
    try:
        query = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl"
        assert await database.fetchval(query) in ("TLSv1.2", "TLSv1.3")
    finally:
        await database.close()


async def by_psycopg(url: str) -> None:
    def connect() -> None:
        with connect_sync(url, name="test") as connection:
            query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert connection.execute(query).fetchone() == (True,)

    await asyncio.to_thread(connect)


async def by_pika(url: str) -> None:
    rabbit = Rabbit(url, name="test")
    rabbit.start()
    try:
        await rabbit.wait_ready(10)
    finally:
        await rabbit.close()


async def by_redis(url: str) -> None:
    live = RedisLive(url)
    try:
        await live.check_ready()
    finally:
        await live.close()


async def by_aiokafka(url: str) -> None:
    topic = f"tls_{uuid4().hex}"
    await ensure_topic(url, topic, 1)
    assert await partitions_of(url, topic) == 1
    producer = idempotent_producer(url, linger_ms=0)
    try:
        await producer.start()
        await producer.send_and_wait(topic, b"record")
    finally:
        await stop_producer(producer)


CLIENTS = [
    pytest.param("postgres", by_asyncpg, check_postgres, id="asyncpg"),
    pytest.param("postgres", by_psycopg, check_postgres, id="psycopg"),
    pytest.param("rabbitmq", by_pika, check_rabbitmq, id="pika"),
    pytest.param("kafka", by_aiokafka, check_kafka, id="aiokafka"),
    pytest.param("redis", by_redis, check_redis, id="redis"),
]


@pytest.mark.parametrize(("server", "connect", "check"), CLIENTS)
async def test_who_knows_the_ca_connects_and_nobody_else_does(
    tls_servers: PrivateServers,
    authority: Authority,
    tmp_path: Path,
    server: str,
    connect: Connects,
    check: Callable[[str], Awaitable[Check]],
) -> None:
    url = tls_servers.url_of(getattr(tls_servers, server))
    assert asks_for_tls(url)
    await connect(SecretText(url, ca_file=str(authority.file)))

    another = Authority(tmp_path, "another CA").file
    stranger = SecretText(url, ca_file=str(another))
    unnamed = SecretText(url.replace("localhost", "127.0.0.1"), ca_file=str(authority.file))
    nobody = SecretText(url)  # the system's CAs have not signed it
    for refused, mend in (
        (stranger, "name the CA that has signed it by VOLTSTREAM_TLS_CA_FILE"),
        (unnamed, "write the host in the URL as the certificate names it"),
        (nobody, "name the CA that has signed it by VOLTSTREAM_TLS_CA_FILE"),
    ):
        with pytest.raises(Unavailable, match="its certificate is refused") as raised:
            await connect(refused)
        assert mend in str(raised.value)
        try:
            checked = await check(refused)
        except Unavailable as error:  # as the doctor's `_bounded` reports it
            checked = Check(server, False, str(error))
        assert not checked.ok
        assert mend in checked.detail


async def test_a_urls_own_root_certificate_wins(
    tls_servers: PrivateServers, authority: Authority, tmp_path: Path
) -> None:
    url = tls_servers.url_of(tls_servers.postgres)
    another = str(Authority(tmp_path, "another CA").file)
    own = SecretText(f"{url}&sslrootcert={quote(str(authority.file))}", ca_file=another)
    for connect in (by_asyncpg, by_psycopg):
        await connect(own)
        chain_only = own.replace("localhost", "127.0.0.1").replace("verify-full", "verify-ca")
        await connect(chain_only)


async def test_libpqs_own_root_certificate_is_used_where_no_setting_names_one(
    tls_servers: PrivateServers, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tls_servers.url_of(tls_servers.postgres)
    another = str(Authority(tmp_path, "another CA").file)
    own, stranger = SecretText(url, ca_file=str(authority.file)), SecretText(url, ca_file=another)
    for connect in (by_asyncpg, by_psycopg):
        monkeypatch.setenv("PGSSLROOTCERT", str(authority.file))
        await connect(url)
        with pytest.raises(Unavailable, match="its certificate is refused"):
            await connect(stranger)  # VOLTSTREAM_TLS_CA_FILE is before it
        monkeypatch.setenv("PGSSLROOTCERT", another)
        await connect(own)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves sockets of handshakes open
async def test_mongodbs_driver_is_given_the_ca_too(tls_url: Callable[[str], str], tmp_path: Path) -> None:
    """Whatever server answers: what is refused is the handshake."""
    url = tls_url("redis").replace("rediss://", "mongodb://").replace("/0", "/?tls=true")
    another = str(Authority(tmp_path, "another CA").file)
    for ca_file, refused in ((another, True), (ca_file_of(tls_url("redis")), False)):
        documents = MongoDocuments(SecretText(url, ca_file=ca_file), connect_ms=1_000)
        with pytest.raises(Unavailable) as raised:
            await documents.check_ready()
        assert ("its certificate is refused" in str(raised.value)) == refused
        await documents.close()
    gc.collect()


async def test_no_client_speaks_tls_1_1(authority: Authority) -> None:
    context = client_context(str(authority.file))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read"), ("no certificate", "holds no certificate in PEM")]
)
def test_a_file_without_cas_is_a_wrong_setting(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=f"VOLTSTREAM_TLS_CA_FILE=.*{says}.*name the PEM file"):
        load_settings(tls_ca_file=str(file), redis_url="rediss://h")


@pytest.mark.parametrize(
    ("name", "url", "says"),
    [
        (
            "database_url",
            "postgresql://h/d?sslmode=verify-full&sslrootcert={}",
            "sslrootcert of VOLTSTREAM_DATABASE_URL",
        ),
        ("database_url", "postgresql://h/d?sslmode=verify-full&sslkey={}", "sslkey of VOLTSTREAM_DATABASE_URL"),
        ("redis_url", "rediss://h/0?ssl_ca_certs={}", "ssl_ca_certs of VOLTSTREAM_REDIS_URL"),
        ("mongodb_url", "mongodb://h/?tls=true&tlsCAFile={}", "tlscafile of VOLTSTREAM_MONGODB_URL"),
    ],
)
def test_a_file_that_a_url_names_and_that_is_not_there_is_a_wrong_setting(
    tmp_path: Path, name: str, url: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=f"{says}=.*cannot be read.*name the PEM file"):
        load_settings(**{name: url.format(tmp_path / "not-there")})


def test_libpqs_root_certificate_that_is_not_there_is_a_wrong_setting_where_it_would_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "not-there"))
    with pytest.raises(ConfigError, match=r"PGSSLROOTCERT=.*cannot be read"):
        load_settings(database_url="postgresql://h/d?sslmode=verify-full")
    load_settings(database_url="postgresql://h/d")
    load_settings(database_url="postgresql://h/d?sslmode=verify-full", tls_ca_file=str(Authority(tmp_path, "ca").file))


async def test_keys_of_an_identity_provider_and_traces_know_the_ca(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider may be anybody's, so the system's CAs are trusted beside the file's; the collector is ours."""
    files, received = authority.server("localhost"), []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    server = await asyncio.start_server(answer, "localhost", 0, ssl=context)
    async with server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        assert await fetch_over_http(url, ca_file=str(authority.file)) == b"{}"
        with pytest.raises(httpx.ConnectError):
            await fetch_over_http(url)
        tracing = setup_tracing("test", url, ca_file=str(authority.file))
        with span("one"):
            pass
        await asyncio.to_thread(tracing.shutdown)
    assert [head.split()[:2] for head in received] == [[b"GET", b"/"], [b"POST", b"/v1/traces"]]
    assert outside_context(str(authority.file)).verify_mode is ssl.CERT_REQUIRED
    load_settings(tls_ca_file=str(authority.file), otlp_endpoint=url)


def test_cas_that_no_url_would_use_are_a_wrong_setting(tmp_path: Path) -> None:
    file = str(Authority(tmp_path, "ca").file)
    with pytest.raises(ConfigError, match="no server's URL asks for TLS"):
        load_settings(tls_ca_file=file, redis_url="redis://h", database_url="postgresql://h/d?sslmode=require")
    for given in (
        {"redis_url": "rediss://h"},
        {"database_url": "postgresql://h/d?sslmode=verify-ca"},
        {"mongodb_url": "mongodb://h/?tls=true"},
        {"rabbitmq_url": "amqps://h", "kafka_url": "k:1"},
        {"rabbitmq_url": "amqp://h", "kafka_url": "ssl://k:1"},
    ):
        settings = load_settings(tls_ca_file=file, **given)
        assert {getattr(settings, name).ca_file for name in given} == {file}


def test_a_psycopg_url_without_tls_stays_as_it_is(database_url: str) -> None:
    with connect_sync(SecretText(database_url, ca_file="/nowhere"), name="test") as connection:
        assert connection.info.status is psycopg.pq.ConnStatus.OK
