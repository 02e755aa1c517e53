"""The worked cases of the OCPI specification price as it states."""

import json
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from billing.rating import RatedUsage, rate_visit
from billing.rating.json_io import read_document
from billing.rating.periods import WrittenUsage, usages_of
from schemas.tariff import Tariff

OCPI = Path(__file__).parents[4] / "shared" / "data" / "ocpi"
CASES: list[dict[str, Any]] = []
if OCPI.exists():
    CASES = json.loads((OCPI / "worked_cases.json").read_text())["cases"]
MICRO_DIGITS = 6

there = pytest.mark.skipif(not CASES, reason=f"the worked cases of OCPI are not there: {OCPI}")


def rated(tariff: Tariff, start: str, periods: list[dict[str, Any]], time_zone: str = "Europe/Amsterdam") -> RatedUsage:
    document = json.dumps({"start": start, "time_zone": time_zone, "periods": periods})
    written = read_document(WrittenUsage, document)
    return rate_visit(tariff, written.zone, *usages_of(written))[1]


def tariff_of(case: dict[str, Any]) -> Tariff:
    named = case["tariff_file"]
    text = (OCPI / "examples_2.2.1" / named).read_text() if isinstance(named, str) else json.dumps(named)
    return read_document(Tariff, text)


def period(segment: dict[str, Any]) -> dict[str, Any]:
    power_w = None if segment["power_kw"] is None else str(Decimal(segment["power_kw"]) * 1_000)
    return {
        "kind": segment["kind"],
        "minutes": segment["minutes"],
        "energy_kwh": segment["kwh"],
        "current_a": segment["current_a"],
        "power_w": power_w,
    }


def assert_states(micros: int, stated: str | None) -> None:
    """Our total is the stated one, in as many digits as it is stated in."""
    if stated is None:
        return
    total, expected = Decimal(micros).scaleb(-MICRO_DIGITS), Decimal(stated)
    digits = -int(expected.as_tuple().exponent)
    if digits > MICRO_DIGITS:
        assert abs(total - expected) <= Decimal(1).scaleb(-MICRO_DIGITS)
    else:
        assert total.quantize(expected, ROUND_HALF_UP) == expected


@there
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_a_worked_case_prices_as_the_specification_states(case: dict[str, Any]) -> None:
    total = rated(tariff_of(case), case["start_local"], [period(segment) for segment in case["segments"]])
    assert_states(total.total_excl_micros, case["expected_excl_vat"])
    assert_states(total.total_incl_micros, case["expected_incl_vat"])


@there
def test_free_parking_has_no_step_and_the_last_paid_parking_has() -> None:
    """19:40, 12 min of charging, 20 min of parking of which 8 are before 20:00: 0.48 and 15 min at 1.00/h."""
    tariff = tariff_of({"tariff_file": "tariff_14_step_size.json"})
    periods = [{"kind": "CHARGING", "minutes": 12}, {"kind": "PARKING", "minutes": 20}]
    assert rated(tariff, "2019-01-07T19:40", periods).total_excl_micros == 730_000
