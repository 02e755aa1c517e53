"""Laws of charges that are not invoiced: each is found, by its status, with both figures, by whom it concerns."""

from typing import Any
from uuid import uuid4

from billing.currency import format_micros
from billing.held_charges.models import HeldCharge
from tests.billing.making import assigned, session
from tests.billing.serving import Service

CHARGES = "/api/v1/billing/charges"


async def pages(service: Service, **params: Any) -> list[dict[str, Any]]:
    """All pages together."""
    page = await service.get(CHARGES, who="operator", **params)
    found: list[dict[str, Any]] = page["charges"]
    while page["next"] is not None:
        page = await service.get(page["next"], who="operator")
        found += page["charges"]
    return found


async def test_what_is_not_invoiced_is_found_by_its_status_newest_first(service: Service) -> None:
    uninvoiced: dict[str, list[str]] = {"drift": [], "review": [], "unpriced": []}
    for _ in range(3):
        drift, review = session(excl_off_micros=1), session(energy_mwh=10_000_000_000, time_ms=10 * 3_600_000)
        unpriced = session(tariff=None, used=[])
        await service.billing.deliver(session(), drift, review, unpriced)
        for status, one in (("drift", drift), ("review", review), ("unpriced", unpriced)):
            uninvoiced[status].insert(0, str(one.id))
        service.billing.clock.advance(60)
    for status, ids in uninvoiced.items():
        for limit in (1, 2, 1_000):
            found = await pages(service, status=status, limit=limit)
            assert [one["session_id"] for one in found] == ids
            assert {one["status"] for one in found} == {status}
            for charge in found:
                HeldCharge.model_validate(charge)
    every = {id_ for ids in uninvoiced.values() for id_ in ids}
    assert {one["session_id"] for one in await pages(service, limit=2)} == every
    await service.get(CHARGES, 422, status="invoiced")
    await service.get(CHARGES, 422, cursor="nonsense")


async def test_a_charge_says_what_it_comes_to_by_billing_and_by_the_stream(service: Service) -> None:
    own_id = uuid4()
    await service.billing.deliver(assigned(own_id, "ann"), session(own_id, excl_off_micros=7))
    (cdr,) = service.billing.cdrs(own_id)
    (charge,) = await pages(service)
    assert (charge["station_id"], charge["driver_id"], charge["currency"]) == ("NL-1", "ann", "EUR")
    assert charge["total_excl_vat"] == format_micros(cdr["total_excl_micros"])
    assert charge["stream_excl_vat"] == format_micros(cdr["total_excl_micros"] + 7)
    assert charge["stream_incl_vat"] == charge["total_incl_vat"]
    await service.billing.deliver(session(own_id, revision=2))
    assert await pages(service) == [], "it is invoiced now"


async def test_only_finance_and_operators_see_charges(service: Service) -> None:
    for who, status in (("finance", 200), ("operator", 200), ("device", 403), ("ann", 403), (None, 401)):
        await service.get(CHARGES, status, who)
