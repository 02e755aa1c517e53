"""Checks of the servers that a process depends on, for `voltstream doctor`: what is wrong and how to fix it.

Every check answers within `_CHECK_S_MAX` and never raises.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pika import BlockingConnection
from pika.exceptions import AMQPError
from redis.exceptions import AuthenticationError, RedisError

from kit.clock import Clock
from kit.database.embedded import running_url
from kit.database.postgres import open_database
from kit.errors import ConfigError, KitError, Unavailable
from kit.live.redis_client import redis_client
from kit.log.kafka import client_options, unreachable
from kit.messaging.rabbit_connection import rabbit_parameters
from kit.secrets.urls import shown_url, without_secrets
from kit.settings import Settings
from kit.tls import refusal

_CHECK_S_MAX: Final = 10.0
_ANSWER_S_MAX: Final = 5.0  # of one connection attempt, so that its own, better worded error comes first
_FREE_BYTES_MIN: Final = 2 * 1024**3  # what the embedded database's log alone may take (max_wal_size)
_SKEW_MS_MAX: Final = 1_000  # readings' lateness is judged in seconds
_POSTGRES_VERSION_MIN: Final = 14


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check. `mend` says how to fix it, and is empty where nothing is wrong."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


async def run_server_checks(settings: Settings, clock: Clock) -> list[Check]:
    """Every dependency these settings name, at once, in a fixed order."""
    url = settings.database_url or running_url(settings.data_dir)
    checks: list[tuple[str, str, Callable[[], Awaitable[Check]]]] = []
    if url:
        checks += [("postgresql", url, lambda: check_postgres(url)), ("clock", url, lambda: check_clock(url, clock))]
    named = {"rabbitmq": check_rabbitmq, "kafka": check_kafka, "redis": check_redis, "mongodb": check_mongodb}
    for name, check in named.items():
        of: str = getattr(settings, f"{name}_url")  # as it is: it knows its file and its CAs
        if of:
            checks.append((name, of, partial(check, of)))
    if not settings.database_url:
        checks.append(("disk", "", lambda: check_disk(settings.data_dir)))
    return list(await asyncio.gather(*(_bounded(name, of, check) for name, of, check in checks)))


async def check_postgres(url: str) -> Check:
    """PostgreSQL answers, and is new enough."""
    database = await open_database(url, name="voltstream doctor", connections_max=1)
    try:
        number = int(await database.fetchval("SHOW server_version_num"))
        timescale = await database.fetchval(
            "SELECT default_version FROM pg_available_extensions WHERE name='timescaledb'"
        )
    finally:
        await database.close()
    detail = f"PostgreSQL {number // 10_000}.{number % 10_000}, {f'TimescaleDB {timescale}' if timescale else 'plain'}"
    if number < _POSTGRES_VERSION_MIN * 10_000:
        return Check("postgresql", False, detail, f"use PostgreSQL {_POSTGRES_VERSION_MIN} or newer")
    return Check("postgresql", True, detail)


async def check_clock(url: str, clock: Clock) -> Check:
    """This machine's clock and the database's agree."""
    database = await open_database(url, name="voltstream doctor", connections_max=1)
    try:
        before_ms = clock.now_ms()
        server_ms = int(await database.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"))
        after_ms = clock.now_ms()
    finally:
        await database.close()
    # The server read its clock between our two readings.
    skew_ms = max(before_ms - server_ms, server_ms - after_ms, 0)
    if skew_ms > _SKEW_MS_MAX:
        fix = "set both machines' clocks by NTP (timedatectl set-ntp true): wrong clocks make readings late or early"
        return Check("clock", False, f"{skew_ms} ms apart from the database's", fix)
    return Check("clock", True, f"within {_SKEW_MS_MAX} ms of the database's")


async def check_rabbitmq(url: str) -> Check:
    """RabbitMQ answers and accepts the login."""

    def connect() -> None:
        parameters = rabbit_parameters(url)
        parameters.socket_timeout = parameters.stack_timeout = _ANSWER_S_MAX
        BlockingConnection(parameters).close()

    try:
        await asyncio.to_thread(connect)
    except (AMQPError, OSError) as error:
        cause = str(error) or ", ".join(map(repr, error.args))  # pika's own say nothing as text
        reason = refusal(error) or f"{type(error).__name__}: {cause}".rstrip(": ")
        fix = f"start RabbitMQ, or put VOLTSTREAM_RABBITMQ_URL={shown_url(url)} right (host, login, virtual host)"
        return Check("rabbitmq", False, without_secrets(reason, url), fix)
    return Check("rabbitmq", True, "takes our login")


async def check_kafka(url: str) -> Check:
    """A broker answers, and the cluster has one to write to."""
    admin = AIOKafkaAdminClient(**client_options(url), request_timeout_ms=int(_ANSWER_S_MAX * 1_000))
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
    except (KafkaError, OSError) as error:
        fix = f"start Kafka, or put VOLTSTREAM_KAFKA_URL={shown_url(url)} right (and its advertised.listeners)"
        return Check("kafka", False, str(await unreachable(url, error)), fix)
    finally:
        await admin.close()
    return Check("kafka", True, f"{len(cluster['brokers'])} broker(s)")


async def check_redis(url: str) -> Check:
    """Redis answers and accepts the login."""
    client = redis_client(url, socket_connect_timeout=_ANSWER_S_MAX, socket_timeout=_ANSWER_S_MAX)
    try:
        info = await client.info("server")
    except AuthenticationError as error:
        fix = f"put the password in VOLTSTREAM_REDIS_URL={shown_url(url)} right"
        return Check("redis", False, without_secrets(error, url), fix)
    except (RedisError, OSError) as error:
        fix = f"start Redis, or put VOLTSTREAM_REDIS_URL={shown_url(url)} right"
        return Check("redis", False, refusal(error) or without_secrets(error, url), fix)
    finally:
        await client.aclose()
    return Check("redis", True, f"Redis {info['redis_version']}")


async def check_mongodb(url: str) -> Check:
    """MongoDB answers and accepts the login."""
    from kit.documents.mongodb import MongoDocuments  # few use it, and its driver takes a while to import

    documents = MongoDocuments(url)
    fix = f"start MongoDB, or put VOLTSTREAM_MONGODB_URL={shown_url(url)} right"
    try:
        await documents.check_ready()
    except KitError as error:
        return Check("mongodb", False, str(error), fix)
    finally:
        await documents.close()
    return Check("mongodb", True, "answers a ping")


async def check_disk(folder: Path) -> Check:
    """There is room where the embedded database keeps its data."""
    free = await asyncio.to_thread(_free_bytes, folder)
    detail = f"{free / 1024**3:.1f} GiB free at {folder}"
    if free < _FREE_BYTES_MIN:
        return Check("disk", False, detail, "free at least 2 GiB there, or set VOLTSTREAM_DATA_DIR to a larger disk")
    return Check("disk", True, detail)


def _free_bytes(folder: Path) -> int:
    folder = folder.absolute()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


async def _bounded(name: str, url: str, check: Callable[[], Awaitable[Check]]) -> Check:
    try:
        async with asyncio.timeout(_CHECK_S_MAX):
            return await check()
    except TimeoutError:
        return Check(
            name, False, f"no answer within {_CHECK_S_MAX:.0f} s", f"see whether {name} is reachable from here"
        )
    except ConfigError as error:
        return Check(name, False, str(error), "put the URL's login and database right")
    except Unavailable as error:
        return Check(name, False, str(error), "start it, or put its URL right")
    except KitError as error:
        return Check(name, False, str(error), "see the detail")
    except Exception as error:  # the doctor reports faults of its own checks, too
        said = without_secrets(f"{type(error).__name__}: {error}", url)
        return Check(name, False, said, "unforeseen: see the detail")
