"""voltstream as whoever runs it sees it: a process, its output, its HTTP API."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
# A bound against hanging, never an expectation of speed.
ENOUGH_S = 120.0


def environment(**settings: str) -> dict[str, str]:
    """This process's, with exactly these VOLTSTREAM_* settings (names in lower case, without the prefix)."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VOLTSTREAM_")}
    return {**inherited, **{f"VOLTSTREAM_{name.upper()}": value for name, value in settings.items()}}


def voltstream(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    command = [sys.executable, "-m", "voltstream", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=ENOUGH_S, check=False
    )


class Up:
    """A running `voltstream up --json`."""

    def __init__(self, process: "subprocess.Popen[str]", first_line: dict[str, str], log: Path) -> None:
        self.process = process
        self._log = log
        self.first_line = first_line
        self.api = first_line["api"]

    def post(self, readings: list[dict[str, Any]], token: str | None = None, **headers: str) -> httpx.Response:
        """As a device."""
        device = token or self.first_line["device_token"]
        return self._ask("POST", "/api/v1/telemetry", device, json=readings, more_headers=headers)

    def get(self, path: str, **query: str) -> Any:
        """As an operator; the JSON of a 200."""
        response = self._ask("GET", path, self.first_line["operator_token"], params=query)
        assert response.status_code == 200, response.text
        return response.json()

    def change(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST as an operator."""
        return self._ask("POST", path, self.first_line["operator_token"], json=body, more_headers=headers)

    def text(self, path: str) -> str:
        """As anybody."""
        response = self._ask("GET", path, "")
        assert response.status_code == 200, response.text
        return response.text

    def ledger(self) -> dict[str, Any]:
        """The sums over all partitions."""
        total: dict[str, Any] = self.get("/api/v1/telemetry/ledger")["total"]
        return total

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code, and what else it said on stdout."""
        self.process.send_signal(number)
        return self.wait()

    def log(self) -> str:
        """The end of its stderr."""
        return self._log.read_text()[-4_000:]

    def wait(self) -> tuple[int, str]:
        """Until it ends by itself."""
        rest, _ = self.process.communicate(timeout=ENOUGH_S)
        return self.process.returncode, rest

    def _ask(self, method: str, path: str, token: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= more.pop("more_headers", {})
        return httpx.request(method, f"{self.api}{path}", headers=headers, timeout=30, trust_env=False, **more)


def any_station(kind: str) -> tuple[str, ...]:
    """The option of `voltstream token issue` without which a device's token has to name its stations."""
    return ("--any-station",) if kind == "device" else ()


@contextmanager
def up(data_dir: Path, *arguments: str, **settings: str) -> Iterator[Up]:
    """Ready for requests within the block, on a port of its own; ended with it, if it has not ended."""
    command = [sys.executable, "-m", "voltstream", "up", "--json", "--port", "0", "--data-dir", str(data_dir)]
    log = data_dir.parent / f"{data_dir.name}.log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            [*command, *arguments], cwd=ROOT, env=environment(**settings), text=True, stdout=subprocess.PIPE,
            stderr=errors,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait(ENOUGH_S)}: {log.read_text()[-2_000:]}"
        yield Up(process, json.loads(line), log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=ENOUGH_S)
        process.stdout.close()


@contextmanager
def served(log: Path, *names: str, **settings: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """The process and the line in which it says where it is; ended with the block, if it has not ended."""
    command = [sys.executable, "-m", "voltstream", "serve", *names, "--json", "--port", "0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment(**settings), text=True, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, f"it ended with {process.wait(ENOUGH_S)}: {log.read_text()[-2_000:]}"
            yield process, json.loads(line)
        finally:
            if process.poll() is None:
                process.terminate()


def readings(station_id: str, count: int, start_ms: int, *, first_seq: int = 1) -> list[dict[str, Any]]:
    """`count` readings of one charging connector, a second apart."""
    return [
        {
            "station_id": station_id,
            "connector_id": 1,
            "session_id": "S-1",
            "boot": 1,
            "seq": first_seq + number,
            "ts": start_ms + number * 1_000,
            "energy_wh": 1_000 + 2 * (first_seq + number),
            "power_w": 7_200,
            "status": "Charging",
        }
        for number in range(count)
    ]
