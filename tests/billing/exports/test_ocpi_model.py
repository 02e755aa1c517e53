"""The model of OCPI's CDR refuses what the specification does, so that tests which use it can fail."""

from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from tests.billing.exports.ocpi_model import checked

TOKEN = {"country_code": "DE", "party_id": "MUL", "uid": "ann", "type": "APP_USER", "contract_id": "ann"}
CDR: dict[str, Any] = {
    "country_code": "DE",
    "party_id": "MUL",
    "id": "c" * 36,
    "start_date_time": "2026-03-28T20:00:00.000Z",
    "end_date_time": "2026-03-28T21:30:00.000Z",
    "session_id": "s" * 36,
    "cdr_token": TOKEN,
    "auth_method": "COMMAND",
    "cdr_location": {
        "id": "NL-1",
        "address": "Am Kai 1",
        "city": "Hamburg",
        "country": "DEU",
        "coordinates": {"latitude": "53.543210", "longitude": "-9.000001"},
        "evse_uid": "DE*MUL*E1",
        "evse_id": "DE*MUL*E1",
        "connector_id": "1",
        "connector_standard": "IEC_62196_T2",
        "connector_format": "SOCKET",
        "connector_power_type": "AC_3_PHASE",
    },
    "currency": "EUR",
    "charging_periods": [
        {"start_date_time": "2026-03-28T20:00:00.000Z", "dimensions": [{"type": "ENERGY", "volume": Decimal("1.5")}]}
    ],
    "total_cost": {"excl_vat": Decimal("1.000000")},
    "total_energy": Decimal("1.5"),
    "total_time": Decimal("1.5"),
    "last_updated": "2026-03-28T21:31:00.000Z",
}
PARTS = [("",), ("cdr_token",), ("cdr_location",), ("cdr_location", "coordinates"), ("total_cost",)]


def _part(cdr: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in filter(None, path):
        cdr = cdr[name]
    return cdr


REQUIRED = [
    (path, name) for path in PARTS for name in _part(CDR, path) if (path, name) != (("",), "session_id")
]  # which only a reservation's lacks


def test_a_whole_cdr_is_one() -> None:
    assert checked([CDR]) == [CDR]


@pytest.mark.parametrize(("path", "name"), REQUIRED)
def test_a_required_field_is_required_and_not_null(path: tuple[str, ...], name: str) -> None:
    broken = deepcopy(CDR)
    part = _part(broken, path)
    part[name] = None
    with pytest.raises(ValidationError):
        checked([broken])
    del part[name]
    with pytest.raises(ValidationError):
        checked([broken])


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (("",), "id", "c" * 37),
        (("",), "start_date_time", "2026-03-28T20:00:00+00:00"),
        (("",), "start_date_time", "2026-03-28T23:00:00.000Z"),
        (("",), "total_energy", "1.5"),
        (("",), "total_energy", 1.5),
        (("",), "remark", "a\nb"),
        (("",), "remark", "x" * 256),
        (("",), "charging_periods", []),
        (("",), "credit", True),
        (("",), "unknown", "x"),
        (("cdr_token",), "uid", "#NA"),
        (("cdr_token",), "uid", "ü"),
        (("cdr_token",), "uid", "x" * 37),
        (("cdr_location",), "address", "#NA" * 16),
        (("cdr_location",), "evse_id", "#NA"),
        (("cdr_location",), "connector_standard", "CCS"),
        (("cdr_location", "coordinates"), "latitude", "-53.5432101"),
        (("cdr_location", "coordinates"), "longitude", "9.1"),
    ],
)
def test_a_value_that_ocpi_does_not_have_is_refused(path: tuple[str, ...], name: str, value: Any) -> None:
    broken = deepcopy(CDR)
    _part(broken, path)[name] = value
    with pytest.raises(ValidationError):
        checked([broken])
