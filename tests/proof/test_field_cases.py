"""What devices and tariffs really do (tests/field_cases.py): every case by the public API alone, in one process and
over the brokers. All cases run in one platform at once, each at a station of its own.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.field_cases import CASES, session_faults
from tests.private_servers import PrivateServers
from tests.proof.cluster import clear_brokers, server_urls
from tests.proof.processes import AT_ONCE
from tests.voltstream.platform import Up, up
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

_FROM = "2026-11-01T00:00:00Z"


@pytest.fixture(params=["embedded", "distributed"])
async def platform(request: pytest.FixtureRequest, data_dir: Path) -> AsyncIterator[Up]:
    settings = dict(AT_ONCE)
    if request.param == "distributed":
        servers: PrivateServers = request.getfixturevalue("running_servers")
        await clear_brokers(servers)
        settings |= server_urls(servers, request.getfixturevalue("database_url"))
    named = {name.removeprefix("VOLTSTREAM_").lower(): value for name, value in settings.items()}
    with up(data_dir, "--no-simulator", **named) as running:
        yield running


async def test_every_case_has_its_right_outcome(platform: Up) -> None:
    cases = CASES.values()
    faults: list[str] = []
    answers = {}
    for number, case in enumerate(cases):
        answers[case["name"]] = _post(platform, case, f"FIELD-{number:03d}")
    accepted = sum(answer["accepted"] for posts in answers.values() for answer in posts)
    await eventually(lambda: _closed(platform.ledger(), accepted), within_s=60)
    for number, case in enumerate(cases):
        found = await _settled(platform, case["expect"], f"FIELD-{number:03d}", answers[case["name"]])
        faults += [f"{case['name']}: {fault}" for fault in found]
    assert not faults, "\n".join(faults)


def _closed(ledger: dict[str, Any], accepted: int) -> bool:
    """A gateway reports what it accepted up to a tenth of a second later, so the ledger could close too early."""
    return bool(ledger["closed"]) and ledger["accepted"] >= accepted


def _post(platform: Up, case: dict[str, Any], station_id: str) -> list[dict[str, Any]]:
    operator = platform.first_line["operator_token"]
    target = {"station_id": station_id}
    asked = {"target": target, "time_zone": "UTC", "effective_from": "2026-01-01T00:00:00Z", "tariff": case["tariff"]}
    response = platform._ask("POST", "/api/v1/pricing", operator, json=asked)
    assert response.status_code == 201, response.text
    if power_w := case["expect"].get("rated_power_w"):
        path = f"/api/v1/stations/{station_id}"
        if platform._ask("GET", path, operator).status_code == 404:
            body = {"connectors": [{"connector_id": 1, "rated_power_w": power_w}]}
            response = platform._ask("PUT", path, operator, json=body)
            assert response.status_code == 201, response.text
    now = datetime.now(UTC)
    answers = []
    for post in case["posts"]:
        sent = [reading | {"station_id": station_id, "ts": _ts(reading["ts"], now)} for reading in post]
        response = platform.post(sent)
        assert response.status_code == 202, response.text + platform.log()
        answers.append(response.json())
    return answers


def _ts(text: str, now: datetime) -> str:
    if not text.startswith("now"):
        return text
    seconds = float(text.removeprefix("now").removesuffix("s") or 0)
    return (now + timedelta(seconds=seconds)).isoformat()


async def _settled(platform: Up, expected: dict[str, Any], station_id: str, answers: list[Any]) -> list[str]:
    """What is not as expected, once nothing changes any more."""
    faults: list[str] = []

    def none() -> bool:
        faults[:] = _faults(platform, expected, station_id, answers)
        return not faults

    with suppress(AssertionError):
        await eventually(none, within_s=30)
    return faults


def _faults(platform: Up, expected: dict[str, Any], station_id: str, answers: list[dict[str, Any]]) -> list[str]:
    faults: list[str] = []
    sessions = platform.get("/api/v1/sessions", station_id=station_id, limit="100")["sessions"][::-1]
    invoices = platform.get("/api/v1/billing/invoices", station_id=station_id, limit="100")["invoices"]
    wanted = expected.get("sessions")
    if wanted is not None:
        shown = sessions if len(sessions) == len(wanted) else [s for s in sessions if s["state"] != "void"]
        if len(shown) != len(wanted):
            faults.append(
                f"sessions: {len(wanted)} expected, found {[(s['session_id'], s['state']) for s in sessions]}"
            )
        else:
            for want, session in zip(wanted, shown, strict=True):
                faults += _session_faults(want, session, invoices)
    if energy := expected.get("energy"):
        page = platform.get(f"/api/v1/telemetry/{station_id}/energy", **{"from": _FROM})
        found = {name: page["total"][name] for name in energy}
        faults += [] if found == energy else [f"energy: {found}, expected {energy}"]
    if "invoices" in expected and len(invoices) != expected["invoices"]:
        faults.append(f"invoices: {len(invoices)}, expected {expected['invoices']}")
    if "sum_of_sessions_wh" in expected:
        total = sum(session["energy_wh"] for session in sessions)
        faults += [] if total == expected["sum_of_sessions_wh"] else [f"sum of sessions {total}"]
    if "billed_wh_max" in expected:
        billed = sum(session["energy_wh"] for session in sessions if session["state"] == "completed")
        faults += [] if billed <= expected["billed_wh_max"] else [f"billed {billed} Wh"]
    if "quarantined" in expected:
        count = sum(len(answer["quarantined"]) for answer in answers)
        faults += [] if count == expected["quarantined"] else [f"quarantined {count}"]
    for want in expected.get("dropped_fields", ()):
        dropped = [item for answer in answers for item in answer.get("dropped", ())]
        if not any(item["index"] == want["index"] and item["field"] == want["field"] for item in dropped):
            faults.append(f"{want} is not among {dropped}")
    if live := expected.get("live"):
        (document,) = platform.get(f"/api/v1/telemetry/{station_id}/live")["connectors"]
        faults += [f"live {name}: {document[name]}" for name in live if document[name] != live[name]]
    if expected.get("explain_agrees"):
        explained = [platform.get(f"/api/v1/billing/invoices/{one['id']}/explain") for one in invoices]
        faults += [] if explained and all(one["agrees"] for one in explained) else [f"explanations: {explained}"]
    return faults


def _session_faults(want: dict[str, Any], session: dict[str, Any], invoices: list[dict[str, Any]]) -> list[str]:
    faults = session_faults(want, session)
    mine = [one for one in invoices if one["session_id"] == session["id"]]
    if "invoiced" in want and bool(mine) != want["invoiced"]:
        faults.append(f"session {session['session_id']}: {len(mine)} invoices")
    if "total_excl_vat" in want and [Decimal(one["total_excl_vat"]) for one in mine] != [
        Decimal(want["total_excl_vat"])
    ]:
        faults.append(f"total_excl_vat {[one['total_excl_vat'] for one in mine]}, expected {want['total_excl_vat']}")
    return faults
