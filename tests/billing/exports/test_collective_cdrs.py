"""Laws of CDRs of charges on collective invoices: each charge is one, and all formats have the same totals."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest

from billing.exports import store as exports_store
from tests.billing.customers_wanted import wanted
from tests.billing.exports.conftest import EXPORT, STATIONS
from tests.billing.exports.ocpi_model import read_checked
from tests.billing.exports.registry import register, register_whole
from tests.billing.making import LEAST, LEAST_VERSION, START, assigned, reservation, session
from tests.billing.serving import CANCEL, INVOICES, Service

LEFT_OUT: Final = f"{EXPORT}/left-out"
MONTHS: Final = [datetime(2026, month, 1, 14, tzinfo=UTC) for month in (4, 5, 6)]


async def exported(service: Service) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The CDRs, each held to the specification, and the totals of every format."""
    totals: dict[str, dict[str, Any]] = {}
    for format_ in ("csv", "jsonl", "parquet", "ocpi"):
        answer = await service.ask("GET", EXPORT, 200, params={"format": format_})
        totals[format_] = json.loads(answer.headers["Voltstream-Totals"])
    return read_checked(answer.content), totals


async def issue(service: Service, now: datetime) -> None:
    service.billing.clock.advance((now - service.billing.clock.now()).total_seconds())
    await service.billing.components.statements.issue_due()


async def a_month(service: Service, day: int = 0) -> list[UUID]:
    """Charges of ann, who is invoiced by month, and one of bob, who is not."""
    charged = [
        session(energy_mwh=number * 1_000_000, station_id=STATIONS[number % 3], start=START + timedelta(days=day))
        for number in (1, 2, 3)
    ]
    charged.append(session(tariff=LEAST, version=LEAST_VERSION, start=START + timedelta(days=day)))
    for one in charged:
        await service.billing.deliver(assigned(one.id, "ann"), one)
    other = session()
    await service.billing.deliver(assigned(other.id, "bob"), other)
    return [one.id for one in charged]


@pytest.fixture
async def monthly(service: Service) -> Service:
    await service.post("/api/v1/billing/customers", wanted("Monthly GmbH", "ann", billing="monthly"))
    return service


@pytest.mark.parametrize("batch", [1, 3, 8_192])
async def test_every_charge_is_a_cdr_whatever_document_invoices_it(
    monthly: Service, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports_store, "BATCH_DOCUMENTS", batch)
    march = await a_month(monthly)
    await issue(monthly, MONTHS[0])
    cdrs, totals = await exported(monthly)
    assert totals["ocpi"] == totals["csv"] == totals["jsonl"] == totals["parquet"]
    assert len(cdrs) == len(march) + 1
    documents = monthly.billing.documents()
    assert {cdr["invoice_reference_id"] for cdr in cdrs} == {one["number"] for one in documents}
    for subject in march:
        (charge,) = monthly.billing.cdrs(subject)
        (cdr,) = [one for one in cdrs if one["session_id"] == str(subject)]
        assert cdr["id"] == str(charge["id"])
        assert cdr["cdr_token"]["uid"] == "ann"
        assert cdr["cdr_location"]["id"] == charge["station_id"]
        assert cdr["total_cost"]["incl_vat"] * 1_000_000 == charge["total_incl_micros"]
        parts = [cdr[name]["incl_vat"] for name in ("total_fixed_cost", "total_energy_cost", "total_time_cost")]
        assert sum(parts) * 1_000_000 <= charge["total_incl_micros"]
        volumes = {one["type"] for period in cdr["charging_periods"] for one in period["dimensions"]}
        assert volumes == {"ENERGY", "TIME"}
    assert (await monthly.get(LEFT_OUT))["documents"] == []


async def test_a_charge_that_is_taken_back_is_a_credit_cdr_and_all_of_a_session_sum_to_its_amount(
    monthly: Service,
) -> None:
    march = await a_month(monthly)
    await issue(monthly, MONTHS[0])
    await monthly.billing.deliver(session(march[0], revision=2, energy_mwh=5_000_000, station_id="NL-1"))
    await a_month(monthly, day=25)
    await issue(monthly, MONTHS[1])
    (last,) = [one for one in monthly.billing.documents() if one["driver_id"] is None][1:]
    await monthly.post(CANCEL, {"invoice_id": str(last["id"]), "reason": "x"})
    cdrs, totals = await exported(monthly)
    assert totals["ocpi"] == totals["csv"] == totals["jsonl"]
    of: dict[str, Decimal] = defaultdict(Decimal)
    for cdr in cdrs:
        of[cdr["session_id"]] += cdr["total_cost"]["incl_vat"]
        assert (cdr["total_cost"]["incl_vat"] < 0) == bool(cdr.get("credit"))
    first = monthly.billing.cdrs(march[0])[0]
    assert of[str(march[0])] * 1_000_000 == first["total_incl_micros"], "as before the invoice that was cancelled"


async def test_a_part_credited_of_a_collective_invoice_is_of_no_charge_and_counted_apart(monthly: Service) -> None:
    march = await a_month(monthly)
    await issue(monthly, MONTHS[0])
    (invoice,) = [one for one in monthly.billing.documents() if one["driver_id"] is None]
    await monthly.post(f"{INVOICES}/{invoice['id']}/credit", {"amount": "20.00", "reason": "x"})
    for subject in march:
        await monthly.billing.deliver(session(subject, revision=2, energy_mwh=0, time_ms=0, used=[]))
    for charge in (await monthly.get("/api/v1/billing/charges"))["charges"]:
        await monthly.post(f"/api/v1/billing/charges/{charge['id']}/void", {"why": "x"})
    await a_month(monthly, day=25)
    await issue(monthly, MONTHS[1])
    cdrs, totals = await exported(monthly)
    inside, outside = (part["currencies"]["EUR"] for part in (totals["ocpi"], totals["ocpi"]["left_out"]))
    for name in ("total_excl_vat", "total_incl_vat", "payable_excl_vat", "payable"):
        assert Decimal(inside[name]) + Decimal(outside[name]) == Decimal(totals["csv"]["currencies"]["EUR"][name]), name
    assert sum(cdr["total_cost"]["incl_vat"] for cdr in cdrs) == Decimal(inside["total_incl_vat"])
    left_out = (await monthly.get(LEFT_OUT))["documents"]
    assert {tuple(one["missing"]) for one in left_out} == {("single_charge",)}
    assert len(left_out) == totals["ocpi"]["left_out"]["documents"] >= 1


async def test_a_charge_whose_station_is_not_known_is_left_out_alone_and_listed(monthly: Service) -> None:
    march = await a_month(monthly)
    await monthly.billing.deliver(reservation("R-1"))
    await issue(monthly, MONTHS[0])
    register(monthly.billing.url, {})
    register_whole(monthly.billing.url, STATIONS[1:])
    cdrs, totals = await exported(monthly)
    lacking = monthly.billing.cdrs(march[2])[0]
    assert lacking["station_id"] == STATIONS[0]
    assert str(march[2]) not in {cdr.get("session_id") for cdr in cdrs}
    assert len(cdrs) == len(march) + 1
    outside = totals["ocpi"]["left_out"]
    assert outside["documents"] == 1
    assert Decimal(outside["currencies"]["EUR"]["total_incl_vat"]) * 1_000_000 == lacking["total_incl_micros"]
    pages = []
    address: str | None = f"{LEFT_OUT}?limit=1"
    while address:
        page = await monthly.get(address)
        pages += page["documents"]
        address = page["next"]
    assert [(one["session_id"], one["station_id"], one["missing"]) for one in pages] == [
        (str(march[2]), STATIONS[0], ["station"])
    ]
