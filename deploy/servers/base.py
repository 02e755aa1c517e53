"""Base class of the private servers: a data folder, ports that never change, and a process."""

import json
import shutil
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.errors import ServerFailed
from deploy.servers.ports import LOOPBACK, unused_port
from deploy.servers.process import Process
from deploy.servers.tls import HOST, ServerTls

# Kafka takes 3 s and RabbitMQ 5 s on an idle core; recovering from a kill on a busy one, ten times that.
START_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05
_LOG_TAIL_LINES: Final = 15


class Server(ABC):
    """A private server. It keeps its data, unless it says otherwise, and ports when it is stopped, killed and started
    again.

    Methods block; from async code call them by `asyncio.to_thread`.
    """

    name: ClassVar[str]
    variable: ClassVar[str]  # the environment variable for its URL
    port_names: ClassVar[tuple[str, ...]] = ("main",)
    keeps_data: ClassVar[bool] = True
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    start_timeout_s: ClassVar[float] = START_TIMEOUT_S

    def __init__(self, home: Path) -> None:
        """`home`: folder of its data, configuration, log and pid; created at the first start."""
        self.home = home
        self.tls: ServerTls | None = None  # set it before the first start: the server then listens with TLS only
        self.process = Process(home / "pid", home / "log")

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients. Raises ServerFailed before the first start."""

    def start(self) -> str:
        """Start it unless it runs, wait until it answers, and return its URL.

        Raises ServerUnavailable if it is not installed, ServerFailed if it does not answer in time.
        """
        if not self.process.alive:
            self.home.mkdir(parents=True, exist_ok=True)
            self._choose_ports()
            self._launch()
        self._wait_until_it_answers()
        return self.url

    def stop(self) -> None:
        """Shut it down, keeping its data. Does nothing if it does not run."""
        if not self.process.terminate(self.stop_signal, STOP_TIMEOUT_S):
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as in a crash, keeping its data."""
        if not self.process.kill():
            raise ServerFailed(f"{self.name} survived SIGKILL")

    def restart(self) -> str:
        """Stop and start it: same data, same ports."""
        self.stop()
        return self.start()

    def destroy(self) -> None:
        """Kill it and remove its data."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.process.alive

    def port(self, name: str = "main") -> int:
        """One of its ports. Raises ServerFailed before the first start."""
        try:
            ports: dict[str, int] = json.loads(self._ports_file.read_text())
        except FileNotFoundError:
            raise ServerFailed(f"{self.name} has never been started in {self.home}") from None
        return ports[name]

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{HOST if self.tls else LOOPBACK}:{self.port()}"

    def _connect(self) -> socket.socket:
        """A connection of a client, over TLS if the server has it."""
        connection = socket.create_connection((LOOPBACK, self.port()), timeout=5)
        return self.tls.context().wrap_socket(connection, server_hostname=HOST) if self.tls else connection

    @abstractmethod
    def _launch(self) -> None:
        """Write the configuration, create the data folder if missing, and spawn the process."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it answers a client. OSError counts as no."""

    def _spawn(self, argv: Sequence[str], env: Mapping[str, str], user: str | None = None) -> None:
        self.process.spawn(argv, env, user)

    @property
    def _ports_file(self) -> Path:
        return self.home / "ports.json"

    def _choose_ports(self) -> None:
        if not self._ports_file.exists():
            self._ports_file.write_text(json.dumps({name: unused_port() for name in self.port_names}))

    def _wait_until_it_answers(self) -> None:
        deadline_s = time.monotonic() + self.start_timeout_s
        while True:
            if not self.process.alive:
                raise ServerFailed(f"{self.name} ended while starting:\n{self._log_tail()}")
            try:
                if self._answers():
                    return
            except OSError:
                pass
            if time.monotonic() > deadline_s:
                self.kill()
                raise ServerFailed(
                    f"{self.name} does not answer after {self.start_timeout_s:.0f} s:\n{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def _log_tail(self) -> str:
        try:
            lines = (self.home / "log").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(lines[-_LOG_TAIL_LINES:])
