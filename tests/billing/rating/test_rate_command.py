"""`voltstream rate`: JSON for machines, an explanation for people, one line for a mistake."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.voltstream.platform import voltstream

pytestmark = pytest.mark.usefixtures("processes")

COMPONENTS = [
    {"type": "FLAT", "price": 0.5, "vat": 20, "step_size": 1},
    {"type": "ENERGY", "price": 0.25, "vat": 10, "step_size": 100},
]
TARIFF = {"currency": "EUR", "elements": [{"price_components": COMPONENTS}]}
USAGE = {
    "start": "2019-01-07T09:00",
    "time_zone": "Europe/Amsterdam",
    "periods": [{"kind": "CHARGING", "minutes": 60, "energy_kwh": "20.45", "current_a": None, "power_w": None}],
}
Files = Callable[..., list[str]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Writes the two files; returns the options that name them."""

    def write(tariff: Any = TARIFF, usage: Any = USAGE) -> list[str]:
        options = []
        for name, document in (("tariff", tariff), ("usage", usage)):
            path = tmp_path / f"{name}.json"
            path.write_text(json.dumps(document))
            options += [f"--{name}", str(path)]
        return options

    return write


def test_what_of_a_tariff_can_never_count_is_said_and_priced_as_it_stands(files: Files) -> None:
    free = {"price_components": [{"type": "ENERGY", "price": 0, "step_size": 1}]}
    shown = voltstream(
        "rate", *files({"currency": "EUR", "elements": [free, {"price_components": COMPONENTS}]}), "--json"
    )
    assert shown.returncode == 0
    assert "elements/1/price_components/1 never counts: elements/0 has ENERGY without restrictions" in shown.stderr
    assert json.loads(shown.stdout)["total_excl_vat"] == "0.500000"


def test_json_has_totals_and_lines(files: Files) -> None:
    shown = voltstream("rate", *files(), "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    document = json.loads(shown.stdout)
    assert set(document) == {"currency", "total_excl_vat", "total_incl_vat", "payable", "lines"}
    assert (document["currency"], document["total_excl_vat"], document["total_incl_vat"]) == (
        "EUR",
        "5.625000",
        "6.237500",
    )
    flat, energy = document["lines"]  # in the order of the tariff
    assert energy == {
        "dimension": "ENERGY",
        "element": 0,
        "volume": "20.500000",
        "unit": "kWh",
        "quantity": 20_500_000,
        "quantity_unit": "mWh",
        "quantity_added_by_step": 50_000,
        "price": "0.25",
        "amount_excl_vat": "5.125000",
        "vat_pct": "10",
        "vat": "0.512500",
    }
    assert (flat["dimension"], flat["volume"], flat["unit"], flat["vat_pct"]) == ("FLAT", "1", "session", "20")


@pytest.mark.parametrize(
    ("currency", "price", "payable"),
    [("JPY", "55.5555", "66"), ("EUR", "0.3", "0.36"), ("EUR", "0.3043", "0.36"), ("KWD", "0.3", "0.357")],
)
def test_what_is_to_be_paid_is_in_whole_coins_of_the_currency(
    files: Files, currency: str, price: str, payable: str
) -> None:
    element = {"price_components": [{"type": "ENERGY", "price": price, "vat": 19, "step_size": 1}]}
    usage = USAGE | {"periods": [{"kind": "CHARGING", "minutes": 60, "energy_kwh": "1"}]}
    options = files({"currency": currency, "elements": [element]}, usage)
    assert json.loads(voltstream("rate", *options, "--json").stdout)["payable"] == payable
    assert f"To pay: {payable} {currency}" in voltstream("rate", *options).stdout


def test_a_bound_is_a_line(files: Files) -> None:
    document = json.loads(voltstream("rate", *files(TARIFF | {"max_price": {"excl_vat": 5}}), "--json").stdout)
    line = document["lines"][-1]
    assert (line["dimension"], line["amount_excl_vat"], line["vat"]) == ("MAX_PRICE", "-0.625000", "-0.068056")
    assert (document["total_excl_vat"], document["total_incl_vat"]) == ("5.000000", "5.544444")


def test_people_see_periods_lines_roundings_and_what_is_to_be_paid(files: Files) -> None:
    shown = voltstream("rate", *files())
    assert shown.returncode == 0
    for part in ("Europe/Amsterdam", "2019-01-07T09:00:00.000+01:00", "20450", "0 ENERGY step_size", "0.25/kWh"):
        assert part in shown.stdout
    assert "Total 5.625000 EUR excl. VAT, 6.237500 EUR incl. VAT\nTo pay: 6.24 EUR" in shown.stdout


def test_a_mistake_is_one_line_with_its_place(files: Files) -> None:
    wrong = USAGE | {"periods": [{"kind": "CHARGING", "minutes": -1}]}
    refused = voltstream("rate", *files(usage=wrong), "--json")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "usage.json: periods[0].minutes: " in refused.stderr


def test_a_file_that_is_not_there_is_one_line(files: Files, tmp_path: Path) -> None:
    options = files()
    (tmp_path / "tariff.json").unlink()
    refused = voltstream("rate", *options)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "tariff.json: cannot be read: No such file" in refused.stderr
