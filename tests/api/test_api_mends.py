"""The refusal of a body says what is wrong and how to put it right."""

from typing import Any

import pytest

from tests.api.pricing_app import ZONE, PricingApp, tariff

FLAT = {"price_components": [{"type": "FLAT", "price": 1, "step_size": 1}], "restriction": {}}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"tarif": {}}, "body/tarif: there is no field tarif; did you mean tariff?"),
        (
            {"tariff": tariff(min_prize=1)},
            "body/tariff/min_prize: there is no field min_prize; did you mean min_price",
        ),
        ({"tariff": tariff(elements=[FLAT])}, "there is no field restriction; did you mean restrictions?"),
        ({"target": {"x": 1}}, "body/target/x: there is no field x; there are: default, group, station_id"),
        ({"target": {"station_id": "a\n"}}, "body/target/station_id: a station's id has 1 to 36 printable ASCII"),
        (
            {"target": {"group": "a b"}},
            "body/target/group: is not written as it has to be: write 1 to 64 letters, digits",
        ),
        ({"tariff": tariff(currency="ABC")}, "body/tariff: currency: ISO 4217 has no ABC"),
    ],
)
async def test_a_refusal_says_the_mend_in_words(pricing: PricingApp, change: dict[str, Any], detail: str) -> None:
    body = {"target": {"station_id": "ST-1"}, "time_zone": ZONE, "tariff": tariff(), **change}
    assert detail in (await pricing.send("POST", "", body, 422))["detail"]
