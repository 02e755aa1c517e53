"""Laws of OCPI CDRs: whole, exact, and a Credit CDR is the original with its total below 0."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

from schemas.events import SessionAssigned
from schemas.tariff import Tariff
from tests.billing.exports.conftest import EXPORT, Office, fill
from tests.billing.exports.ocpi_model import read_checked
from tests.billing.making import TARIFF, VERSION, reservation, session

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


async def test_a_reservation_is_a_cdr_without_a_session(office: Office) -> None:
    await office.billing.deliver(reservation("R-1"))
    (cdr,) = await cdrs(office)
    assert "session_id" not in cdr
    assert cdr["total_reservation_cost"] == cdr["total_cost"]
    ((dimension,),) = [period["dimensions"] for period in cdr["charging_periods"]]
    assert dimension["type"] == "RESERVATION_TIME"
    assert dimension["volume"] > 0
