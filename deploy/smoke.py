"""Whether a platform that was just deployed works, as its users see it: `python -m deploy.smoke https://api.example`.

Tokens are read from files (VOLTSTREAM_OPERATOR_TOKEN_FILE, VOLTSTREAM_DEVICE_TOKEN_FILE). Without a device's nothing is
written; with one, a reading of the station SMOKE is posted, which must be shown live. The exit code is 1 where
anything fails.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx

from kit.tls import client_context

STATION: Final = "SMOKE"
_LEDGER: Final = "/api/v1/telemetry/ledger"
_WITHIN_S: Final = 60.0  # from an acknowledged reading to the live view; seconds, also where a worker has just started
_POLL_S: Final = 0.2


class Failed(Exception):
    """A step did not do what it should; the text says what it did."""


@dataclass(frozen=True, slots=True)
class Step:
    """What was looked at. `error` is empty where it works."""

    name: str
    seconds: float
    error: str


class Smoke:
    """The steps against one platform."""

    def __init__(self, client: httpx.Client, operator_token: str, device_token: str = "") -> None:
        """Without a `device_token` nothing is written."""
        self._client, self._operator, self._device = client, operator_token, device_token

    def steps(self) -> Iterator[Step]:
        """Each as it ends; after the first that fails no more."""
        checks: list[tuple[str, Callable[[], None]]] = [
            ("it answers, and asks for a token", self._asks_for_a_token),
            ("an operator sees the ledger", self._shows_the_ledger),
        ]
        if self._device:
            checks.append(("a reading is acknowledged and shown live", self._takes_a_reading))
        for name, check in checks:
            began_s, error = time.monotonic(), ""
            try:
                check()
            except (Failed, httpx.HTTPError) as problem:
                error = str(problem) or repr(problem)
            yield Step(name, round(time.monotonic() - began_s, 3), error)
            if error:
                return

    def _asks_for_a_token(self) -> None:
        self._expect((httpx.codes.UNAUTHORIZED,), "GET", _LEDGER)

    def _shows_the_ledger(self) -> None:
        self._expect((httpx.codes.OK,), "GET", _LEDGER, token=self._operator)

    def _takes_a_reading(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        boot, seq = divmod(now_ms, 1_000)  # no reading before had both, also of a look in the same second
        reading = {
            "station_id": STATION, "connector_id": 1, "boot": boot, "seq": seq, "ts": now_ms,
            "energy_wh": 0, "power_w": 0, "status": "Available",
        }  # fmt: skip
        answer = self._expect((httpx.codes.ACCEPTED,), "POST", "/api/v1/telemetry", token=self._device, json=[reading])
        if answer["quarantined"]:
            raise Failed(f"the reading was quarantined: {json.dumps(answer['quarantined'])}")
        until_s = time.monotonic() + _WITHIN_S
        while not self._is_shown(now_ms):
            if time.monotonic() > until_s:
                raise Failed(f"the reading is not live within {_WITHIN_S:.0f} s; see the logs of bridge and worker")
            time.sleep(_POLL_S)

    def _is_shown(self, ts_ms: int) -> bool:
        statuses = (httpx.codes.OK, httpx.codes.NOT_FOUND)  # not found: a station that has not sent before
        answer = self._expect(statuses, "GET", f"/api/v1/telemetry/{STATION}/live", token=self._operator)
        shown = (datetime.fromisoformat(one["ts"]).timestamp() for one in answer.get("connectors", []))
        return any(round(ts_s * 1_000) >= ts_ms for ts_s in shown)

    def _expect(self, statuses: tuple[int, ...], method: str, path: str, token: str = "", **more: Any) -> Any:
        """The answer's JSON. Raises Failed for another status."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = self._client.request(method, path, headers=headers, **more)
        if answer.status_code not in statuses:
            expected = " or ".join(str(int(one)) for one in statuses)
            raise Failed(f"{method} {path}: {answer.status_code} where {expected} was expected: {answer.text[:300]}")
        try:
            return answer.json()
        except ValueError:
            raise Failed(f"{method} {path}: {answer.status_code}, but no JSON: {answer.text[:300]!r}") from None


def _token(variable: str) -> str:
    """From the file that a variable names; empty without."""
    path = os.environ.get(variable, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else ""
    except OSError as error:
        sys.exit(f"{variable}: {error}")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m deploy.smoke", description=__doc__)
    parser.add_argument("url", help="where the platform is, without /api")
    parser.add_argument("--ca-file", default="", help="PEM of its certificate's authority; else the system's")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each step")
    arguments = parser.parse_args()
    operator = _token("VOLTSTREAM_OPERATOR_TOKEN_FILE")
    if not operator:
        parser.error("VOLTSTREAM_OPERATOR_TOKEN_FILE is not set: the file of a token of kind operator")
    failed = False
    with httpx.Client(base_url=arguments.url, timeout=30, verify=client_context(arguments.ca_file)) as client:
        for step in Smoke(client, operator, _token("VOLTSTREAM_DEVICE_TOKEN_FILE")).steps():
            failed |= bool(step.error)
            said = step.error or "works"
            print(json.dumps(asdict(step)) if arguments.json else f"{step.name}: {said} ({step.seconds} s)", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
