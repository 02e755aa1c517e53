"""The services of the way of a reading, each stopped or killed while the others run, and started again: nothing lost or
doubled, from the 202 to the invoice.

Each is a process of its own, over all four servers. What is away says so by not answering; what is up goes on, as far
as it needs nobody else; and what chargers said meanwhile is stored, shown and invoiced once it is back.
"""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.private_servers import PrivateServers, fresh_database
from tests.proof.cluster import PARTITIONS, clear_brokers
from tests.voltstream.platform import ENOUGH_S
from tests.voltstream.service_processes import ENDINGS, ServiceProcesses
from tests.waiting import eventually
from voltstream.runtime.database import bring_up_to_date

NAMES: Final = ("telemetry", "billing", "worker", "gateway", "bridge", "relay")
STAGES: Final = ("stored", "shown", "invoiced")  # of a session's way, in order
# How far a session gets while that service is away; telemetry only shows, and who does not look waits for nobody.
REACHED: Final = {
    "gateway": (),
    "bridge": (),
    "worker": (),
    "relay": ("stored", "shown"),
    "billing": ("stored", "shown"),
    "telemetry": ("stored", "invoiced"),
}
SCHEMAS: Final = ("telemetry", "billing", "pricing", "events")
AT_ONCE: Final = 6  # sessions under way when the service ends
READINGS: Final = 12  # of one session
TARIFF: Final = {
    "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.5, "vat": 19, "step_size": 1}]}],
}


class Platform(ServiceProcesses):
    """The services' processes, and what chargers said so far."""

    def __init__(self, settings: dict[str, str], logs: Path, stack: ExitStack) -> None:
        super().__init__(settings, logs, stack)
        self._charger = self.client("device")
        self.sessions: list[Session] = []

    def post(self, readings: list[dict[str, Any]]) -> None:
        """As chargers do. Raises httpx.ConnectError where the gateway is away."""
        answer = self._charger.post(f"{self.url('gateway')}/telemetry", json=readings)
        assert (answer.status_code, answer.json()["accepted"]) == (202, len(readings)), answer.text

    def ledger(self) -> dict[str, Any]:
        """The sums over all partitions."""
        total: dict[str, Any] = self.ask("telemetry", "GET", "/telemetry/ledger", 200)["total"]
        return total


class Session:
    """One session at a station of its own: 396 Wh in eleven seconds."""

    def __init__(self, platform: Platform) -> None:
        platform.sessions.append(self)
        self._platform = platform
        self.station = self.id = f"AWAY-{uuid4().hex[:12].upper()}"

    def charge(self) -> None:
        """Have the charger say all of it."""
        start_ms = int(time.time() * 1_000) - 60_000
        said = {"station_id": self.station, "connector_id": 1, "boot": 1, "session_id": self.id, "status": "Charging"}
        readings: list[dict[str, Any]] = [
            {**said, "seq": 1 + number, "ts": start_ms + 1_000 * number, "energy_wh": 1_000 + 36 * number}
            for number in range(READINGS)
        ]
        readings[-1] |= {"status": "Available"}
        del readings[-1]["session_id"]
        self._platform.post(readings)

    def reached(self, *stages: str) -> tuple[str, ...]:
        """Of these stages (all) those that it has come to."""
        return tuple(stage for stage in stages or STAGES if getattr(self, f"_is_{stage}")())

    def _is_stored(self) -> bool:
        ended = "SELECT 1 FROM telemetry.session_overview WHERE session_id = %s AND ended_at IS NOT NULL"
        return bool(self._platform.rows(ended, self.id))

    def _is_shown(self) -> bool:
        live = self._platform.ask("telemetry", "GET", "/telemetry/live", 200, params={"station_id": self.station})
        return [one["status"] for one in live["connectors"]] == ["Available"]

    def _is_invoiced(self) -> bool:
        return self.counts()[1] > 0

    def counts(self) -> tuple[int, int]:
        """Its readings, and its documents."""
        readings = "SELECT count(*) FROM telemetry.reading JOIN telemetry.connector USING (connector_key)"
        documents = "SELECT count(*) FROM billing.invoice AS i JOIN billing.cdr AS c ON c.id = i.cdr_id"
        (stored,) = self._platform.rows(f"{readings} WHERE station_id = %s", self.station)
        (invoiced,) = self._platform.rows(f"{documents} WHERE device_session_id = %s", self.id)
        return stored[0], invoiced[0]


@pytest.fixture(scope="module")
def platform(running_servers: PrivateServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """All services of NAMES, and a tariff for all stations."""
    folder = tmp_path_factory.mktemp("services")
    with fresh_database(running_servers.url_of(running_servers.postgres)) as database_url, ExitStack() as stack:
        settings = running_servers.settings(database_url) | {
            "data_dir": str(folder / "data"),
            "invoice_settle_s": "0",
            "partitions": str(PARTITIONS),
        }
        asyncio.run(clear_brokers(running_servers))
        bring_up_to_date(database_url, PARTITIONS)
        running = Platform(settings, folder, stack)
        running.start(*NAMES, "pricing")
        version = {"target": {"default": True}, "time_zone": "UTC", "effective_from": "1970-01-01T00:00:00Z"}
        running.ask("pricing", "POST", "/pricing", 201, json={**version, "tariff": TARIFF})
        yield running


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("name", NAMES)
async def test_what_chargers_say_while_one_service_is_away_is_stored_shown_and_invoiced_when_it_is_back(
    platform: Platform, name: str, how: signal.Signals
) -> None:
    await eventually(platform.all_ready, ENOUGH_S)
    before = [Session(platform) for _ in range(AT_ONCE)]
    for session in before:
        session.charge()
    platform.end(name, how)

    others = {one: True for one in (*NAMES, "pricing") if one != name}
    assert platform.ready() == others
    with pytest.raises(httpx.ConnectError):
        platform.ask_ready(name)
    meanwhile = Session(platform)
    if name == "gateway":
        with pytest.raises(httpx.ConnectError):
            meanwhile.charge()
    else:
        meanwhile.charge()
    asked = tuple(stage for stage in STAGES if name != "telemetry" or stage != "shown")
    await eventually(lambda: meanwhile.reached(*asked) == REACHED[name], ENOUGH_S)
    assert platform.ready() == others

    platform.start(name)
    await eventually(platform.all_ready, ENOUGH_S)
    if name == "gateway":
        meanwhile.charge()
    with suppress(AssertionError):
        await eventually(lambda: not unfinished([*before, meanwhile]), ENOUGH_S)
    assert unfinished([*before, meanwhile]) == {}
    await eventually(lambda: platform.outboxes(SCHEMAS) == 0, ENOUGH_S)
    await eventually(lambda: platform.ledger()["closed"], ENOUGH_S)
    assert platform.ledger()["accepted"] == platform.ledger()["stored"] == READINGS * len(platform.sessions)
    for session in platform.sessions:
        assert session.counts() == (READINGS, 1)


def unfinished(sessions: list[Session]) -> dict[str, tuple[str, ...]]:
    """How far each has come that is not at its end."""
    return {session.id: reached for session in sessions if (reached := session.reached()) != STAGES}
