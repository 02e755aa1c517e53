"""The probe of the ledgers: what it shows of readings, and which connectors it counts."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from api.telemetry.declaration import SERVICE
from api.telemetry.ledger_probe import HOUR, SAMPLE, SETTLED, LedgerProbe
from kit.clock import ManualClock
from kit.live.view import InProcessLive
from kit.web.app import make_app
from schemas.quality import Quality
from tests.api.conftest import NOW
from tests.api.rows import Reading, add_connector, add_readings
from tests.serving import open_service

START = NOW - SETTLED - HOUR
UNBALANCED = "energy_ledger_unbalanced_connectors_total"


class Probed:
    """The probe, its database and what it showed."""

    def __init__(self, probe: LedgerProbe, url: str, live: InProcessLive, registry: CollectorRegistry) -> None:
        self.probe, self.url, self.live, self._registry = probe, url, live, registry

    def shown(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(name, labels)

    def connector(self, number: int, readings: list[Reading]) -> None:
        """Store these, with their windows."""
        key = add_connector(self.url, f"ST-{number}", 1)
        add_readings(self.url, [replace(one, connector_key=key) for one in readings], windows=False)


@pytest.fixture
async def probed(telemetry_url: str) -> AsyncIterator[Probed]:
    live, registry, clock = InProcessLive(), CollectorRegistry(), ManualClock(NOW)
    app = make_app("queries", "0", registry=registry)
    async with open_service(SERVICE, telemetry_url, clock, app=app, live=live, registry=registry) as opened:
        yield Probed(opened.components.probe, telemetry_url, live, registry)
    await live.close()


def readings(*registers_mwh: int, flags: int = 0) -> list[Reading]:
    """A minute apart, within the hour; all of the energy is in a session."""
    rises = [0, *(after - before for before, after in pairwise(registers_mwh))]
    return [
        Reading(0, START + timedelta(minutes=at), seq=at, energy_mwh=mwh, in_session_mwh=max(rise, 0), flags=flags)
        for at, (mwh, rise) in enumerate(zip(registers_mwh, rises, strict=True))
    ]


def windows_of_all(url: str) -> None:
    add_readings(url, [])


async def test_a_ledger_that_closes_is_not_counted(probed: Probed) -> None:
    probed.connector(1, readings(1_000, 1_500, 1_500, 9_000))
    probed.connector(2, readings(9_000, 10, 500))  # a new meter
    probed.connector(3, readings(1_000, 2_000, flags=Quality.IMPLAUSIBLE_POWER))
    probed.connector(4, [])
    windows_of_all(probed.url)
    for _ in range(3):
        await probed.probe.look()
    assert probed.shown("energy_ledger_checked_connectors_total") == 12
    assert probed.shown(UNBALANCED) == 0


@pytest.mark.parametrize("wrong", ["window", "reading"])
async def test_one_that_does_not_is_counted_once_it_was_found_twice(probed: Probed, wrong: str) -> None:
    stored = readings(1_000, 1_500, 9_000)
    if wrong == "reading":  # its meter rose by more than the readings account for
        stored[-1] = replace(stored[-1], in_session_mwh=7_000)
    probed.connector(1, stored)
    windows_of_all(probed.url)
    if wrong == "window":
        with psycopg.connect(probed.url) as connection:
            connection.execute("UPDATE telemetry.window_1m SET outside_mwh_sum = 1 WHERE bucket = %s", [START])
    await probed.probe.look()
    assert probed.shown(UNBALANCED) == 0
    await probed.probe.look()
    assert probed.shown(UNBALANCED) == 1


async def test_what_is_late_in_its_window_is_not_counted(probed: Probed) -> None:
    probed.connector(1, readings(1_000, 1_500))
    await probed.probe.look()
    windows_of_all(probed.url)
    await probed.probe.look()
    assert probed.shown(UNBALANCED) == 0


async def test_every_connector_comes_up(probed: Probed) -> None:
    for number in range(SAMPLE + 2):
        probed.connector(number, [])
    for _ in range(2):
        await probed.probe.look()
    assert probed.shown("energy_ledger_checked_connectors_total") == SAMPLE + 2


async def test_figures_of_the_ledger_of_readings(probed: Probed) -> None:
    with psycopg.connect(probed.url) as connection:
        connection.execute(
            "INSERT INTO telemetry.ledger (partition, stored, duplicate, quarantined, in_windows) "
            "VALUES (3, 90, 4, 2, 80)"
        )
    await probed.live.put("ledger", {"a1/3": b'{"items_total": 100}'})
    await probed.probe.look()
    figures = {"accepted": 100, "accounted": 96, "stored": 90, "in_windows": 80}
    assert {state: probed.shown("ledger_readings", partition="3", state=state) for state in figures} == figures
    await probed.live.put("ledger", {"a1/3": b"{}"})  # not ours
    await probed.probe.look()
    assert probed.shown("ledger_readings", partition="3", state="accepted") == 100
