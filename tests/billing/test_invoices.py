"""Laws of reading and cancelling invoices, over HTTP."""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from billing.invoices.models import Invoice, InvoiceDetail
from kit.clock import format_rfc3339
from tests.billing.making import assigned, reservation, session
from tests.billing.running import NOW
from tests.billing.serving import CANCEL, CHARGE, INVOICES, PAYMENTS, Service


async def fill(service: Service, count: int, rng: random.Random) -> None:
    """Sessions of two drivers and nobody at three stations, some of them revised."""
    for number in range(count):
        service.billing.clock.advance(60)
        own_id = uuid4()
        await service.billing.deliver(session(own_id, station_id=f"NL-{number % 3}", energy_mwh=1_000_000 + number))
        if driver := rng.choice(["ann", "bob", None]):
            await service.billing.deliver(assigned(own_id, driver))
        if rng.random() < 0.3:
            await service.billing.deliver(session(own_id, revision=2, station_id=f"NL-{number % 3}", energy_mwh=5))


async def pages(service: Service, who: str = "finance", **params: Any) -> list[dict[str, Any]]:
    """All pages together."""
    found: list[dict[str, Any]] = []
    page = await service.get(INVOICES, who=who, **params)
    while True:
        found += page["invoices"]
        if page["next"] is None:
            return found
        page = await service.get(page["next"], who=who)


async def test_pages_put_together_are_all_documents_newest_first(service: Service, seed: int) -> None:
    await fill(service, 25, random.Random(seed))
    stored = [str(document["id"]) for document in reversed(service.billing.documents())]
    for limit in (1, 7, 1_000):
        found = await pages(service, limit=limit)
        assert [invoice["id"] for invoice in found] == stored
        for invoice in found:
            Invoice.model_validate(invoice)


async def test_filters_are_what_they_say(service: Service, seed: int) -> None:
    await fill(service, 25, random.Random(seed))
    every = await pages(service)
    middle = every[len(every) // 2]
    after = NOW + timedelta(minutes=12)
    filters: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
        ({"driver_id": "ann"}, lambda one: one["driver_id"] == "ann"),
        ({"station_id": "nl-1"}, lambda one: one["station_id"] == "NL-1"),
        ({"session_id": middle["session_id"]}, lambda one: one["session_id"] == middle["session_id"]),
        ({"status": "credited"}, lambda one: one["status"] == "credited"),
        ({"kind": "credit_note"}, lambda one: one["kind"] == "credit_note"),
        ({"number": middle["number"]}, lambda one: one["number"] == middle["number"]),
        ({"start": format_rfc3339(after)}, lambda one: one["issued_at"] >= format_rfc3339(after)[:-5]),
        ({"end": format_rfc3339(after)}, lambda one: one["issued_at"] < format_rfc3339(after)[:-5]),
        ({"driver_id": "ann", "status": "open"}, lambda one: one["driver_id"] == "ann" and one["status"] == "open"),
    ]
    for params, holds in filters:
        assert await pages(service, limit=3, **params) == [one for one in every if holds(one)], params


async def test_what_cannot_be_asked_is_a_422_with_the_mend(service: Service) -> None:
    moment = format_rfc3339(NOW)
    questions: list[tuple[dict[str, Any], str]] = [
        ({"number": "17"}, "2026-0000017"),
        ({"start": moment, "end": moment}, "before"),
        ({"cursor": "nonsense"}, "next"),
        ({"limit": 0}, "limit"),
        ({"status": "lost"}, "status"),
    ]
    for params, words in questions:
        problem = await service.get(INVOICES, 422, **params)
        assert words in problem["detail"]


async def test_a_number_in_the_place_of_an_id_is_recognised_and_the_error_says_how_to_find_it(service: Service) -> None:
    for path in (f"{INVOICES}/2026-0000017", f"{INVOICES}/2026-0000017/explain"):
        problem = await service.get(path, 422)
        assert f"{INVOICES}?number=2026-0000017" in problem["detail"]
        assert "Value error" not in f"{problem}"
    problem = await service.get(INVOICES, 422, start="yesterday")
    assert "Value error" not in f"{problem}"


async def test_a_document_is_whole(service: Service) -> None:
    own_id = uuid4()
    await service.billing.deliver(session(own_id))
    (stored,) = service.billing.documents()
    detail = await service.get(f"{INVOICES}/{stored['id']}")
    InvoiceDetail.model_validate(detail)
    assert (detail["number"], detail["payable"], detail["total_incl_vat"]) == ("2026-0000001", "7.77", "7.769801")
    assert detail["charge"]["energy_kwh"] == "12.345678"
    flat, energy, time = detail["lines"]  # in the order of the tariff
    assert energy == {
        "dimension": "ENERGY",
        "element": 0,
        "volume": "12.346000",
        "unit": "kWh",
        "quantity": 12_346_000,
        "quantity_unit": "mWh",
        "quantity_added_by_step": 322,
        "price": "0.3456",
        "vat_pct": "21",
        "amount_excl_vat": "4.266778",
        "vat": "0.896023",
        "amount_incl_vat": "5.162801",
    }
    assert (flat["amount_incl_vat"], time["volume"], time["vat_pct"]) == ("0.605000", "1.516667", "10")
    await service.get(f"{INVOICES}/{uuid4()}", 404)


async def test_only_who_may_sees_and_does(service: Service) -> None:
    of_ann, of_nobody = uuid4(), uuid4()
    await service.billing.deliver(session(of_ann), assigned(of_ann, "ann"), session(of_nobody))
    ann, nobody = (str(service.billing.documents(one)[0]["id"]) for one in (of_ann, of_nobody))
    ours = (await service.post(CHARGE, {"invoice_id": ann, "provider": "stripe"}, who="ann"))["id"]
    everyone = ("finance", "operator", "device", "ann", "bob", None)
    own_only = (200, 200, 403, 200, 404, 401)
    others = (200, 200, 403, 404, 404, 401)
    questions: list[tuple[str, tuple[int, ...]]] = [
        (INVOICES, (200, 200, 403, 200, 200, 401)),
        (f"{INVOICES}/{ann}", own_only),
        (f"{INVOICES}/{nobody}", others),
        (f"{PAYMENTS}/{ours}", own_only),
        (f"{INVOICES}/{ann}/explain", own_only),
    ]
    for path, statuses in questions:
        for who, status in zip(everyone, statuses, strict=True):
            await service.get(path, status, who)
    deeds: list[tuple[str, dict[str, str], tuple[int | None, ...]]] = [
        (CHARGE, {"invoice_id": nobody, "provider": "manual"}, (201, 403, 403, 404, 404, 401)),
        (CHARGE, {"invoice_id": ann, "provider": "stripe"}, (201, 403, 403, 201, 404, 401)),
        (CHARGE, {"invoice_id": ann, "provider": "manual"}, (None, 403, 403, 403, 404, 401)),
        (CANCEL, {"invoice_id": ann, "reason": "x"}, (None, 403, 403, 403, 403, 401)),
        (f"{PAYMENTS}/manual/webhook", {"payment_id": ours, "status": "failed"}, (404, 403, 403, 403, 403, 401)),
    ]
    for path, body, answers in deeds:
        for who, answer in zip(everyone, answers, strict=True):
            if answer is not None:
                await service.post(path, body, answer, who)
    seen = {who: [one["id"] for one in await pages(service, who)] for who in ("ann", "bob", "finance")}
    assert (seen["ann"], seen["bob"], len(seen["finance"])) == ([ann], [], 2)
    assert await pages(service, "bob", driver_id="ann") == []


async def test_a_cancelled_invoice_is_credited_once_and_stays_cancelled(service: Service) -> None:
    own_id = uuid4()
    await service.billing.deliver(session(own_id))
    id_ = str(service.billing.documents()[0]["id"])
    wanted = {"invoice_id": id_, "reason": "faulty meter"}
    note = await service.post(CANCEL, wanted, key="k-1")
    assert await service.post(CANCEL, wanted, key="k-1") == note
    await service.post(CANCEL, {**wanted, "reason": "another"}, 409, key="k-1")
    problem = await service.post(CANCEL, wanted, 409, key="k-2")
    assert "cancelled" in problem["detail"]
    assert (note["kind"], note["credits"], note["status"], note["reason"]) == (
        *("credit_note", id_, "settled"),
        "faulty meter",
    )
    assert (note["total_incl_vat"], note["payable"]) == ("-7.769801", "-7.77")
    detail = await service.get(f"{INVOICES}/{note['id']}")
    assert detail["lines"][1]["volume"] == "-12.346000"
    await service.post(CANCEL, {"invoice_id": note["id"], "reason": "no"}, 409)
    await service.post(CANCEL, {"invoice_id": str(uuid4()), "reason": "no"}, 404)
    await service.post(CANCEL, {"invoice_id": id_, "reason": "  "}, 422)
    await service.billing.deliver(
        session(own_id, revision=2, energy_mwh=77), session(own_id, revision=3, excl_off_micros=1)
    )
    await service.billing.deliver(session(own_id, revision=4, energy_mwh=78))
    assert [document["status"] for document in service.billing.documents()] == ["cancelled", "settled"]
    assert service.billing.cdrs(own_id)[-1]["status"] == "cancelled"
    types = [event["metadata"]["type"] for event in service.billing.events()]
    assert types == ["invoice.created.v1", "invoice.created.v1", "invoice.updated.v1"]


async def test_cancelling_at_once_credits_once(service: Service) -> None:
    await service.billing.deliver(session())
    id_ = str(service.billing.documents()[0]["id"])

    async def cancel() -> int:
        headers = {"Authorization": f"Bearer {service.tokens['finance']}"}
        answer = await service.client.post(CANCEL, json={"invoice_id": id_, "reason": "x"}, headers=headers)
        return answer.status_code

    statuses = await asyncio.gather(*(cancel() for _ in range(6)))
    assert sorted(statuses) == [201, 409, 409, 409, 409, 409]
    assert len(service.billing.documents()) == 2


async def test_ids_are_random_and_say_nothing_of_what_they_are_of(service: Service) -> None:
    await service.billing.deliver(session(), reservation("R-1"))
    ids = [row["id"] for row in (*service.billing.documents(), *service.billing.rows("SELECT id FROM billing.cdr"))]
    assert {id_.version for id_ in ids} == {4}
    assert len(set(ids)) == 4


@pytest.mark.parametrize("who", ["finance", "ann"])
async def test_a_page_names_no_other_driver_s_documents_while_it_grows(service: Service, who: str, seed: int) -> None:
    await fill(service, 12, random.Random(seed))
    first = await service.get(INVOICES, who=who, limit=2)
    if first["next"] is None:
        return
    seen = [one["id"] for one in first["invoices"]]
    await fill(service, 3, random.Random(seed + 1))
    following = await service.get(first["next"], who=who)
    assert not set(seen) & {one["id"] for one in following["invoices"]}
    if who == "ann":
        assert {one["driver_id"] for one in following["invoices"]} <= {"ann"}
