"""Runs `voltstream up` in a process of its own, as users do."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx

_READY_S = 120  # against hanging: initdb, migrations and the workers' first assignment, on a busy machine
_STOP_S = 60


class Platform:
    """A running `voltstream up`."""

    def __init__(self, process: subprocess.Popen[str], first_line: Mapping[str, str], log: IO[str]) -> None:
        self.process, self._log = process, log
        self.url, self.device_token = first_line["api"], first_line["device_token"]
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {first_line['operator_token']}"}, timeout=60
        )

    def get(self, path: str, **params: str | int) -> Any:
        """A query's answer."""
        answer = self.http.get(path, params=params)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def pages(self, path: str, items: str, **params: str | int) -> Iterator[dict[str, Any]]:
        """All items of a paged query."""
        page = self.get(path, **params)
        yield from page[items]
        while page["next"]:
            page = self.get(page["next"])
            yield from page[items]

    def ledger(self) -> dict[str, Any]:
        """The ledger's totals."""
        total: dict[str, Any] = self.get("/api/v1/telemetry/ledger")["total"]
        return total

    def voltstream(self, *arguments: str, data_dir: Path) -> dict[str, Any]:
        """Run another command against this platform; its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "voltstream", *arguments, "--json"],
            env=os.environ
            | {
                "VOLTSTREAM_URL": self.url,
                "VOLTSTREAM_DEVICE_TOKEN": self.device_token,
                "VOLTSTREAM_DATA_DIR": str(data_dir),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def stop(self) -> None:
        """Send Ctrl-C; the process must exit with 0."""
        self.http.close()
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(_STOP_S)
        self._log.seek(0)
        assert code == 0, self._log.read()[-4_000:]


@contextmanager
def running_platform(data_dir: Path, environment: Mapping[str, str], *options: str) -> Iterator[Platform]:
    """`voltstream up --json --no-simulator` with this environment, stopped at the end."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "voltstream", "up", "--json", "--no-simulator", "--port", "0", *options],
            env=os.environ | {"VOLTSTREAM_DATA_DIR": str(data_dir)} | dict(environment),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            log.seek(0)
            assert line, f"voltstream up printed nothing; its log:\n{log.read()[-4_000:]}"
            platform = Platform(process, json.loads(line), log)
            yield platform
            platform.stop()
        finally:
            process.stdout.close()
            if process.poll() is None:
                process.kill()
                process.wait(_STOP_S)
