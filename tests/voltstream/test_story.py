"""One story through all services: a driver finds a station, reserves it, is late, is moved, charges, has receipts by
mail."""

import csv
import io
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from pypdf import PdfReader

from tests.api.smtp_server import PASSWORD, USER, SmtpServer, smtp_server
from tests.voltstream.platform import ENOUGH_S, Up, up, voltstream
from tests.waiting import eventually

DRIVER, ADDRESS = "D-STORY", "driver@example.com"
LATE: Final = timedelta(minutes=25)
CCS: Final = "IEC_62196_T2_COMBO"
SITES: Final = 100  # of two stations each
STATIONS: Final = [f"STORY-{number:03d}" for number in range(2 * SITES)]
TARIFF: Final[dict[str, Any]] = {
    "currency": "EUR",
    "elements": [
        {
            "price_components": [{"type": "FLAT", "price": 0.3, "vat": 19, "step_size": 1}],
            "restrictions": {"reservation": "RESERVATION"},
        },
        {"price_components": [{"type": "ENERGY", "price": 0.5, "vat": 19, "step_size": 1}]},
    ],
}


class Person:
    """Somebody with a token."""

    def __init__(self, platform: Up, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=f"{platform.api}/api/v1", headers=headers, timeout=60, trust_env=False)

    def __enter__(self) -> "Person":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, status: int, **more: Any) -> Any:
        answer = self._client.request(method, path, **more)
        assert answer.status_code == status, answer.text
        return answer.json()


class Charger:
    """A connector that says one thing after the other, each a second later at least."""

    def __init__(self, platform: Up, station_id: str) -> None:
        self._platform, self._station_id, self._seq = platform, station_id, 0
        self._ts = 0

    def say(self, status: str, **more: Any) -> None:
        self._seq += 1
        self._ts = max(self._ts + 1_000, int(time.time() * 1_000))
        reading = {"station_id": self._station_id, "connector_id": 1, "boot": 1, "seq": self._seq, "ts": self._ts}
        answer = self._platform.post([{**reading, "status": status, **more}])
        assert answer.status_code == 202, answer.text


def stations_file() -> str:
    """Sites go east from Berlin, 1 km and more from each other; the second station of each is a few metres away."""
    file = io.StringIO()
    rows = csv.DictWriter(
        file,
        ["station_id", "name", "city", "country", "latitude", "longitude", "time_zone", "site", "connector_id",
         "standard", "format", "power_type", "rated_power_w"],
    )  # fmt: skip
    rows.writeheader()
    for number, station_id in enumerate(STATIONS):
        site, second = divmod(number, 2)
        rows.writerow({
            "station_id": station_id, "name": f"Site {site}", "city": "Berlin", "country": "DEU",
            "latitude": "52.5", "longitude": f"{13 + site * 0.02 + second * 0.0001:.4f}", "time_zone": "Europe/Berlin",
            "site": f"Site {site}", "connector_id": 1, "standard": CCS if site else "CHADEMO", "format": "CABLE",
            "power_type": "DC", "rated_power_w": 150_000,
        })  # fmt: skip
    return file.getvalue()


@pytest.mark.usefixtures("processes")
async def test_a_day_of_a_driver_embedded(data_dir: Path, tmp_path: Path) -> None:
    async with smtp_server(tmp_path) as smtp:
        await _story(data_dir, smtp, {})


async def test_a_day_of_a_driver_distributed(
    data_dir: Path, tmp_path: Path, database_url: str, rabbitmq_url: str, kafka_url: str, redis_url: str
) -> None:
    servers = {
        "database_url": database_url, "rabbitmq_url": rabbitmq_url, "kafka_url": kafka_url, "redis_url": redis_url,
    }  # fmt: skip
    async with smtp_server(tmp_path) as smtp:
        await _story(data_dir, smtp, servers)


async def _story(data_dir: Path, smtp: SmtpServer, servers: dict[str, str]) -> None:
    mail = {
        "smtp_host": "127.0.0.1", "smtp_port": str(smtp.port), "smtp_ca_file": str(smtp.ca_file),
        "smtp_user": USER, "smtp_password": PASSWORD, "mail_from": "Volt <receipts@example.com>",
    }  # fmt: skip
    with up(data_dir, "--no-simulator", invoice_settle_s="0", **mail, **servers) as platform:
        issued = voltstream(
            "token", "issue", "--kind", "driver", "--subject", DRIVER, "--data-dir", str(data_dir), **servers
        )
        with (
            Person(platform, platform.first_line["operator_token"]) as operator,
            Person(platform, issued.stdout.strip()) as driver,
        ):
            await _prepared(operator, driver)
            await _charged(platform, operator, driver, smtp)
        assert platform.stop()[0] == 0


async def _prepared(operator: Person, driver: Person) -> None:
    """The operator imports the stations, after a look at what would change, and publishes a tariff for all of them."""
    file = stations_file()
    headers = {"content-type": "text/csv"}
    for dry_run in (True, False):
        question = {"format": "csv", "dry_run": str(dry_run).lower()}
        result = operator.ask("POST", "/stations/import", 200, params=question, content=file, headers=headers)
        assert result["created"] == len(STATIONS), result
        known = operator.ask("GET", "/stations", 200, params={"limit": 1})["stations"]
        assert bool(known) is not dry_run
    version = {"target": {"default": True}, "time_zone": "Europe/Berlin", "tariff": TARIFF}
    operator.ask("POST", "/pricing", 201, json=version)
    driver.ask("PUT", "/notifications/preferences", 200, json={"addresses": {"email": ADDRESS}})


async def _charged(platform: Up, operator: Person, driver: Person, smtp: SmtpServer) -> None:
    first, second = (Charger(platform, station_id) for station_id in STATIONS[2:4])
    for charger in (first, second):
        charger.say("Available", energy_wh=1_000)
    here = {"latitude": "52.5", "longitude": "13.001", "radius_m": "20000", "plug": CCS, "free": "true"}

    def nearest() -> list[str]:
        found = driver.ask("GET", "/stations/search", 200, params=here)["stations"]
        return [one["station_id"] for one in found]

    await eventually(lambda: nearest()[:2] == STATIONS[2:4], ENOUGH_S)

    wish = {"station_id": nearest()[0], "connector_id": 1, "duration_s": 1_800}
    await eventually(lambda: _is_known(driver, wish), ENOUGH_S)
    (reserved,) = driver.ask("GET", "/reservations", 200)["reservations"]
    assert reserved["station_id"] == STATIONS[2]
    await eventually(lambda: _in_state(driver, reserved["id"], "active"), ENOUGH_S)
    await eventually(lambda: nearest()[:1] == STATIONS[3:4], ENOUGH_S)

    _late(operator, driver, reserved["id"])
    first.say("Faulted", error_code="GroundFailure")  # while the driver is still on the way
    moved = await eventually(lambda: _moved(driver, reserved["id"]), ENOUGH_S)
    assert (moved["station_id"], moved["moved_from"]) == (STATIONS[3], STATIONS[2])
    taken = operator.ask(
        "POST", "/sessions", 409, json={"station_id": STATIONS[3], "connector_id": 1, "driver_id": "SOMEBODY-ELSE"}
    )
    assert "reserved" in taken["detail"]

    await eventually(lambda: _late_after(driver, reserved["id"]) == LATE, ENOUGH_S)
    _pause_billing(operator, paused=True, version=0)
    await _session(driver, second, reserved["id"])
    used = await eventually(lambda: _in_state(driver, reserved["id"], "used"), ENOUGH_S)
    assert used["charged"] is True
    assert driver.ask("GET", "/billing/invoices", 200)["invoices"] == []
    _pause_billing(operator, paused=False, version=1)

    invoices = await eventually(lambda: _invoices(driver, 2), ENOUGH_S)
    assert sorted(one["total_incl_vat"] for one in invoices) == ["0.214200", "0.357000"]
    for invoice in invoices:
        pdf = await eventually(partial(_receipt, smtp, invoice["number"]), ENOUGH_S)
        assert invoice["number"] in _text_of(pdf)
    await eventually(lambda: _all_told(operator), ENOUGH_S)
    await eventually(lambda: platform.ledger()["closed"], ENOUGH_S)


def _late(operator: Person, driver: Person, reservation_id: str) -> None:
    """The time began without the driver, who calls: the operator waits longer, and nobody else may charge there."""
    begun = driver.ask("GET", f"/reservations/{reservation_id}", 200)
    assert datetime.fromisoformat(begun["starts_at"]) < datetime.now(UTC) < datetime.fromisoformat(begun["late_at"])
    wish = {"station_id": begun["station_id"], "connector_id": 1, "driver_id": "SOMEBODY-ELSE"}
    assert "reserved" in operator.ask("POST", "/sessions", 409, json=wish)["detail"]
    change = {"name": "reservations.late", "value": int(LATE.total_seconds()), "version": 0, "reason": "a jam"}
    operator.ask("POST", "/config", 200, json=change)


def _late_after(driver: Person, reservation_id: str) -> timedelta:
    """How long after its start the driver may still come."""
    found = driver.ask("GET", f"/reservations/{reservation_id}", 200)
    return datetime.fromisoformat(found["late_at"]) - datetime.fromisoformat(found["starts_at"])


async def _session(driver: Person, charger: Charger, reservation_id: str) -> None:
    """360 Wh in ten seconds; the driver sees what it costs while it runs."""
    place = {"station_id": STATIONS[3], "connector_id": 1, "reservation_id": reservation_id}
    request_id = driver.ask("POST", "/sessions", 202, json=place)["request_id"]
    for second in range(11):
        charger.say("Charging", session_id=request_id, energy_wh=1_000 + 36 * second, power_w=129_600)

    def costs() -> bool:
        cost = driver.ask("GET", f"/sessions/{request_id}", 200)["cost_incl_vat"]
        return float(cost or 0) > 0

    await eventually(costs, ENOUGH_S)
    charger.say("Available", energy_wh=1_360)
    await eventually(lambda: driver.ask("GET", f"/sessions/{request_id}", 200)["state"] == "completed", ENOUGH_S)


def _is_known(driver: Person, wish: dict[str, Any]) -> bool:
    """Reserved; where reservations have not heard of the station yet, it is asked for again."""
    headers = {"Idempotency-Key": str(uuid4())}
    answer = driver._client.post("/reservations", json=wish, headers=headers)
    assert answer.status_code in (201, 404), answer.text
    return answer.status_code == 201


def _moved(driver: Person, reservation_id: str) -> Any:
    found = driver.ask("GET", f"/reservations/{reservation_id}", 200)
    return found if found["moved_from"] else None


def _in_state(driver: Person, reservation_id: str, state: str) -> Any:
    found = driver.ask("GET", f"/reservations/{reservation_id}", 200)
    return found if found["state"] == state else None


def _pause_billing(operator: Person, *, paused: bool, version: int) -> None:
    change = {"name": "billing.paused", "value": paused, "version": version, "reason": "month end"}
    operator.ask("POST", "/config", 200, json=change)


def _invoices(driver: Person, count: int) -> Any:
    found = driver.ask("GET", "/billing/invoices", 200)["invoices"]
    return found if len(found) == count else None


def _receipt(smtp: SmtpServer, number: str) -> Any:
    """The PDF that came by mail with this number in the mail's subject or text."""
    for mail in smtp.mails:
        body = mail.get_body(("plain",))
        if number in str(mail["Subject"]) or (body is not None and number in body.get_content()):
            for part in mail.iter_attachments():
                if part.get_content_type() == "application/pdf":
                    return part.get_content()
    return None


def _text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)


def _all_told(operator: Person) -> bool:
    counts = operator.ask("GET", "/notifications/deliveries", 200)["counts"]
    assert counts["queued"] == sum(counts[name] for name in ("sent", "failed", "suppressed", "waiting"))
    return bool(counts["sent"] and not counts["failed"] and not counts["waiting"])
