"""Laws of charges that wait for a person: each is found, with its reasons and both figures, by whom it concerns; and a
decision makes exactly the documents that follow from it."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from billing.charges.models import ChargeDetail, RecordedCharge
from billing.currency import format_micros
from schemas.events import SessionCompleted
from tests.billing.making import TARIFF, assigned, reservation, session
from tests.billing.serving import Service

CHARGES = "/api/v1/billing/charges"
WHY = {"why": "meter was read on site"}


def held(*reasons: str, own_id: UUID | None = None, **more: Any) -> SessionCompleted:
    """A session that contradicts itself."""
    return msgspec.structs.replace(session(own_id, **more), held=reasons or ("register_leapt",))


def void(own_id: UUID | None = None, **more: Any) -> SessionCompleted:
    """A session below the thresholds."""
    return msgspec.structs.replace(session(own_id, **more), void=True)


async def pages(service: Service, **params: Any) -> list[dict[str, Any]]:
    """All pages together."""
    page = await service.get(CHARGES, who="operator", **params)
    found: list[dict[str, Any]] = page["charges"]
    while page["next"] is not None:
        page = await service.get(page["next"], who="operator")
        found += page["charges"]
    return found


async def waiting(service: Service, *sessions: SessionCompleted) -> str:
    """The id of the charge of the last of these."""
    await service.billing.deliver(*sessions)
    return str(service.billing.cdrs(sessions[-1].id)[-1]["id"])


def statuses(service: Service, own_id: UUID) -> list[str]:
    return [document["status"] for document in service.billing.documents(own_id)]


def sums(service: Service, own_id: UUID) -> tuple[int, int]:
    documents = service.billing.documents(own_id)
    return sum(one["total_incl_micros"] for one in documents), sum(one["payable_minor"] for one in documents)


# -- the list ----------------------------------------------------------------------------------------------------------


async def test_what_is_not_invoiced_is_found_by_its_status_oldest_first(service: Service) -> None:
    uninvoiced: dict[str, list[str]] = {"drift": [], "review": [], "unpriced": [], "held": []}
    for _ in range(3):
        drift, review = session(excl_off_micros=1), session(tariff={**TARIFF, "currency": "XXX"}, version=uuid4())
        unpriced, doubted = session(tariff=None, used=[]), held()
        await service.billing.deliver(session(), drift, review, unpriced, doubted)
        for status, one in (("drift", drift), ("review", review), ("unpriced", unpriced), ("held", doubted)):
            uninvoiced[status].append(str(one.id))
        service.billing.clock.advance(60)
    for status, ids in uninvoiced.items():
        for limit in (1, 2, 1_000):
            found = await pages(service, status=status, limit=limit)
            assert [one["session_id"] for one in found] == ids
            assert {one["status"] for one in found} == {status}
            for charge in found:
                RecordedCharge.model_validate(charge)
    every = {id_ for ids in uninvoiced.values() for id_ in ids}
    assert {one["session_id"] for one in await pages(service, limit=2)} == every
    old = await pages(service, min_age_s=180)
    assert {one["session_id"] for one in old} == {ids[0] for ids in uninvoiced.values()}
    await service.get(CHARGES, 422, status="invoiced")
    await service.get(CHARGES, 422, cursor="nonsense")


async def test_charges_are_found_by_station_and_by_reason(service: Service) -> None:
    here, there = held("register_leapt", "silent", station_id="NL-7"), held("silent", station_id="NL-8")
    large = session(energy_mwh=10_000_000_000, time_ms=10 * 3_600_000)
    await service.billing.deliver(here, there, large)

    async def ids(**params: Any) -> list[str]:
        return sorted(one["session_id"] for one in await pages(service, **params))

    assert await ids(station_id="nl-7") == [str(here.id)]
    assert await ids(reason="silent") == sorted([str(here.id), str(there.id)])
    assert await ids(reason="silent", station_id="NL-8") == [str(there.id)]
    assert await ids(reason="above_total_max") == [str(large.id)]
    problem = await service.get(CHARGES, 422, reason="register_leaped")
    assert "register_leapt" in problem["detail"]
    assert service.billing.metric("billing_waiting_total", reason="silent") == 2
    assert service.billing.metric("billing_claims_total", outcome="held") == 3


async def test_a_charge_says_what_it_comes_to_by_billing_and_by_the_stream(service: Service) -> None:
    own_id = uuid4()
    await service.billing.deliver(assigned(own_id, "ann"), session(own_id, excl_off_micros=7))
    (cdr,) = service.billing.cdrs(own_id)
    (charge,) = await pages(service)
    assert (charge["station_id"], charge["driver_id"], charge["currency"]) == ("NL-1", "ann", "EUR")
    assert charge["reasons"] == ["differs_from_readings"]
    assert charge["total_excl_vat"] == format_micros(cdr["total_excl_micros"])
    assert charge["stream_excl_vat"] == format_micros(cdr["total_excl_micros"] + 7)
    assert charge["stream_incl_vat"] == charge["total_incl_vat"]
    await service.billing.deliver(session(own_id, revision=2))
    assert await pages(service) == [], "it is invoiced now"


async def test_only_finance_and_operators_see_charges_and_decide(service: Service) -> None:
    charge_id = await waiting(service, held())
    for who, status in (("device", 403), ("ann", 403), (None, 401), ("operator", 200), ("finance", 200)):
        await service.get(CHARGES, status, who)
        await service.get(f"{CHARGES}/{charge_id}", status, who)
        if status != 200:
            for deed in ("approve", "correct", "void"):
                await service.post(f"{CHARGES}/{charge_id}/{deed}", {**WHY, "energy_wh": "1"}, status, who)


# -- held, void --------------------------------------------------------------------------------------------------------


async def test_a_held_session_is_held_with_its_reasons_and_no_number_is_used(service: Service) -> None:
    one = held("register_leapt", "silent")
    await service.billing.deliver(one)
    (cdr,) = service.billing.cdrs(one.id)
    assert (cdr["status"], cdr["reasons"]) == ("held", ["register_leapt", "silent"])
    assert cdr["total_incl_micros"] is not None, "what it would come to"
    assert service.billing.documents() == []
    await service.billing.deliver(session())
    assert service.billing.documents()[0]["number"] == "2026-0000001"


async def test_a_held_revision_does_not_touch_the_invoice_and_a_good_one_does(service: Service) -> None:
    own_id = uuid4()
    await service.billing.deliver(session(own_id), held(own_id=own_id, revision=2, energy_mwh=99_000_000))
    assert statuses(service, own_id) == ["open"]
    await service.billing.deliver(session(own_id, revision=3, energy_mwh=2_000_000))
    assert statuses(service, own_id) == ["credited", "settled", "open"]


async def test_a_void_session_owes_nothing_and_what_was_invoiced_is_credited(service: Service) -> None:
    own_id, other = uuid4(), void()
    await service.billing.deliver(other, session(own_id), void(own_id, revision=2, energy_mwh=0, time_ms=60_000))
    assert [cdr["status"] for cdr in service.billing.cdrs(other.id)] == ["void"]
    assert service.billing.documents(other.id) == []
    assert statuses(service, own_id) == ["cancelled", "settled"]
    assert sums(service, own_id) == (0, 0)
    await service.billing.deliver(session(own_id, revision=3))
    assert statuses(service, own_id) == ["cancelled", "settled", "open"]
    assert [one["session_id"] for one in await pages(service, status="void")] == [str(other.id)]


async def test_a_void_session_whose_quantities_differ_is_drift(service: Service) -> None:
    own_id = uuid4()
    await service.billing.deliver(void(own_id, excl_off_micros=1))
    assert [cdr["status"] for cdr in service.billing.cdrs(own_id)] == ["drift"]


async def test_without_a_tariff_a_session_is_held_or_void_as_the_stream_says(service: Service) -> None:
    doubted, nothing = held(tariff=None, used=[]), void(tariff=None, used=[])
    await service.billing.deliver(doubted, nothing)
    (cdr,) = service.billing.cdrs(doubted.id)
    assert (cdr["status"], cdr["reasons"]) == ("held", ["register_leapt", "no_tariff"])
    assert [one["status"] for one in service.billing.cdrs(nothing.id)] == ["void"]
    await service.post(f"{CHARGES}/{doubted.id}/approve", WHY, 409)
    await service.post(f"{CHARGES}/{doubted.id}/void", WHY)


async def test_a_held_session_whose_quantities_differ_says_both(service: Service) -> None:
    one = held("silent", excl_off_micros=1)
    await service.billing.deliver(one)
    (cdr,) = service.billing.cdrs(one.id)
    assert (cdr["status"], cdr["reasons"]) == ("held", ["silent", "differs_from_readings"])
    assert "total_excl_vat" in cdr["reason"]


async def test_the_bound_is_of_the_currency(service: Service) -> None:
    for currency, units, status in (("EUR", 1_001, "held"), ("JPY", 1_001, "invoiced"), ("JPY", 150_001, "held")):
        component = {"type": "FLAT", "price": units, "step_size": 1}
        tariff = {"currency": currency, "elements": [{"price_components": [component]}]}
        used = [one for one in session().pricing.consumption if one.dimension == "FLAT"]  # type: ignore[union-attr]
        one = session(tariff=tariff, version=uuid4(), used=used)
        await service.billing.deliver(one)
        assert [cdr["status"] for cdr in service.billing.cdrs(one.id)] == [status], (currency, units)


# -- decisions ---------------------------------------------------------------------------------------------------------


async def test_an_approved_charge_is_invoiced_as_computed_with_who_and_why(service: Service) -> None:
    one = held("register_leapt")
    charge_id = await waiting(service, one)
    answer = await service.post(f"{CHARGES}/{charge_id}/approve", WHY, who="operator", key="k")
    ChargeDetail.model_validate(answer)
    assert await service.post(f"{CHARGES}/{charge_id}/approve", WHY, who="operator", key="k") == answer
    assert one.pricing is not None
    (invoice,) = service.billing.documents(one.id)
    assert invoice["total_incl_micros"] == one.pricing.cost.incl_vat_micros
    assert answer["invoice_id"] == str(invoice["id"])
    assert (answer["status"], answer["version"], answer["reasons"]) == ("invoiced", 2, [])
    (decision,) = answer["decisions"]
    assert (decision["decision"], decision["why"], decision["status_before"]) == ("approve", WHY["why"], "held")
    assert decision["reasons_before"] == ["register_leapt"]
    assert decision["who"].startswith("operator/")
    await service.post(f"{CHARGES}/{charge_id}/approve", WHY, 409, key="k2")
    await service.post(f"{CHARGES}/{answer['id']}/void", WHY, 409)
    assert len(service.billing.rows("SELECT 1 FROM billing.charge_decision")) == 1
    explained = await service.get(f"/api/v1/billing/invoices/{invoice['id']}/explain")
    assert explained["agrees"], explained["differences"]
    assert await pages(service) == []


async def test_drift_and_the_bound_are_released_by_billing_s_own_figures(service: Service) -> None:
    drift = session(excl_off_micros=1)
    large = session(energy_mwh=10_000_000_000, time_ms=10 * 3_600_000)
    for one in (drift, large):
        await waiting(service, one)
        answer = await service.post(f"{CHARGES}/{one.id}/approve", WHY)
        (invoice,) = service.billing.documents(one.id)
        assert format_micros(invoice["total_incl_micros"]) == answer["total_incl_vat"]
        explained = await service.get(f"/api/v1/billing/invoices/{invoice['id']}/explain")
        assert explained["agrees"], explained["differences"]


async def test_an_approved_charge_replaces_the_invoice_of_an_earlier_revision(service: Service) -> None:
    own_id = uuid4()
    charge_id = await waiting(service, session(own_id), held(own_id=own_id, revision=2, energy_mwh=3_000_000))
    await service.post(f"{CHARGES}/{charge_id}/approve", WHY)
    old, note, new = service.billing.documents(own_id)
    assert [one["status"] for one in (old, note, new)] == ["credited", "settled", "open"]
    assert (note["reason"], new["replaces"]) == (WHY["why"], old["id"])


async def test_a_corrected_charge_is_priced_by_the_same_rules_and_its_invoice_says_so(service: Service) -> None:
    one = held(energy_mwh=910_000_000, time_ms=3_600_000)
    charge_id = await waiting(service, one)
    answer = await service.post(f"{CHARGES}/{charge_id}/correct", {**WHY, "energy_wh": "150.5"})
    assert (answer["energy_wh"], answer["status"]) == ("150.500", "invoiced")
    assert answer["decisions"][0]["energy_wh"] == "150.500"
    (invoice,) = service.billing.documents(one.id)
    # 0.50 + 0.150500 kWh (step 1 Wh: 0.151) x 0.3456 + 60 min x 1.2/h, by hand
    assert invoice["total_excl_micros"] == 500_000 + 52_186 + 1_200_000
    detail = await service.get(f"/api/v1/billing/invoices/{invoice['id']}")
    assert [line["dimension"] for line in detail["lines"]] == ["FLAT", "ENERGY", "TIME", "CORRECTION"]
    assert detail["lines"][-1]["amount_incl_vat"] == "0.000000"
    assert detail["reason"] == f"corrected: {WHY['why']}"
    explained = await service.get(f"/api/v1/billing/invoices/{invoice['id']}/explain")
    assert explained["agrees"], explained["differences"]


async def test_a_correction_may_give_the_times(service: Service) -> None:
    one = held(energy_mwh=910_000_000, time_ms=3_600_000)
    charge_id = await waiting(service, one)
    path, wanted = f"{CHARGES}/{charge_id}/correct", {**WHY, "energy_wh": "1000"}
    await service.post(path, {**wanted, "ended_at": "2020-01-01T00:00:00Z"}, 422)
    await service.post(path, {**wanted, "energy_wh": "-1"}, 422)
    await service.post(path, {**wanted, "energy_wh": "1.2345"}, 422)
    await service.post(path, WHY, 422)
    assert service.billing.rows("SELECT 1 FROM billing.charge_decision") == []
    answer = await service.post(path, {**wanted, "ended_at": "2026-03-28T20:30:00Z"})
    assert (answer["ended_at"], answer["total_excl_vat"]) == ("2026-03-28T20:30:00Z", "1.445600")


async def test_a_voided_charge_owes_nothing(service: Service) -> None:
    own_id = uuid4()
    charge_id = await waiting(service, session(own_id), held(own_id=own_id, revision=2))
    answer = await service.post(f"{CHARGES}/{charge_id}/void", WHY)
    assert (answer["status"], answer["invoice_id"]) == ("void", None)
    assert statuses(service, own_id) == ["cancelled", "settled"]
    assert sums(service, own_id) == (0, 0)


async def test_what_cannot_be_priced_can_only_be_voided(service: Service) -> None:
    nowhere = session(tariff={**TARIFF, "currency": "XXX"}, version=uuid4())
    for one, words in ((session(tariff=None, used=[]), "no tariff"), (nowhere, "ISO 4217")):
        charge_id = await waiting(service, one)
        for deed, body in (("approve", WHY), ("correct", {**WHY, "energy_wh": "1"})):
            assert words in (await service.post(f"{CHARGES}/{charge_id}/{deed}", body, 409))["detail"]
        await service.post(f"{CHARGES}/{charge_id}/void", WHY)
    await service.post(f"{CHARGES}/{uuid4()}/void", WHY, 404)
    await service.post(f"{CHARGES}/{charge_id}/void", {"why": " "}, 422)


async def test_a_reservation_above_the_bound_is_approved_and_has_no_energy(service: Service) -> None:
    await service.billing.deliver(reservation("R-1", minutes=60_000))
    (charge,) = await pages(service)
    assert (charge["kind"], charge["reasons"]) == ("reservation", ["above_total_max"])
    await service.post(f"{CHARGES}/{charge['id']}/correct", {**WHY, "energy_wh": "1"}, 409)
    await service.post(f"{CHARGES}/{charge['id']}/approve", WHY)
    assert [one["payable_minor"] for one in service.billing.documents()] == [300_000 * 121 // 100]


async def test_a_decision_names_a_version_that_is_the_newest(service: Service) -> None:
    own_id = uuid4()
    charge_id = await waiting(service, held(own_id=own_id))
    newer = await waiting(service, held(own_id=own_id, revision=2, energy_mwh=7_000_000))
    problem = await service.post(f"{CHARGES}/{charge_id}/approve", WHY, 409)
    assert newer in problem["detail"]
    await service.post(f"{CHARGES}/{newer}/approve", WHY)


async def test_of_decisions_at_once_one_is_made(service: Service) -> None:
    one = held()
    charge_id = await waiting(service, one)
    headers = {"Authorization": f"Bearer {service.tokens['finance']}"}

    async def decide(deed: str) -> int:
        path = f"{CHARGES}/{charge_id}/{deed}"
        return (await service.client.post(path, json=WHY, headers=headers)).status_code

    assert sorted(await asyncio.gather(*map(decide, ("approve", "void", "approve", "void")))) == [201, 409, 409, 409]
    assert len(service.billing.rows("SELECT 1 FROM billing.charge_decision")) == 1
    assert len(service.billing.documents(one.id)) <= 1


@pytest.mark.parametrize("deed", ["approve", "correct", "void"])
async def test_a_later_revision_with_the_figures_decided_on_confirms_the_decision(service: Service, deed: str) -> None:
    own_id = uuid4()
    charge_id = await waiting(service, held(own_id=own_id))
    await service.post(f"{CHARGES}/{charge_id}/{deed}", WHY | ({"energy_wh": "5"} if deed == "correct" else {}))
    before = service.billing.documents(own_id)
    await service.billing.deliver(held(own_id=own_id, revision=2), session(own_id, revision=3))
    assert service.billing.documents(own_id) == before
    newest = service.billing.cdrs(own_id)[-1]
    assert (newest["revision"], newest["version"], newest["status"]) == (
        *(3, 2),
        "void" if deed == "void" else "invoiced",
    )
    assert newest["energy_uj"] == (5_000 * 3_600_000 if deed == "correct" else newest["energy_uj"])


@pytest.mark.parametrize("deed", ["approve", "correct", "void"])
async def test_a_later_revision_with_other_figures_is_held_again(service: Service, deed: str) -> None:
    own_id = uuid4()
    charge_id = await waiting(service, held(own_id=own_id))
    await service.post(f"{CHARGES}/{charge_id}/{deed}", WHY | ({"energy_wh": "5"} if deed == "correct" else {}))
    before = service.billing.documents(own_id)
    await service.billing.deliver(session(own_id, revision=2, energy_mwh=4_000_000))
    assert service.billing.documents(own_id) == before
    (charge,) = await pages(service)
    assert (charge["status"], charge["reasons"]) == ("held", ["decided_before"])
    await service.billing.deliver(session(own_id, revision=3, energy_mwh=5_000_000))
    (charge,) = await pages(service)
    assert charge["revision"] == 3
    answer = await service.post(f"{CHARGES}/{charge['id']}/approve", WHY)
    assert [one["decision"] for one in answer["decisions"]] == [deed, "approve"]
    assert sums(service, own_id)[0] == service.billing.cdrs(own_id)[-1]["total_incl_micros"]
