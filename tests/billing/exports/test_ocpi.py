"""Laws of OCPI CDRs: whole, exact, and a Credit CDR is the original with its total below 0."""

import json
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from schemas.events import SessionAssigned
from schemas.tariff import Tariff
from tests.billing.exports.conftest import EXPORT, Office, fill
from tests.billing.exports.ocpi_model import read_checked
from tests.billing.exports.registry import CONNECTOR, Station, register, register_whole
from tests.billing.making import TARIFF, VERSION, assigned, reservation, session

LEFT_OUT = f"{EXPORT}/left-out"
REQUIRED = {
    *("country_code", "party_id", "id", "start_date_time", "end_date_time", "cdr_token", "auth_method", "cdr_location"),
    *("currency", "tariffs", "charging_periods", "total_cost", "total_energy", "total_time", "last_updated"),
}
PARTS = ("total_fixed_cost", "total_energy_cost", "total_time_cost", "total_parking_cost", "total_reservation_cost")


async def cdrs(office: Office) -> list[dict[str, Any]]:
    body = (await office.ask(EXPORT, format="ocpi")).content
    return read_checked(body)


async def test_a_session_is_a_whole_cdr(office: Office) -> None:
    charged = session(energy_mwh=12_345_678, time_ms=5_400_000)
    assigned = SessionAssigned(session_id=charged.id, request_id=uuid4(), driver_id="ann", reservation_id=None)
    await office.billing.deliver(assigned, charged)
    (cdr,) = await cdrs(office)
    (document,) = office.billing.documents()
    assert set(cdr) >= REQUIRED
    assert cdr["id"] == str(document["cdr_id"])
    assert (cdr["country_code"], cdr["party_id"], cdr["session_id"]) == ("DE", "MUL", str(charged.id))
    assert (cdr["start_date_time"], cdr["end_date_time"]) == (charged.started_at, charged.ended_at)
    assert (cdr["cdr_token"]["uid"], cdr["cdr_token"]["type"], cdr["auth_method"]) == ("ann", "APP_USER", "COMMAND")
    assert (cdr["cdr_location"]["evse_id"], cdr["cdr_location"]["connector_id"]) == ("DE*MUL*E1", "1")
    assert cdr["cdr_location"]["coordinates"] == {"latitude": "53.543210", "longitude": "-9.000001"}
    assert cdr["total_energy"] == Decimal("12.345678")
    assert cdr["total_time"] == Decimal("1.5")
    (period,) = cdr["charging_periods"]
    assert period["start_date_time"] == charged.started_at
    assert {one["type"]: one["volume"] for one in period["dimensions"]} == {
        "ENERGY": Decimal("12.345678"),
        "TIME": Decimal("1.5"),
    }
    (tariff,) = cdr["tariffs"]
    assert (tariff["id"], period["tariff_id"]) == (str(VERSION), str(VERSION))
    assert Tariff.model_validate(tariff).elements == Tariff.model_validate(TARIFF).elements
    assert "credit" not in cdr


async def test_the_parts_sum_to_the_total_and_numbers_are_exact(office: Office) -> None:
    await fill(office.billing)
    for cdr, document in zip(await cdrs(office), office.billing.documents(), strict=True):
        assert cdr["total_cost"]["excl_vat"] * 1_000_000 == document["total_excl_micros"]
        assert cdr["total_cost"]["incl_vat"] * 1_000_000 == document["total_incl_micros"]
        for vat in ("excl_vat", "incl_vat"):
            parts = sum(cdr[part][vat] for part in PARTS if part in cdr)
            assert parts == abs(cdr["total_cost"][vat])
        assert cdr["invoice_reference_id"] == document["number"]
        assert len(cdr["id"]) <= 39
        moments = [period["start_date_time"] for period in cdr["charging_periods"]]
        assert moments == sorted(set(moments))
        assert moments[0] == cdr["start_date_time"]
        assert all(period["dimensions"] for period in cdr["charging_periods"])


async def test_a_credit_cdr_is_the_original_with_its_total_below_zero(office: Office) -> None:
    charged = session()
    await office.billing.deliver(charged, session(charged.id, revision=2, energy_mwh=99_000_000))
    original, credit, corrected = await cdrs(office)
    assert (credit["credit"], credit["credit_reference_id"]) == (True, original["id"])
    assert len({original["id"], credit["id"], corrected["id"]}) == 3
    for vat in ("excl_vat", "incl_vat"):
        assert credit["total_cost"][vat] == -original["total_cost"][vat]
    own = {"id", "credit", "credit_reference_id", "total_cost", "invoice_reference_id", "last_updated", "remark"}
    assert {name: value for name, value in credit.items() if name not in own} == {
        name: value for name, value in original.items() if name not in own
    }


async def test_a_document_is_left_out_until_its_station_is_known(office: Office) -> None:
    url = office.billing.url
    register(url, {"NL-1": Station(connectors={1: {**CONNECTOR, "standard": None}})})
    await office.billing.deliver(session(), session(station_id="NL-2"), reservation("R-1"))
    answer = await office.ask(EXPORT, format="ocpi")
    assert answer.content == b"[]\n"
    totals = json.loads(answer.headers["Voltstream-Totals"])
    assert (totals["documents"], totals["left_out"]["documents"]) == (0, 3)
    assert json.loads((await office.ask(EXPORT, format="jsonl")).headers["Voltstream-Totals"])["documents"] == 3
    listed = (await office.ask(LEFT_OUT)).json()["documents"]
    assert [(one["station_id"], one["missing"]) for one in listed] == [
        ("NL-1", ["standard"]),
        ("NL-2", ["station"]),
        ("NL-1", ["standard"]),
    ]
    assert [one["number"] for one in listed] == [document["number"] for document in office.billing.documents()]
    assert [one["reservation_id"] for one in listed] == [None, None, "R-1"]
    assert len((await office.ask(LEFT_OUT, station_id="nl-2")).json()["documents"]) == 1
    register_whole(url, ["NL-1", "NL-2"])
    assert len(await cdrs(office)) == 3
    assert (await office.ask(LEFT_OUT)).json() == {"documents": [], "next": None}


async def test_pages_of_what_is_left_out_are_all_of_it_once(office: Office) -> None:
    await fill(office.billing)
    register(office.billing.url, {})
    numbers: list[str] = []
    address: str | None = f"{LEFT_OUT}?limit=4"
    while address:
        page = (await office.ask(address)).json()
        numbers += [one["number"] for one in page["documents"]]
        address = page["next"]
    assert numbers == [document["number"] for document in office.billing.documents()]
    await office.ask(LEFT_OUT, 422, cursor="x")
    for who, status in (("finance", 200), ("operator", 200), ("device", 403), ("ann", 403)):
        await office.ask(LEFT_OUT, status, who)


async def test_a_reservation_of_a_station_names_no_connector(office: Office) -> None:
    await office.billing.deliver(msgspec.structs.replace(reservation("R-1"), connector_id=None))
    (cdr,) = await cdrs(office)
    place = cdr["cdr_location"]
    assert (place["evse_uid"], place["evse_id"], place["connector_id"]) == ("#NA", "#NA", "#NA")
    assert place["connector_standard"] == CONNECTOR["standard"]


@pytest.mark.parametrize("driver_id", ["x" * 37, "ü", "#NA"])
async def test_a_driver_whose_id_is_no_token_has_one_that_follows_from_it(office: Office, driver_id: str) -> None:
    charges = [session(), session()]
    await office.billing.deliver(*(assigned(one.id, driver_id) for one in charges), *charges)
    first, second = await cdrs(office)
    assert first["cdr_token"] == second["cdr_token"]
    assert first["cdr_token"]["type"] == "APP_USER"
    assert len(UUID(first["cdr_token"]["uid"]).bytes) == 16


async def test_a_charge_of_nobody_known_has_a_token_of_its_own(office: Office) -> None:
    await office.billing.deliver(session(), session())
    first, second = await cdrs(office)
    assert first["cdr_token"]["uid"] == first["session_id"] != second["cdr_token"]["uid"]
    assert (first["cdr_token"]["type"], first["auth_method"]) == ("AD_HOC_USER", "WHITELIST")


async def test_a_reservation_is_a_cdr_without_a_session(office: Office) -> None:
    await office.billing.deliver(reservation("R-1"))
    (cdr,) = await cdrs(office)
    assert "session_id" not in cdr
    assert cdr["total_reservation_cost"] == cdr["total_cost"]
    ((dimension,),) = [period["dimensions"] for period in cdr["charging_periods"]]
    assert dimension["type"] == "RESERVATION_TIME"
    assert dimension["volume"] > 0
