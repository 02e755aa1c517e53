"""Sessions: found by either id, ambiguous ones distinguished, energies exact."""

import random
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any, get_args
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.sessions.models import Session
from api.sessions.responses import energy_wh
from schemas.session import END_REASON_NAMES, EndReason, EndReasonName, HoldReason
from tests.api.conftest import NOW, Api
from tests.api.rows import add_connector

PATH = "/api/v1/sessions"


def add_session(
    url: str,
    connector_key: int,
    session_id: str | None = None,
    *,
    started_at: datetime = NOW,
    end_reason: EndReason = EndReason.OPEN,
    energy_uj: int = 0,
    integrated_uj: int = 0,
    register_mwh: int | None = None,
    own_id: UUID | None = None,
    hold: int = 0,
    void: bool = False,
    power_max_mw: int = 22_000_000,
    export_mwh: int = 0,
) -> str:
    """Store a session; voltstream's id of it."""
    own_id = own_id or uuid4()
    last_at = started_at + timedelta(minutes=30)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO telemetry.session VALUES ((SELECT count(*) FROM telemetry.session), "
            "%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 10, 2, %s)",
            (
                *(own_id, connector_key, session_id, started_at, last_at, last_at if end_reason else None, end_reason),
                *(energy_uj, integrated_uj, register_mwh, register_mwh, int(end_reason > 0)),
            ),
        )
        connection.execute(
            "UPDATE telemetry.session SET hold = %s, void = %s, power_max_mw = %s, export_mwh = %s WHERE id = %s",
            (hold, int(void), power_max_mw, export_mwh, own_id),
        )
    return str(own_id)


async def test_a_session_is_found_by_either_id(api: Api) -> None:
    key = add_connector(api.database_url, "ST-1", 2)
    own_id = add_session(
        api.database_url, key, "TX-1", end_reason=EndReason.ENDED, energy_uj=16_482_250 * 3_600_000, register_mwh=1,
        export_mwh=1_500,
    )  # fmt: skip
    answer = (await api.get(f"{PATH}/{own_id}")).json()
    Session.model_validate(answer)
    assert answer == (await api.get(f"{PATH}/TX-1")).json()
    assert answer == (await api.get(f"{PATH}/TX-1", station_id="st-1")).json()
    unasked = ("request_id", "driver_id", "reservation_id", "requested_at", "stop_requested_at")
    unpriced = ("currency", "cost_excl_vat", "cost_incl_vat", "cost_parts", "tariff_version", "idle_fee")
    assert answer == {
        **dict.fromkeys(unasked + unpriced),
        "id": own_id,
        "station_id": "ST-1",
        "connector_id": 2,
        "session_id": "TX-1",
        "state": "completed",
        "started_at": "2026-03-29T09:00:00Z",
        "last_at": "2026-03-29T09:30:00Z",
        "ended_at": "2026-03-29T09:30:00Z",
        "end_reason": "ended",
        "energy_wh": 16482.25,
        "energy_uj": 16_482_250 * 3_600_000,
        "energy_source": "register",
        "energy_export_wh": 1.5,
        "estimated": False,
        "held": [],
        "rated_power_w": 22_000.0,
        "readings": 10,
        "flagged": 2,
        "revision": 1,
    }


async def test_a_device_may_name_its_sessions_by_uuid(api: Api) -> None:
    name = str(uuid4())
    own_id = add_session(api.database_url, add_connector(api.database_url, "ST-1", 1), name)
    assert (await api.get(f"{PATH}/{name}")).json()["id"] == own_id


async def test_an_ambiguous_id_is_a_409_with_the_candidates_and_the_mend(api: Api) -> None:
    keys = {name: add_connector(api.database_url, name, 1) for name in ("ST-1", "ST-2")}
    ids = [add_session(api.database_url, key, "17") for key in keys.values()]
    problem = (await api.get(f"{PATH}/17", 409)).json()
    assert {candidate["id"] for candidate in problem["candidates"]} == set(ids)
    assert "station_id" in problem["detail"]
    assert (await api.get(f"{PATH}/17", station_id="ST-2")).json()["id"] == ids[1]
    for _ in range(30):
        add_session(api.database_url, keys["ST-2"], "17")
    problem = (await api.get(f"{PATH}/17", 409, station_id="ST-2")).json()
    assert len(problem["candidates"]) == 20
    assert problem["detail"].startswith("more than 20")


async def test_a_session_of_another_station_is_not_found(api: Api) -> None:
    own_id = add_session(api.database_url, add_connector(api.database_url, "ST-1", 1), "17")
    for name in (own_id, "17"):
        assert "ST-2" in (await api.get(f"{PATH}/{name}", 404, station_id="ST-2")).json()["detail"]
    await api.get(f"{PATH}/18", 404)


@pytest.mark.parametrize(
    ("register_mwh", "energy_uj", "integrated_uj", "reason", "source", "estimated"),
    [
        (None, 0, 0, EndReason.OPEN, None, False),
        (5, 7_200_000, 0, EndReason.OPEN, "register", False),
        (5, 7_200_000, 0, EndReason.FREED, "register", False),
        (5, 7_200_000, 0, EndReason.TIMEOUT, "register", True),
        (5, 7_200_000, 0, EndReason.SUPERSEDED, "register", True),
        (5, 7_200_000, 100, EndReason.ENDED, "mixed", True),
        (None, 100, 100, EndReason.ENDED, "integrated", True),
    ],
)
async def test_energy_names_its_source(
    api: Api,
    register_mwh: int | None,
    energy_uj: int,
    integrated_uj: int,
    reason: EndReason,
    source: str | None,
    estimated: bool,
) -> None:
    own_id = add_session(
        api.database_url,
        add_connector(api.database_url, "ST-1", 1),
        end_reason=reason,
        energy_uj=energy_uj,
        integrated_uj=integrated_uj,
        register_mwh=register_mwh,
    )
    answer = (await api.get(f"{PATH}/{own_id}")).json()
    assert (answer["energy_source"], answer["estimated"]) == (source, estimated)
    assert answer["state"] == ("completed" if reason else "open")
    assert answer["end_reason"] == (reason.name.lower() if reason else None)


async def test_a_session_that_contradicts_itself_is_held_and_one_of_nothing_is_void(api: Api) -> None:
    key = add_connector(api.database_url, "ST-1", 1)
    reasons = int(HoldReason.REGISTER_LEAPT | HoldReason.SILENT)
    ids = {
        "held": add_session(api.database_url, key, end_reason=EndReason.ENDED, hold=reasons),
        "void": add_session(api.database_url, key, end_reason=EndReason.FREED, void=True),
        "completed": add_session(api.database_url, key, end_reason=EndReason.TIMEOUT),
        "open": add_session(api.database_url, key),
    }
    for state, own_id in ids.items():
        answer = (await api.get(f"{PATH}/{own_id}")).json()
        assert answer["state"] == state
        assert answer["held"] == (["register_leapt", "silent"] if state == "held" else [])
        listed = (await api.get(PATH, state=state)).json()["sessions"]
        assert [one["id"] for one in listed] == [own_id]


async def test_a_session_whose_readings_are_another_ones_is_not_listed(api: Api) -> None:
    key = add_connector(api.database_url, "ST-1", 1)
    own_id = add_session(api.database_url, key, "17", end_reason=EndReason.WITHDRAWN, void=True)
    occurrence = add_session(api.database_url, key, "17")
    assert [one["id"] for one in (await api.get(PATH)).json()["sessions"]] == [occurrence]
    assert (await api.get(f"{PATH}/17")).json()["id"] == occurrence, "its name is not ambiguous for that"
    answer = (await api.get(f"{PATH}/{own_id}")).json()
    assert (answer["end_reason"], answer["state"]) == ("withdrawn", "void"), "who has its id is told"


def test_every_end_reason_has_its_own_name() -> None:
    assert {reason: reason.name.lower() for reason in EndReason if reason} == END_REASON_NAMES
    assert get_args(EndReasonName) == tuple(END_REASON_NAMES.values())


@given(st.integers(-(10**15), 10**15))
def test_register_energy_is_exact_to_the_thousandth(energy_mwh: int) -> None:
    assert Decimal(repr(energy_wh(energy_mwh * 3_600_000))) == Decimal(energy_mwh) / 1000


@given(st.integers(-(2**53), 2**53))
def test_integrated_energy_is_rounded_half_up_to_the_millionth(energy_uj: int) -> None:
    expected = (Decimal(energy_uj) / 3600 + Decimal("0.5")).to_integral(ROUND_FLOOR)
    assert Decimal(repr(energy_wh(energy_uj))) == expected / 1_000_000


async def test_session_pages_put_together_are_the_list(api: Api, seed: int) -> None:
    rng = random.Random(seed)
    keys = [add_connector(api.database_url, name, 1) for name in ("ST-1", "ST-2")]
    reasons = [reason for reason in EndReason if reason != EndReason.WITHDRAWN]
    for _ in range(30):
        started_at = NOW + timedelta(hours=rng.randrange(12))  # several at once
        add_session(api.database_url, rng.choice(keys), started_at=started_at, end_reason=rng.choice(reasons))
    whole = (await api.get(PATH, limit=1_000)).json()["sessions"]
    assert len(whole) == 30
    assert [row["started_at"] for row in whole] == sorted((row["started_at"] for row in whole), reverse=True)
    questions: list[dict[str, Any]] = [
        {},
        {"station_id": "st-1"},
        {"state": "open"},
        {"start": "2026-03-29T12:00:00Z"},
        {"end": "2026-03-29T12:00:00Z"},
    ]
    for params in questions:
        parts, answer = [], (await api.get(PATH, limit=4, **params)).json()
        while True:
            parts += answer["sessions"]
            if not answer["next"]:
                break
            answer = (await api.get(answer["next"])).json()
        assert parts == [
            row
            for row in whole
            if row["station_id"] == params.get("station_id", row["station_id"]).upper()
            and row["state"] == params.get("state", row["state"])
            and row["started_at"] >= params.get("start", "")
            and row["started_at"] < params.get("end", "9")
        ]


async def test_while_a_session_goes_on_it_shows_what_standing_without_charging_costs(api: Api) -> None:
    key = add_connector(api.database_url, "ST-1", 2)
    running = add_session(api.database_url, key)
    over = add_session(api.database_url, key, end_reason=EndReason.ENDED, started_at=NOW - timedelta(days=1))
    assert (await api.get(f"{PATH}/{running}")).json()["idle_fee"] is None
    for price, since in (("6.00", "2020-01-01"), ("9.00", NOW + timedelta(minutes=1))):  # the one of its start counts
        document = (
            '{"id": "T1", "currency": "EUR", "elements": [{"price_components": [{"type": "PARKING_TIME", "price": '
            f'{price}, "vat": 19, "step_size": 60}}], "restrictions": {{"min_duration": 600}}}}]}}'
        )
        with psycopg.connect(api.database_url) as connection:
            connection.execute(
                "INSERT INTO pricing.version (id, target_kind, target, time_zone, currency, tariff, effective_from, "
                "reason, published_by) VALUES (gen_random_uuid(), 'default', '', 'Europe/Berlin', 'EUR', %s, %s, "
                "'operator', 'test')",
                (document, since),
            )
    answer = (await api.get(f"{PATH}/{running}")).json()
    Session.model_validate(answer)
    assert answer["idle_fee"] == {"price_per_hour": "6.00", "vat_percent": "19", "currency": "EUR", "depends": True}
    assert (await api.get(f"{PATH}/{over}")).json()["idle_fee"] is None
