"""Settings that operators change while `up` runs, in one process: what follows, and that nothing is lost meanwhile."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.voltstream.platform import ENOUGH_S, Up, readings, up, voltstream
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

STATION = "DE*VLT*E1"
TARIFF = {
    "target": "default",
    "time_zone": "Europe/Berlin",
    "effective_from": "2020-01-01T00:00:00Z",
    "tariff": {
        "currency": "EUR",
        "elements": [{"price_components": [{"type": "ENERGY", "price": 0.5, "vat": 19, "step_size": 1}]}],
    },
}


class Operator:
    """Of one `up`."""

    def __init__(self, platform: Up, start_ms: int) -> None:
        self.platform = platform
        self._start_ms = start_ms

    def post(self, path: str, body: Any) -> Any:
        """A POST's JSON."""
        headers = {"Authorization": f"Bearer {self.platform.first_line['operator_token']}"}
        answer = httpx.post(f"{self.platform.api}{path}", json=body, headers=headers, timeout=30, trust_env=False)
        assert answer.is_success, answer.text
        return answer.json()

    def set(self, name: str, value: object) -> None:
        """Whatever its version is."""
        version = self.platform.get(f"/api/v1/config/{name}")["version"]
        self.post("/api/v1/config", {"name": name, "value": value, "version": version, "reason": "a test"})

    async def revision(self, revision: int) -> None:
        """Until the process works by that revision of the configuration."""
        await eventually(lambda: f"config_revision {revision}.0" in self.platform.text("/metrics"), ENOUGH_S)

    def charge(self, number: int, *, step_wh: int = 100) -> None:
        """The session of that number, 20 s long, which ends the one before."""
        sent = readings(STATION, 20, self._start_ms + number * 60_000, first_seq=1 + number * 20)
        own = {"session_id": f"S-{number}", "power_w": 3_600 * step_wh}
        energy_wh = [10_000 * (1 + number) * (step_wh > 0) + step_wh * at for at in range(len(sent))]
        sent = [{**one, **own, "energy_wh": wh} for one, wh in zip(sent, energy_wh, strict=True)]
        assert self.platform.post(sent).status_code == 202

    def states(self) -> dict[str, str]:
        """Of the sessions by their id."""
        sessions = self.platform.get("/api/v1/sessions", station_id=STATION)["sessions"]
        return {one["session_id"]: one["state"] for one in sessions}

    def invoiced(self) -> list[str]:
        """The sessions of all invoices."""
        return sorted(one["id"] for one in self.platform.get("/api/v1/billing/invoices")["invoices"])


async def test_what_comes_while_billing_is_paused_waits_through_a_kill_and_is_billed_once(data_dir: Path) -> None:
    start_ms = int((time.time() - 3_600) * 1_000)
    with up(data_dir, "--no-simulator") as platform:
        operator = Operator(platform, start_ms)
        operator.post("/api/v1/pricing", TARIFF)
        operator.set("billing.settle_time", 0)
        operator.set("billing.paused", True)
        await operator.revision(2)
        for number in range(3):
            operator.charge(number)
        await eventually(lambda: list(operator.states().values()).count("completed") == 2, ENOUGH_S)
        assert operator.invoiced() == []
        checks = json.loads(voltstream("doctor", "--json", "--data-dir", str(data_dir)).stdout)["checks"]
        (found,) = [check for check in checks if check["name"] == "config"]
        assert "billing.paused = true (service)" in found["detail"]
        platform.process.kill()
        platform.process.wait(ENOUGH_S)
    with up(data_dir, "--no-simulator") as platform:
        operator = Operator(platform, start_ms)
        await operator.revision(2)
        operator.charge(3)
        await eventually(lambda: list(operator.states().values()).count("completed") == 3, ENOUGH_S)
        assert operator.invoiced() == []
        operator.set("billing.paused", False)
        await eventually(lambda: len(operator.invoiced()) == 3, ENOUGH_S)
        operator.charge(4)
        await eventually(lambda: len(operator.invoiced()) == 4, ENOUGH_S)
        assert platform.stop()[0] == 0


async def test_the_worker_and_the_gateway_follow_too(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        operator = Operator(platform, int((time.time() - 3_600) * 1_000))
        operator.charge(0, step_wh=0)
        operator.charge(1, step_wh=0)
        await eventually(lambda: operator.states().get("S-0") == "void", ENOUGH_S)
        operator.set("sessions.void_time", 10)
        await operator.revision(1)
        operator.charge(2, step_wh=0)
        await eventually(lambda: operator.states().get("S-1") == "completed", ENOUGH_S)
        operator.set("gateway.readings_per_request", 19)
        await operator.revision(2)
        sent = readings(STATION, 20, int(time.time() * 1_000), first_seq=1_000)
        assert platform.post(sent).status_code == 413
        assert platform.post(sent[:19]).status_code == 202
        assert platform.stop()[0] == 0
