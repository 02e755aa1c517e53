"""Tariffs over HTTP: published once, exact, in force when they should be."""

import asyncio
import json
from decimal import Decimal
from itertools import product
from string import ascii_uppercase
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.pricing.models import (
    InForce,
    PublishedVersion,
    Version,
    VersionPage,
)
from billing.currency import can_be_paid
from kit.web.route_rules import BODY_BYTES_MAX
from schemas.currency import CURRENCIES
from schemas.events import Event, PricingUpdated
from tests.api.pricing_app import PATH, STATION, ZONE, PricingApp, exact_tariff, tariff


async def test_a_published_tariff_is_in_force_and_says_so(pricing: PricingApp) -> None:
    PublishedVersion.model_validate(await pricing.publish_warned({"station_id": "st-2"}))
    made = await pricing.publish({"station_id": "st-1"})
    Version.model_validate(made)
    assert made["target"] == STATION
    assert made["effective_from"] == made["published_at"] == "2026-03-29T09:00:00.000Z"
    assert made["published_by"].startswith("operator/")
    answer = await pricing.get("/st-1")
    InForce.model_validate(answer)
    assert answer["station_id"] == "ST-1"
    not_public = ("published_by", "base_version")
    assert answer["version"] == {name: value for name, value in made.items() if name not in not_public}
    assert answer["next"] is None
    assert await pricing.get(f"/versions/{made['id']}") == made
    assert (await pricing.get("/versions"))["versions"][0] == made
    await pricing.get("/versions/00000000-0000-4000-8000-000000000000", 404)


async def test_where_nothing_applies_the_answer_says_the_mend(pricing: PricingApp) -> None:
    assert "POST /api/v1/pricing" in (await pricing.get("/ST-1", 404))["detail"]
    await pricing.publish(STATION, effective_from="2026-04-01T00:00:00+02:00")
    assert "the first is from 2026-03-31T22:00:00.000Z" in (await pricing.get("/ST-1", 404))["detail"]
    await pricing.get("/ST-1", at="2026-03-31T22:00:00Z")


async def test_what_is_next_is_told(pricing: PricingApp) -> None:
    await pricing.publish("default", 0.10)
    own = await pricing.publish(STATION, 0.20, effective_from="2026-04-01T00:00:00Z")
    season = tariff(0.30, start_date_time="2026-05-01T00:00:00Z", end_date_time="2026-06-01T00:00:00Z")
    summer = await pricing.publish(STATION, effective_from="2026-04-15T00:00:00Z", tariff=season)
    await pricing.publish("default", 0.15, effective_from="2026-05-15T00:00:00Z")  # hidden by the station's own
    seen = []
    moment: str | None = "2026-03-29T09:00:00.000Z"
    while moment:
        answer = await pricing.get("/ST-1", at=moment)
        following = answer["next"]
        seen.append((moment, following and following["version_id"]))
        moment = following and following["at"]
    assert seen == [
        ("2026-03-29T09:00:00.000Z", own["id"]),
        ("2026-04-01T00:00:00.000Z", summer["id"]),
        ("2026-05-01T00:00:00.000Z", own["id"]),
        ("2026-06-01T00:00:00.000Z", None),
    ]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"tariff": {**tariff(), "min_kw": 1}}, "body/tariff/min_kw"),
        ({"tariff": tariff(0.1234567)}, "body/tariff/elements/0/price_components/0/price"),
        ({"tariff": tariff(-1)}, "body/tariff/elements/0/price_components/0/price"),
        ({"tariff": {**tariff(), "elements": []}}, "body/tariff/elements"),
        ({"tariff": tariff(tariff_alt_url="a\0b")}, "tariff_alt_url"),
        (
            {
                "tariff": tariff(
                    energy_mix={
                        "is_green_energy": True,
                        "environ_impact": [{"category": "NUCLEAR_WASTE", "amount": "1e99999"}],
                    }
                )
            },
            "energy_mix/environ_impact/0/amount",
        ),
        (
            {"tariff": tariff(start_date_time="2026-02-01T00:00:00Z", end_date_time="2026-02-01T00:00:00Z")},
            "end_date_time",
        ),
        ({"tariff": tariff(end_date_time="0001-01-01T00:00:00+01:00")}, "end_date_time"),
        ({"time_zone": "Europe/Atlantis"}, "body/time_zone"),
        ({"time_zone": "localtime"}, "body/time_zone"),
        ({"effective_from": "2026-03-29T09:00:00"}, "body/effective_from"),
        ({"effective_from": 5}, "body/effective_from"),
        ({"effective_from": "3000-03-29T09:00:00Z"}, "body/effective_from"),
        ({"target": {}}, "body/target"),
        ({"target": {"station_id": "A", "group": "B"}}, "body/target"),
        ({"target": {"station_id": "\0"}}, "body/target/station_id"),
        ({"target": {"group": "no blanks"}}, "body/target/group"),
        ({"target": "everybody"}, "body/target"),
        ({"tarif": {}}, "body/tarif"),
    ],
)
async def test_a_wrong_document_is_refused_with_the_path_of_its_mistake(
    pricing: PricingApp, change: dict[str, Any], path: str
) -> None:
    body = {"target": STATION, "time_zone": ZONE, "tariff": tariff(), **change}
    assert path in (await pricing.send("POST", "", body, 422))["detail"]
    assert pricing.rows("SELECT id FROM pricing.version") == []


def _element(*dimensions: str, **restrictions: Any) -> dict[str, Any]:
    components = [{"type": dimension, "price": 0.3, "step_size": 1} for dimension in dimensions]
    return {"price_components": components, **({"restrictions": restrictions} if restrictions else {})}


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"min_price": {"excl_vat": 5}, "max_price": {"excl_vat": 4}}, "max_price/excl_vat"),
        (
            {"min_price": {"excl_vat": 4, "incl_vat": 6}, "max_price": {"excl_vat": 5, "incl_vat": 5}},
            "max_price/incl_vat",
        ),
        ({"currency": "ABC"}, "currency"),
        ({"currency": "XXX"}, "currency"),
    ],
)
async def test_a_tariff_that_contradicts_itself_is_refused_with_the_path(
    pricing: PricingApp, more: dict[str, Any], path: str
) -> None:
    assert f"body/tariff: {path}" in (await pricing.publish(STATION, tariff=tariff(**more), status=422))["detail"]
    assert pricing.rows("SELECT id FROM pricing.version") == []


@pytest.mark.parametrize(
    ("more", "path"),
    [
        *(
            ({"elements": [_element("FLAT", **{f"min_{name}": 5, f"max_{name}": high}), _element("ENERGY")]}, path)
            for name in ("kwh", "current", "power", "duration")
            for high, path in ((5, f"elements/0/restrictions/max_{name}"), (4, f"elements/0/restrictions/max_{name}"))
        ),
        ({"elements": [_element("ENERGY", max_kwh=0)]}, "elements/0/restrictions/max_kwh"),
        (
            {"elements": [_element("ENERGY", start_date="2026-05-01", end_date="2026-05-01")]},
            "elements/0/restrictions/end_date",
        ),
        ({"elements": [_element("ENERGY", "FLAT", "ENERGY")]}, "elements/0/price_components/2"),
        ({"elements": [_element("ENERGY"), _element("FLAT", "ENERGY", min_kwh=5)]}, "elements/1/price_components/1"),
        ({"elements": [_element("ENERGY", min_kwh=0), _element("ENERGY")]}, "elements/1/price_components/0"),
    ],
)
async def test_what_can_never_count_is_published_with_a_warning(
    pricing: PricingApp, more: dict[str, Any], path: str
) -> None:
    version = await pricing.publish_warned(STATION, tariff=tariff(**more))
    (warning,) = version["warnings"]
    assert warning.startswith(path)
    assert "never" in warning
    assert len(version["tariff"]["elements"]) == len(more["elements"]), "as it was written"


@pytest.mark.parametrize(
    "more",
    [
        {"elements": [_element("ENERGY", start_time="08:00", end_time="08:00"), _element("ENERGY")]},  # all day
        {"elements": [_element("ENERGY", min_kwh=5, max_kwh=5.000001), _element("ENERGY", "TIME")]},
        {"elements": [_element("TIME"), _element("TIME", reservation="RESERVATION")]},  # rated apart
        {"min_price": {"excl_vat": 5}, "max_price": {"excl_vat": 5}},
    ],
)
async def test_of_what_only_looks_so_there_is_no_warning(pricing: PricingApp, more: dict[str, Any]) -> None:
    assert (await pricing.publish_warned(STATION, tariff=tariff(**more)))["warnings"] == []


def test_what_can_be_published_can_be_paid() -> None:
    every = ("".join(letters) for letters in product(ascii_uppercase, repeat=3))
    assert {code for code in every if can_be_paid(code)} == CURRENCIES


async def test_a_body_without_bounds_is_refused(pricing: PricingApp) -> None:
    text = [{"language": "nl", "text": "x" * 400}] * 1_000
    answer = await pricing.client.post(PATH, content=json.dumps({"tariff": {"tariff_alt_text": text}}))
    assert answer.status_code == 413
    assert len(answer.request.content) > BODY_BYTES_MAX
    assert answer.headers["content-type"] == "application/problem+json"


PRICES = st.decimals(0, 1_000_000, places=6)


async def test_numbers_are_stored_and_told_exactly_as_they_were_written(pricing: PricingApp) -> None:
    """Also by the function that other rooms read, and in the event."""
    loop = asyncio.get_running_loop()

    @settings(max_examples=25)
    @given(st.lists(PRICES, min_size=1, max_size=5).map(lambda prices: [Decimal("0.29"), *prices]))
    def publish(prices: list[Decimal]) -> None:
        document = tariff()
        component = document["elements"][0]["price_components"][0]
        element = {"price_components": [{**component, "price": 0}], "restrictions": {"min_kwh": 1}}
        document["elements"] = [element for _ in prices]
        text = json.dumps({"target": STATION, "time_zone": ZONE, "tariff": document})
        for price in prices:
            text = text.replace('"price": 0,', f'"price": {price:f},', 1)
        sent = pricing.client.post(PATH, content=text, headers={"content-type": "application/json"})
        made = json.loads(asyncio.run_coroutine_threadsafe(sent, loop).result().content, parse_float=str)
        stored = pricing.rows(
            "SELECT d.tariff #>> '{elements}', convert_from(o.body, 'utf8')::json -> 'payload' #>> '{tariff,elements}' "
            "FROM pricing.version AS v, pricing.documents(ARRAY[v.version_key]) AS d, pricing.outbox AS o "
            "WHERE v.id = %s AND convert_from(o.body, 'utf8')::json #>> '{payload,version}' = v.id::text",
            made["id"],
        )
        for elements in (made["tariff"]["elements"], *(json.loads(text, parse_float=str) for text in stored[0])):
            stored = [element["price_components"][0]["price"] for element in elements]
            assert [Decimal(price) for price in stored] == prices

    await asyncio.to_thread(publish)


async def _publish_text(pricing: PricingApp, text: str) -> Any:
    answer = await pricing.client.post(PATH, content=text, headers={"content-type": "application/json"})
    return answer.status_code, json.loads(answer.content, parse_float=str, parse_int=str)


async def test_any_decimal_of_six_digits_is_told_as_it_was_written(pricing: PricingApp) -> None:
    """To the last zero, and beyond what a float can hold."""
    loop = asyncio.get_running_loop()
    text = json.dumps({"target": STATION, "time_zone": ZONE, "tariff": tariff(0.125)})

    @settings(max_examples=40)
    @given(whole=st.integers(0, 999_999), fraction=st.text("0123456789", max_size=6))
    def publish(whole: int, fraction: str) -> None:
        price = f"{whole}.{fraction}".rstrip(".")
        sent = _publish_text(pricing, text.replace("0.125", price))
        status, made = asyncio.run_coroutine_threadsafe(sent, loop).result()
        assert status == 201, made
        stored = made["tariff"]["elements"][0]["price_components"][0]["price"]
        assert Decimal(stored) == Decimal(price)
        assert Decimal(stored).as_tuple() == Decimal(price).as_tuple()

    await asyncio.to_thread(publish)


@pytest.mark.parametrize(
    "price",
    [
        "1e-400",
        "-1e-400",
        "1e-7",
        "0.3000000000000000000001",
        "0.1" + "0" * 27 + "1",  # one digit more than a Decimal's context has
        "1e999999999999999",
        "1e-99999999999999999999",
        "1000000.000000000000000000001",
        "9" * 5_000,
        "0." + "3" * 5_000,
    ],
)
async def test_a_number_that_no_price_has_is_refused_with_the_path_and_never_rounded(
    pricing: PricingApp, price: str
) -> None:
    text = json.dumps({"target": STATION, "time_zone": ZONE, "tariff": tariff(0.125)})
    for old, new, path in (
        ("0.125", price, "body/tariff/elements/0/price_components/0/price"),
        ("21", price, "body/tariff/elements/0/price_components/0/vat"),
        (": 1}", f": {price}}}", "body/tariff/elements/0/price_components/0/step_size"),
    ):
        status, problem = await _publish_text(pricing, text.replace(old, new))
        assert status == 422, problem
        assert problem["detail"].startswith(path)
    assert pricing.rows("SELECT id FROM pricing.version") == []


async def test_a_key_that_is_there_twice_is_refused_with_its_path(pricing: PricingApp) -> None:
    text = json.dumps({"target": STATION, "time_zone": ZONE, "tariff": tariff()})
    for old, new, path in (
        ('"currency": "EUR"', '"currency": "EUR", "currency": "CHF"', "body/tariff/currency"),
        ('"vat": 21', '"vat": 21, "vat": 21', "body/tariff/elements/0/price_components/0/vat"),
        ('"time_zone"', '"time_zone": "Europe/Paris", "time_zone"', "body/time_zone"),
    ):
        status, problem = await _publish_text(pricing, text.replace(old, new, 1))
        assert (status, problem["detail"].split(": ")[0]) == (422, path)
    assert (await _publish_text(pricing, "[" * 50_000))[0] == 400


async def test_a_version_and_its_event_are_one(pricing: PricingApp) -> None:
    made = await pricing.publish({"group": "airport"}, 0.31)
    await pricing.publish("default", -1, status=422)
    [(event_id, exchange, key, body)] = pricing.rows("SELECT event_id, exchange, routing_key, body FROM pricing.outbox")
    event = msgspec.json.decode(body, type=Event[PricingUpdated])
    assert (exchange, key) == ("fanout_broadcast", "pricing.updated")
    assert (event.metadata.event_id, event.metadata.type) == (event_id, "pricing.updated.v1")
    assert event.payload == PricingUpdated(
        version=event.payload.version,
        target_kind="group",
        target="airport",
        effective_from="2026-03-29T09:00:00.000Z",
        time_zone=ZONE,
        tariff=tariff(0.31),
        reason="operator",
    )
    assert str(event.payload.version) == made["id"]


async def test_the_same_key_publishes_once(pricing: PricingApp) -> None:
    body = {"target": STATION, "time_zone": ZONE, "tariff": tariff()}
    answers = await asyncio.gather(
        *(pricing.client.post(PATH, json=body, headers={"Idempotency-Key": "k"}) for _ in range(6))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].headers["location"] == f"{PATH}/versions/{answers[0].json()['id']}"
    assert (
        len(pricing.rows("SELECT id FROM pricing.version")) == len(pricing.rows("SELECT id FROM pricing.outbox")) == 1
    )
    await pricing.send("POST", "", {**body, "time_zone": "Europe/Paris"}, 409, **{"Idempotency-Key": "k"})
    await pricing.send("POST", "", body, 201, **{"Idempotency-Key": "other"})
    assert len(pricing.rows("SELECT id FROM pricing.version")) == 2


async def test_of_versions_published_at_once_none_is_lost_and_the_last_one_counts(pricing: PricingApp) -> None:
    made = await asyncio.gather(*(pricing.publish(STATION, number / 100) for number in range(20)))
    rows = pricing.rows("SELECT id::text FROM pricing.version ORDER BY version_key")
    assert {version["id"] for version in made} == {row[0] for row in rows}
    assert len(pricing.rows("SELECT DISTINCT event_id FROM pricing.outbox")) == 20
    assert (await pricing.get("/ST-1"))["version"]["id"] == rows[-1][0]


async def test_pages_of_versions_put_together_are_the_history(pricing: PricingApp) -> None:
    targets: list[Any] = ["default", STATION, {"group": "a"}, {"station_id": "ST-2"}]
    made = [await pricing.publish(targets[number % 4], number / 100) for number in range(14)]
    for params, expected in (
        ({}, made),
        ({"default": True}, made[0::4]),
        ({"station_id": "st-1"}, made[1::4]),
        ({"group": "a"}, made[2::4]),
    ):
        parts, answer = [], await pricing.get("/versions", limit=3, **params)
        VersionPage.model_validate(answer)
        while True:
            parts += answer["versions"]
            if not answer["next"]:
                break
            await pricing.publish(STATION, 0.99)  # newer ones stand before what was seen
            answer = await pricing.get(answer["next"].removeprefix(PATH))
        assert [part["id"] for part in parts if part["tariff"] != exact_tariff(0.99)] == [
            version["id"] for version in reversed(expected)
        ]
    await pricing.get("/versions", 422, default=True, group="a")


async def test_who_publishes_what_is_audited_with_what_was_before(pricing: PricingApp) -> None:
    first = await pricing.publish(STATION, 0.29)
    second = await pricing.publish(STATION, 0.31)
    query = "SELECT actor, entity, before, after FROM audit.entry WHERE action = 'tariff.published' ORDER BY id"
    (_, _, none, after), (actor, entity, before, newest) = pricing.rows(query)
    assert (none, before) == (None, after)
    assert (before["version"], newest["version"]) == (first["id"], second["id"])
    assert actor.startswith("operator/")
    assert entity == "tariff/station/ST-1"
    assert newest["tariff"] != before["tariff"]
