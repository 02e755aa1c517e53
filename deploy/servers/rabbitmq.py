"""A private RabbitMQ with its own node name, epmd and cookie, so that it never connects to another one."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar, Final

import pika
from pika.exceptions import AMQPError

from deploy.servers.base import STOP_TIMEOUT_S, Server
from deploy.servers.errors import ServerFailed, ServerUnavailable
from deploy.servers.ports import LOOPBACK
from deploy.servers.process import Process
from deploy.servers.tls import HOST

_DEBIAN_SCRIPT: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the script on the PATH requires its own account
_DEBIAN_CONTROL: Final = _DEBIAN_SCRIPT.with_name("rabbitmqctl")
_CONFIGURATION: Final = """\
listeners.{kind}.1 = {loopback}:{port}
log.console = true
log.console.level = warning
vm_memory_high_watermark.absolute = 2GB
disk_free_limit.absolute = 200MB
"""
_TLS: Final = """\
listeners.tcp = none
ssl_options.cacertfile = {tls.ca}
ssl_options.certfile = {tls.certificate}
ssl_options.keyfile = {tls.key}
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
"""


class RabbitMQ(Server):
    """rabbitmq-server on a loopback port each for AMQP, Erlang's distribution and epmd."""

    name: ClassVar[str] = "rabbitmq"
    variable: ClassVar[str] = "VOLTSTREAM_RABBITMQ_URL"
    port_names: ClassVar[tuple[str, ...]] = ("main", "distribution", "epmd")

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._epmd = Process(home / "epmd.pid", home / "epmd.log")

    @property
    def url(self) -> str:
        return f"{'amqps' if self.tls else 'amqp'}://guest:guest@{self.address}/%2F"

    def stop(self) -> None:
        super().stop()
        self._epmd.terminate(signal.SIGTERM, STOP_TIMEOUT_S)

    def kill(self) -> None:
        super().kill()
        self._epmd.kill()

    def _launch(self) -> None:
        script = str(_DEBIAN_SCRIPT) if _DEBIAN_SCRIPT.exists() else shutil.which("rabbitmq-server")
        epmd = shutil.which("epmd")
        if script is None or epmd is None:
            raise ServerUnavailable("RabbitMQ: not installed; `python -m deploy.servers install` as root adds it")
        kind, tls = ("ssl", _TLS.format(tls=self.tls)) if self.tls else ("tcp", "")
        configuration = _CONFIGURATION.format(loopback=LOOPBACK, port=self.port(), kind=kind) + tls
        (self.home / "rabbitmq.conf").write_text(configuration)
        (self.home / "plugins").write_text("[].\n")
        environment = self._environment()
        self._epmd.kill()  # left over from a crashed broker: it would refuse the node's name
        self._epmd.spawn([epmd, "-address", LOOPBACK, "-port", str(self.port("epmd"))], environment)
        self._spawn([script], environment)

    def control(self, *arguments: str) -> None:
        """Run rabbitmqctl. Raises ServerFailed with what it says."""
        script = str(_DEBIAN_CONTROL) if _DEBIAN_CONTROL.exists() else "rabbitmqctl"
        done = subprocess.run(
            [script, *arguments], env=self._environment(), cwd=self.home, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ServerFailed(f"rabbitmqctl {arguments[0]}: {done.stdout}{done.stderr}")

    def _client(self) -> pika.URLParameters:
        parameters = pika.URLParameters(self.url)
        if self.tls:
            parameters.ssl_options = pika.SSLOptions(self.tls.context(), HOST)
        return parameters

    def _environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            "HOME": str(self.home),  # for Erlang's cookie
            "ERL_EPMD_PORT": str(self.port("epmd")),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_MAX_PORTS": "65536",  # Erlang reserves memory for as many as ulimit -n allows: a billion in containers
            "RABBITMQ_NODENAME": f"voltstream_{self.port()}@localhost",
            "RABBITMQ_DIST_PORT": str(self.port("distribution")),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(self.home / "none.conf"),  # not /etc/rabbitmq/rabbitmq-env.conf
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.home / "broker.pid"),
        }

    def _answers(self) -> bool:
        with self._connect():
            pass  # pika logs a refused connection as an error; the listener opens last, so this test is usually enough
        try:
            connection = pika.BlockingConnection(self._client())
        except AMQPError:
            return False
        connection.close()
        return True
