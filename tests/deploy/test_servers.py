"""Private servers keep their data and ports through a stop and a kill, and leave nothing behind."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import psycopg
import pymongo
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.servers import SERVERS, Server, ServerFailed, sweep, unused_port
from deploy.servers.process import Process
from deploy.servers.registry import ROOT
from tests.private_servers import PrivateServers

Note = Callable[[str, str], None]
TOPIC = "servers_keep"


def write_postgres(url: str, text: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS servers_keep (note text)")
        connection.execute("INSERT INTO servers_keep VALUES (%s)", [text])


def read_postgres(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT note FROM servers_keep ORDER BY note")]


def write_rabbitmq(url: str, text: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("servers_keep", durable=True, arguments={"x-queue-type": "quorum"})
    persistent = pika.BasicProperties(delivery_mode=2)
    channel.basic_publish("", "servers_keep", text.encode(), properties=persistent, mandatory=True)
    connection.close()


def read_rabbitmq(url: str) -> list[str]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    found = []
    while (body := channel.basic_get("servers_keep")[2]) is not None:
        found.append(body.decode())
    connection.close()  # without acknowledgement: they stay
    return sorted(found)


def write_redis(url: str, text: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.sadd("servers_keep", text)


def read_redis(url: str) -> list[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return sorted(client.smembers("servers_keep"))


def write_kafka(url: str, text: str) -> None:
    async def write() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=url)
        await admin.start()
        if TOPIC not in await admin.list_topics():
            await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=url, enable_idempotence=True) as producer:
            await producer.send_and_wait(TOPIC, text.encode())

    asyncio.run(write())


def read_kafka(url: str) -> list[str]:
    async def read() -> list[str]:
        consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=url, auto_offset_reset="earliest")
        async with consumer:
            (partition,) = consumer.assignment()
            end = (await consumer.end_offsets([partition]))[partition]
            return [(await consumer.getone()).value.decode() for _ in range(end)]

    return sorted(asyncio.run(read()))


READ: dict[str, Callable[[str], list[str]]] = {
    "postgres": read_postgres,
    "rabbitmq": read_rabbitmq,
    "kafka": read_kafka,
    "redis": read_redis,
}
WRITE: dict[str, Note] = {
    "postgres": write_postgres,
    "rabbitmq": write_rabbitmq,
    "kafka": write_kafka,
    "redis": write_redis,
}


@pytest.mark.parametrize("name", READ)
def test_a_stopped_and_a_killed_server_come_back_with_their_data_on_the_same_port(
    name: str, servers: PrivateServers
) -> None:
    server: Server = getattr(servers, name)
    url = servers.url_of(server)
    WRITE[name](url, "1 before the stop")
    server.stop()
    assert not server.running
    assert server.start() == url
    WRITE[name](url, "2 before the kill")
    server.kill()
    assert not server.running
    assert server.start() == url
    WRITE[name](url, "3 after both")
    assert READ[name](url) == ["1 before the stop", "2 before the kill", "3 after both"]


def test_every_server_that_keeps_its_data_is_tested_for_it(tmp_path: Path) -> None:
    assert set(READ) == {name for name, make in SERVERS.items() if make(tmp_path).keeps_data}


def test_one_that_keeps_nothing_comes_back_empty_on_the_same_port(servers: PrivateServers) -> None:
    url = servers.url_of(servers.mongodb)
    with pymongo.MongoClient[dict[str, Any]](url, retryWrites=False) as client:
        client["servers_keep"]["notes"].insert_one({"note": "before the kill"})
    servers.mongodb.kill()
    assert not servers.mongodb.running
    assert servers.mongodb.start() == url
    with pymongo.MongoClient[dict[str, Any]](url, retryWrites=False) as client:
        assert client["servers_keep"]["notes"].count_documents({}) == 0


def test_starting_a_running_server_changes_nothing(servers: PrivateServers) -> None:
    url = servers.url_of(servers.redis)
    write_redis(url, "still here")
    assert servers.redis.start() == url
    assert "still here" in read_redis(url)


def test_a_server_of_a_dead_run_is_ended_and_its_data_removed(servers: PrivateServers) -> None:
    servers.url_of(servers.redis)  # skips if it is not available
    dead = ROOT / "run-4194305"  # above the highest pid Linux gives
    orphan = SERVERS["redis"](dead)
    orphan.start()
    assert servers.redis.running
    sweep_but_keep(servers)
    assert not orphan.running
    assert not dead.exists()


def sweep_but_keep(servers: PrivateServers) -> None:
    """Sweep as another process would, to which this process's run is alive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.servers.registry.run_folder", lambda: ROOT / "run-0")
        sweep()
    assert servers.redis.running


def test_a_killed_server_has_released_its_port(tmp_path: Path, servers: PrivateServers) -> None:
    servers.url_of(servers.redis)  # skips if it is not available
    server = SERVERS["redis"](tmp_path)
    for _ in range(10):  # a server whose threads were still ending once counted as ended
        server.start()
        SERVERS["redis"](tmp_path).kill()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", server.port()))
        assert not server.running
    server.destroy()


def test_a_recycled_pid_is_not_taken_for_the_server(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1 1\n")  # init, started at another tick
    process = Process(tmp_path / "pid", tmp_path / "log")
    assert not process.alive
    assert process.kill()


def test_a_server_that_ends_while_starting_says_why(tmp_path: Path, servers: PrivateServers) -> None:
    servers.url_of(servers.redis)  # skips if it is not available
    server = SERVERS["redis"](tmp_path)
    server.home.mkdir()
    (server.home / "appendonlydir").write_text("a file where Redis wants its folder")
    try:
        with pytest.raises(ServerFailed, match="append-only"):
            server.start()
    finally:
        server.destroy()


def test_an_unused_port_is_outside_of_the_ephemeral_range_and_given_once() -> None:
    ports = [unused_port() for _ in range(200)]
    assert all(20_000 <= port <= 32_000 for port in ports)
    assert len(set(ports)) == len(ports)
