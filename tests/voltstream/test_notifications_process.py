"""Notifications as a process of its own, over RabbitMQ and Redis: events doubled, killed in the middle, restarted."""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psycopg

from api.notifications.notices.buckets import RedisBuckets
from kit.auth.token_store import TokenStore
from kit.database.postgres import open_database
from kit.messaging.rabbit_bus import RabbitBus
from kit.retry import RetryPolicy
from schemas.topics import RESERVATION_CREATED
from tests.api.notifications_harness import message, reservation
from tests.api.smtp_server import SmtpServer, smtp_server
from tests.voltstream.platform import ENOUGH_S, served
from tests.waiting import eventually
from voltstream.runtime.database import bring_up_to_date

DRIVERS, ADDRESS = 12, "driver@example.com"


async def test_doubled_events_and_a_kill_between_a_send_and_its_record_lose_and_double_nothing_in_the_ledger(
    database_url: str, rabbitmq_url: str, redis_url: str, tmp_path: Path
) -> None:
    bring_up_to_date(database_url, 1)
    settings = {
        "database_url": database_url,
        "rabbitmq_url": rabbitmq_url,
        "redis_url": redis_url,
        "kafka_url": "127.0.0.1:1",  # nobody asks it
        "partitions": "1",
        "data_dir": str(tmp_path / "data"),
        "mail_from": ADDRESS,
    }
    operator = await _operator_token(database_url)
    drivers = [f"D{number}" for number in range(DRIVERS)]
    events = [message(RESERVATION_CREATED, f"{database_url}/{one}", reservation(driver_id=one)) for one in drivers]
    async with smtp_server(tmp_path, security="none", login=False) as smtp:
        settings |= {"smtp_host": "127.0.0.1", "smtp_port": str(smtp.port), "smtp_security": "none"}
        with served(tmp_path / "log", "notifications", "relay", **settings) as (process, line):
            async with httpx.AsyncClient(
                base_url=line["url"], headers={"authorization": f"Bearer {operator}"}, trust_env=False, timeout=30
            ) as client:
                for driver in drivers:
                    answer = await client.put(
                        "/api/v1/notifications/preferences",
                        params={"subject": f"driver/{driver}"},
                        json={"addresses": {"email": ADDRESS}},
                    )
                    assert answer.status_code == 200, answer.text
                _kill_at_third_mail(smtp, process.pid)
                await _publish(rabbitmq_url, [*events, *events])
                assert await _ended(process) == -signal.SIGKILL
        killed_at = len(smtp.mails)
        assert killed_at >= 3
        _let_leases_end(database_url)
        with served(tmp_path / "log2", "notifications", "relay", **settings) as (_, _line):
            await _publish(rabbitmq_url, events)
            await eventually(lambda: _states(database_url) == {"sent": DRIVERS}, ENOUGH_S)
            await eventually(lambda: _outbox(database_url) == 0, ENOUGH_S)
    rows = _rows(database_url, "SELECT id::text, attempts FROM notifications.delivery")
    sent = Counter(str(mail["Message-ID"]).strip("<>").partition("@")[0] for mail in smtp.mails)
    assert set(sent) == {id_ for id_, _ in rows}
    assert max(sent.values()) == 2, "what was sent and not recorded came again, under the same id"
    assert {id_ for id_, count in sent.items() if count > 1} <= {id_ for id_, attempts in rows if attempts > 1}


async def test_processes_share_a_bucket_on_redis_and_go_on_without_it(redis_url: str, unused_port: int) -> None:
    one, other = RedisBuckets(redis_url, "test:a:"), RedisBuckets(redis_url, "test:a:")
    lonely = RedisBuckets(f"redis://127.0.0.1:{unused_port}/0", "test:a:")
    try:
        assert await one.take(["d1", "d1", "d2"], 1_000, 3) == [True, True, True]
        assert await other.take(["d1", "d1", "d2"], 1_000, 3) == [True, False, True]
        assert await other.take(["d1"], 1_000 + 1_200_000, 3) == [True]
        assert await other.take([], 0, 3) == []
        assert await lonely.take(["d1", "d1"], 1_000, 1) == [True, False]
    finally:
        for buckets in (one, other, lonely):
            await buckets.close()


def _kill_at_third_mail(smtp: SmtpServer, pid: int) -> None:
    """Taken by the mail server, and the process dies before it hears of it."""
    take = smtp.handle_DATA

    async def taken(server: Any, session: Any, envelope: Any) -> str:
        answer = await take(server, session, envelope)
        if len(smtp.mails) == 3:
            os.kill(pid, signal.SIGKILL)
        return answer

    smtp.handle_DATA = taken  # type: ignore[method-assign]


async def _ended(process: Any) -> int:
    async def code() -> bool:
        return process.poll() is not None

    await eventually(code, ENOUGH_S)
    return int(process.returncode)


async def _publish(url: str, messages: list[Any]) -> None:
    bus = RabbitBus(url, RetryPolicy(), name="test")
    bus.start()
    try:
        await bus.wait_ready(ENOUGH_S)
        for one in messages:
            await bus.publish(one)
    finally:
        await bus.close()


async def _operator_token(url: str) -> str:
    database = await open_database(url, name="test", connections_max=1)
    try:
        return (await TokenStore(database).issue("operator"))[0]
    finally:
        await database.close()


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def _states(url: str) -> dict[str, int]:
    return dict(_rows(url, "SELECT state, count(*)::int FROM notifications.delivery GROUP BY state"))


def _outbox(url: str) -> int:
    return int(_rows(url, "SELECT count(*) FROM notifications.outbox")[0][0])


def _let_leases_end(url: str) -> None:
    """As if minutes had passed."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE notifications.delivery SET due_at = now() WHERE state = 'queued'")
