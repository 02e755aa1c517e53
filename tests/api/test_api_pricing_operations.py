"""The operations of pricing: who may ask for them, how they are described, and that they keep to it."""

import asyncio
from copy import deepcopy
from datetime import timedelta
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from api.pricing import examples
from api.pricing.demand.models import DemandRule, DemandState
from api.pricing.models import (
    InForce,
    NewVersion,
    PublicVersion,
    Version,
    VersionPage,
)
from api.pricing.stations.models import GroupPage, WithoutTariffPage
from schemas.tariff import Tariff
from tests.api.pricing_app import NOW, PATH, STATION, PricingApp
from tests.described import answers_as_described, asked_only_by, cases_of, described_are, takes_or_refuses

OPERATIONS = {
    ("post", PATH): {"operator"},
    ("get", f"{PATH}/{{station_id}}"): {"operator", "finance", "driver"},
    ("get", f"{PATH}/versions"): {"operator", "finance"},
    ("get", f"{PATH}/versions/{{id}}"): {"operator", "finance"},
    ("get", f"{PATH}/groups/{{group}}"): {"operator", "finance"},
    ("get", f"{PATH}/stations/without-tariff"): {"operator", "finance"},
    **{
        (method, f"{PATH}/demand/{target}"): {"operator"}
        for method in ("get", "put", "delete")
        for target in ("stations/{station_id}", "groups/{group}", "default")
    },
}


@pytest.mark.parametrize(("operation", "kinds"), OPERATIONS.items())
async def test_only_those_may_ask_who_should(pricing: PricingApp, operation: tuple[str, str], kinds: set[str]) -> None:
    method, path = operation
    address = path.format(station_id="X", id="00000000-0000-4000-8000-000000000000", group="g")
    await asked_only_by(pricing.client, pricing.tokens, method, address, kinds)


async def test_every_operation_is_described_with_an_example_and_its_problems(pricing: PricingApp) -> None:
    await described_are(pricing.client, OPERATIONS)


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (Tariff, examples.TARIFF),
        (NewVersion, examples.NEW_VERSION),
        (PublicVersion, examples.PUBLIC_VERSION),
        (Version, examples.VERSION),
        (VersionPage, examples.VERSION_PAGE),
        (InForce, examples.IN_FORCE),
        (GroupPage, examples.GROUP),
        (WithoutTariffPage, examples.WITHOUT_TARIFF),
        (DemandRule, examples.DEMAND_RULE),
        (DemandState, examples.DEMAND_STATE),
    ],
)
def test_examples_are_what_the_models_say(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate(example)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(
    pricing: PricingApp, method: str, path: str
) -> None:
    await pricing.publish(STATION)
    await pricing.publish("default", effective_from=(NOW + timedelta(days=1)).isoformat())
    schema = schemathesis.openapi.from_dict((await pricing.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {pricing.tokens['operator']}"}
    cases = cases_of(schema[path][method.upper()])

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=cases, known=st.booleans())
    def ask(case: schemathesis.Case[Any], known: bool) -> None:
        if known and "{station_id}" in path:
            case.path_parameters = {"station_id": "st-1"}
        answers_as_described(case, pricing.server.url, headers)

    await asyncio.to_thread(ask)


FULL_TARIFF: dict[str, Any] = {
    **deepcopy(examples.TARIFF),
    "tariff_alt_text": [{"language": "nl", "text": "dag en nacht"}],
    "tariff_alt_url": "https://example.com/tariff",
    "min_price": {"excl_vat": 0.5, "incl_vat": 0.61},
    "max_price": {"excl_vat": 50},
    "start_date_time": "2026-01-01T00:00:00Z",
    "end_date_time": "2027-01-01T00:00:00+01:00",
    "energy_mix": {
        "is_green_energy": True,
        "energy_sources": [{"source": "WIND", "percentage": 100}],
        "environ_impact": [{"category": "CARBON_DIOXIDE", "amount": 0.5}],
        "supplier_name": "wind",
    },
}
FULL_TARIFF["elements"][0]["restrictions"] = {
    "start_time": "21:00",
    "end_date": "2026-12-31",
    "min_kwh": 0.5,
    "max_duration": 3_600,
    "day_of_week": ["MONDAY"],
}


@pytest.mark.parametrize(
    ("method", "path", "good"),
    [
        ("POST", "", {**examples.NEW_VERSION, "tariff": FULL_TARIFF}),
        ("PUT", "/demand/default", examples.DEMAND_RULE),
    ],
)
async def test_anything_anywhere_in_a_body_is_taken_or_refused(
    pricing: PricingApp, method: str, path: str, good: dict[str, Any]
) -> None:
    """What is taken is a tariff that everyone can read again."""
    await pricing.publish("default")
    accepted = await pricing.client.request(method, PATH + path, json=good)
    assert accepted.is_success, accepted.text

    def look(answer: httpx.Response) -> None:
        if answer.status_code == 201:
            Tariff.model_validate(answer.json()["tariff"])

    await takes_or_refuses(pricing.client, method, PATH + path, good, examples=300, look=look)
