"""Services, each in a process of its own: started, killed, and asked over HTTP."""

import json
import signal
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest

from tests.voltstream.platform import ENOUGH_S, any_station, served, voltstream

ENDINGS: Final = (pytest.param(signal.SIGKILL, id="killed"), pytest.param(signal.SIGTERM, id="stopped"))


class ServiceProcesses:
    """The processes, and who asks them."""

    def __init__(self, settings: dict[str, str], logs: Path, stack: ExitStack) -> None:
        """`stack` ends what still runs, and closes the clients."""
        self._settings, self._logs, self._stack = settings, logs, stack
        self._running: dict[str, tuple[Any, str]] = {}
        self._starts = count(1)
        self._client = self.client("operator")

    def client(self, kind: str) -> httpx.Client:
        """Of somebody with a token of that kind."""
        issued = voltstream("token", "issue", "--kind", kind, *any_station(kind), "--json", **self._settings)
        bearer = {"authorization": f"Bearer {json.loads(issued.stdout)['token']}"}
        return self._stack.enter_context(httpx.Client(headers=bearer, timeout=30, trust_env=False))

    def start(self, *names: str) -> None:
        """At once, and each in a process of its own."""
        logs = [self._logs / f"{name}{next(self._starts)}" for name in names]
        serving = [served(log, name, **self._settings) for log, name in zip(logs, names, strict=True)]
        with ThreadPoolExecutor(len(names)) as pool:
            for name, (process, line) in zip(names, pool.map(self._stack.enter_context, serving), strict=True):
                self._running[name] = (process, line["url"])

    def end(self, name: str, how: signal.Signals) -> None:
        """Return when it has ended; one that is stopped ends without an error."""
        process, _ = self._running[name]
        process.send_signal(how)
        assert process.wait(ENOUGH_S) == (-signal.SIGKILL if how is signal.SIGKILL else 0)

    def url(self, service: str) -> str:
        """Of its API."""
        return f"{self._running[service][1]}/api/v1"

    def ask(self, service: str, method: str, path: str, status: int, **more: Any) -> Any:
        """The JSON of the answer to an operator."""
        answer = self._client.request(method, f"{self.url(service)}{path}", **more)
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        return answer.json()

    def found(self, service: str, path: str, **query: str) -> Any:
        """The JSON of a 200; None: not found."""
        answer = self._client.get(f"{self.url(service)}{path}", params=query)
        assert answer.status_code in (200, 404), f"{path}: {answer.text}"
        return answer.json() if answer.status_code == 200 else None

    def ready(self) -> dict[str, bool]:
        """By service; one that takes no connection is left out."""
        ready = {}
        for name, (_, url) in self._running.items():
            with suppress(httpx.ConnectError):
                ready[name] = self._client.get(f"{url}/ready").status_code == 200
        return ready

    def all_ready(self) -> bool:
        """Whether all that were started are ready."""
        return self.ready() == dict.fromkeys(self._running, True)

    def ask_ready(self, name: str) -> None:
        """Raises httpx.ConnectError where it is away."""
        assert self._client.get(f"{self._running[name][1]}/ready").status_code == 200

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says."""
        with psycopg.connect(self._settings["database_url"]) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def outboxes(self, schemas: Iterable[str]) -> int:
        """Events that wait in outboxes."""
        return sum(self.rows(f"SELECT count(*) FROM {schema}.outbox")[0][0] for schema in schemas)
