"""Laws of deriving again: an explanation is the invoice, line by line, and says what does not count."""

import random
from decimal import Decimal
from uuid import uuid4

from billing.invoices.models import Explanation
from billing.rating import StoredReading
from billing.readings_source import SessionReadings
from tests.billing.making import reservation
from tests.billing.serving import CANCEL, INVOICES, Service
from tests.billing.sessions import completed, later, readings


async def test_an_explanation_is_the_invoice_derived_again(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(5):
        event = completed(service.source, readings(rng))
        await service.books.hear(event)
        (stored,) = service.books.documents(event.id)
        invoice = await service.get(f"{INVOICES}/{stored['id']}")
        told = await service.get(f"{INVOICES}/{stored['id']}/explain")
        Explanation.model_validate(told)
        assert (told["agrees"], told["differences"]) == (True, [])
        assert told["lines"] == invoice["lines"]
        for name in ("total_excl_vat", "total_incl_vat", "payable", "currency"):
            assert told[name] == invoice[name]
        assert sum(Decimal(line["amount_incl_vat"]) for line in told["lines"]) == Decimal(told["total_incl_vat"])
        assert event.pricing is not None
        energy_mwh = sum(used.volume for used in event.pricing.consumption if used.dimension == "ENERGY")
        assert sum(Decimal(period["energy_kwh"]) for period in told["periods"]) * 10**6 == energy_mwh


async def test_what_does_not_count_is_named_with_its_reason(service: Service, seed: int) -> None:
    event = completed(service.source, readings(random.Random(seed)))
    await service.books.hear(event)
    told = await service.get(f"{INVOICES}/{service.books.documents()[0]['id']}/explain")
    assert {one["reason"]: one["flags"] for one in told["left_out"]} == {
        "register_zero": ["placeholder_zero"],
        "register_leapt": ["implausible_power"],
        "after_end": ["outside_session"],
    }
    assert told["readings"] == len(service.source.sessions[event.id].readings)
    payable = next(one for one in told["roundings"] if one["what"] == "payable")
    assert (payable["denominator"], payable["rule"]) == ("10000", "half up")
    assert Decimal(payable["numerator"]) / 10**6 == Decimal(told["total_incl_vat"])


async def test_other_readings_than_billed_are_told(service: Service, seed: int) -> None:
    stored = readings(random.Random(seed))
    event = completed(service.source, stored)
    await service.books.hear(event)
    id_ = service.books.documents()[0]["id"]
    service.source.sessions[event.id] = later(stored)
    told = await service.get(f"{INVOICES}/{id_}/explain")
    assert not told["agrees"]
    assert any(words.startswith("total_incl_vat: stored") for words in told["differences"])
    await service.books.hear(completed(service.source, later(stored), event.id, 2))
    old, note, new = (document["id"] for document in service.books.documents())
    agreed = [(await service.get(f"{INVOICES}/{one}/explain"))["agrees"] for one in (old, note, new)]
    assert agreed == [False, False, True], "the newest agrees with what is stored now"


async def test_a_reservation_and_a_credit_note_are_explained(service: Service) -> None:
    await service.books.hear(reservation("R-1"))
    (stored,) = service.books.documents()
    told = await service.get(f"{INVOICES}/{stored['id']}/explain", who="finance")
    assert (told["agrees"], told["periods"][0]["kind"], told["readings"]) == (True, "RESERVATION", 0)
    note = await service.post(CANCEL, {"invoice_id": str(stored["id"]), "reason": "x"})
    told = await service.get(f"{INVOICES}/{note['id']}/explain")
    assert (told["agrees"], told["total_excl_vat"]) == (True, "1.500000")


async def test_readings_that_are_not_stored_any_more_are_told(service: Service, seed: int) -> None:
    event = completed(service.source, readings(random.Random(seed)), uuid4())
    await service.books.hear(event)
    id_ = service.books.documents()[0]["id"]
    service.source.sessions[event.id] = SessionReadings([], [], None)
    problem = await service.get(f"{INVOICES}/{id_}/explain", 409)
    assert "not stored any more" in problem["detail"]
    service.source.sessions[event.id] = SessionReadings([StoredReading(0)], [0], None)
    assert not (await service.get(f"{INVOICES}/{id_}/explain"))["agrees"]
