"""Everything over TLS with logins from files: what runs goes on after every password has changed, and shows none."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast
from uuid import uuid4

import psutil
import pytest
import redis

from deploy.servers import Kafka, RabbitMQ
from kit.clock import SystemClock
from tests.certificates import Authority
from tests.password_login import PasswordLogin, password_login
from tests.private_servers import PrivateServers
from tests.voltstream.platform import ENOUGH_S, Up, readings, up, voltstream
from tests.waiting import eventually

USER: Final = "keeper"
# Secrets by variable, of services that use them only when they have something to do.
BY_VARIABLE: Final = {
    "stripe_key": f"sk_test_{uuid4().hex}",
    "stripe_webhook_secret": f"whsec_{uuid4().hex}",
    "webhook_key": uuid4().hex,
    "smtp_host": "127.0.0.1",
    "smtp_user": "mailer",
    "smtp_password": uuid4().hex,
    "mail_from": "bills@example.com",
    "billing_url": "http://127.0.0.1:1",
    "billing_token": uuid4().hex,
}
NO_SECRETS: Final = frozenset({"billing_url", "smtp_host", "smtp_user", "mail_from"})


@dataclass
class Logins:
    """The same user at each server, and files with the URLs of the platform."""

    servers: PrivateServers
    postgres: PasswordLogin
    ca_file: str
    folder: Path
    database: str = field(default_factory=lambda: f"test_{uuid4().hex}")
    passwords: list[str] = field(default_factory=list)  # all that there ever were

    def begin(self) -> None:
        """Make the database and the users."""
        self.postgres.admin.execute(f"CREATE DATABASE {self.database}")
        self.rabbitmq.control("add_user", USER, "unused")
        self.rabbitmq.control("set_permissions", USER, ".*", ".*", ".*")

    def change(self) -> None:
        """New passwords everywhere; who was logged in is thrown out. No file changes yet."""
        self.passwords += (password := [uuid4().hex for _ in range(4)])
        self.postgres.change(password[0])
        self.rabbitmq.control("change_password", USER, password[1])
        self.rabbitmq.control("close_all_connections", "the password has changed")
        with self._redis() as client:
            client.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{password[2]}", "~*", "&*", "+@all")
            client.execute_command("CLIENT", "KILL", "USER", USER)
        self.kafka.stop()
        self.kafka.login = (USER, password[3])
        self.kafka.start()

    def write(self) -> dict[str, str]:
        """The files with the newest passwords; the settings that name them."""
        postgres, rabbitmq, keys, _ = self.passwords[-4:]
        login = f"{self.postgres.user}:{postgres}"
        address = {name: getattr(self.servers, name).address for name in ("postgres", "rabbitmq", "redis")}
        urls = {
            "database_url": f"postgresql://{login}@{address['postgres']}/{self.database}?sslmode=verify-full",
            "rabbitmq_url": f"amqps://{USER}:{rabbitmq}@{address['rabbitmq']}/%2F",
            "redis_url": f"rediss://{USER}:{keys}@{address['redis']}/0",
            "kafka_url": self.kafka.url,
        }
        for name, url in urls.items():
            new = self.folder / f"{name}.new"
            new.write_text(f"{url}\n")
            new.rename(self.folder / name)  # at once, as Kubernetes and Vault do
        return {f"{name}_file": str(self.folder / name) for name in urls} | {"tls_ca_file": self.ca_file}

    def end(self) -> None:
        """Leave the servers as they were."""
        self.postgres.admin.execute(f"DROP DATABASE {self.database} WITH (FORCE)")
        self.kafka.stop()
        self.kafka.login = None

    @property
    def kafka(self) -> Kafka:
        return cast("Kafka", self.servers.kafka)

    @property
    def rabbitmq(self) -> RabbitMQ:
        return cast("RabbitMQ", self.servers.rabbitmq)

    def _redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.servers.redis.url, ssl_ca_certs=self.ca_file)


@pytest.fixture
def logins(
    tls_servers: PrivateServers, tls_url: Callable[[str], str], authority: Authority, tmp_path: Path
) -> Iterator[Logins]:
    tls_servers.start_all()
    with password_login(tls_url("postgres")) as postgres:
        made = Logins(tls_servers, postgres, str(authority.file), tmp_path)
        made.begin()
        try:
            yield made
        finally:
            made.end()


def _shown(platform: Up, log: Path) -> str:
    """What anyone may read of a running platform: its output, and the arguments of its processes."""
    process = psutil.Process(platform.process.pid)
    arguments = [" ".join(one.cmdline()) for one in (process, *process.children(recursive=True))]
    assert len(arguments) >= 4  # the children are there
    return "\n".join([log.read_text(), str(platform.first_line), *arguments])


async def test_what_runs_goes_on_after_every_password_has_changed_and_shows_none(
    logins: Logins, data_dir: Path
) -> None:
    logins.change()
    settings = logins.write() | BY_VARIABLE | {"log_level": "debug"}
    examined = voltstream("doctor", "--json", **settings)
    station = f"TLS-{os.urandom(4).hex()}".upper()
    start_ms = SystemClock().now_ms() - 120_000

    async def stored(count: int) -> None:
        await eventually(lambda: platform.ledger()["stored"] == count, within_s=ENOUGH_S)

    with up(data_dir, "--no-simulator", **settings) as platform:
        log = data_dir.parent / f"{data_dir.name}.log"
        assert platform.post(readings(station, 20, start_ms)).json()["accepted"] == 20
        await stored(20)
        await asyncio.to_thread(logins.change)
        await eventually(lambda: "refuses the login" in log.read_text(), within_s=ENOUGH_S)
        refused = voltstream("doctor", "--json", **settings)
        wrong = {check["name"]: check["detail"] for check in json.loads(refused.stdout)["checks"] if not check["ok"]}
        assert {"postgresql", "rabbitmq", "kafka", "redis"} <= set(wrong)
        assert "SaslAuthenticationFailed" in wrong["kafka"]
        logins.write()

        def accepted() -> bool:
            answer = platform.post(readings(station, 20, start_ms + 20_000, first_seq=21))
            assert answer.status_code in (202, 503), answer.text
            return answer.status_code == 202

        await eventually(accepted, within_s=ENOUGH_S)
        await stored(40)
        shown = _shown(platform, log)
        assert platform.process.poll() is None
        code, rest = platform.stop(signal.SIGTERM)
    assert code == 0
    after = voltstream("doctor", **settings)
    checked = voltstream("up", "--check", **settings)
    assert (after.returncode, checked.returncode) == (0, 0), after.stdout + after.stderr + checked.stderr
    outputs = (examined, refused, after, checked)
    everything = "\n".join([shown, rest, *(f"{one.stdout}{one.stderr}" for one in outputs)])
    secrets = [*logins.passwords, *(value for name, value in BY_VARIABLE.items() if name not in NO_SECRETS)]
    assert [secret for secret in secrets if secret in everything] == []
