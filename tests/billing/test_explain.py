"""Laws of deriving again: an shown is the invoice, line by line, and says what does not count."""

import random
from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec

from billing.invoices.models import Explanation
from billing.rating import StoredReading
from billing.readings_source import StoredReadings
from kit.clock import to_ms
from tests.billing.making import LEAST, LEAST_VERSION, START, reservation, session
from tests.billing.serving import CANCEL, INVOICES, Service
from tests.billing.sessions import completed, later, readings
from tests.billing.telemetry import ANYTHING


async def test_an_explanation_is_the_invoice_derived_again(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(5):
        event = completed(service.telemetry, readings(rng))
        await service.billing.deliver(event)
        (stored,) = service.billing.documents(event.id)
        invoice = await service.get(f"{INVOICES}/{stored['id']}")
        shown = await service.get(f"{INVOICES}/{stored['id']}/explain")
        Explanation.model_validate(shown)
        assert (shown["agrees"], shown["differences"]) == (True, [])
        assert shown["lines"] == invoice["lines"]
        for name in ("total_excl_vat", "total_incl_vat", "payable", "currency"):
            assert shown[name] == invoice[name]
        assert sum(Decimal(line["amount_incl_vat"]) for line in shown["lines"]) == Decimal(shown["total_incl_vat"])
        assert event.pricing is not None
        energy_mwh = sum(used.volume for used in event.pricing.consumption if used.dimension == "ENERGY")
        assert sum(Decimal(period["energy_kwh"]) for period in shown["periods"]) * 10**6 == energy_mwh


async def test_what_does_not_count_is_named_with_its_reason(service: Service, seed: int) -> None:
    event = completed(service.telemetry, readings(random.Random(seed)))
    await service.billing.deliver(event)
    shown = await service.get(f"{INVOICES}/{service.billing.documents()[0]['id']}/explain")
    assert {one["reason"]: one["flags"] for one in shown["left_out"]} == {
        "register_zero": ["placeholder_zero"],
        "register_leapt": ["implausible_power"],
    }
    assert shown["readings"] == service.telemetry.readings(event.id)
    payable = next(one for one in shown["roundings"] if one["what"] == "payable")
    assert (payable["denominator"], payable["rule"]) == ("10000", "half up")
    assert Decimal(payable["numerator"]) / 10**6 == Decimal(shown["total_incl_vat"])


async def test_other_readings_than_billed_are_reported(service: Service, seed: int) -> None:
    stored = readings(random.Random(seed))
    event = completed(service.telemetry, stored)
    await service.billing.deliver(event)
    id_ = service.billing.documents()[0]["id"]
    service.telemetry.set_readings(event.id, later(stored))
    shown = await service.get(f"{INVOICES}/{id_}/explain")
    assert not shown["agrees"]
    assert any(words.startswith("total_incl_vat: stored") for words in shown["differences"])
    await service.billing.deliver(completed(service.telemetry, later(stored), event.id, 2))
    new = service.billing.documents()[-1]["id"]
    assert (await service.get(f"{INVOICES}/{new}/explain"))["agrees"], "the newest agrees with what is stored now"


async def test_of_a_superseded_invoice_and_its_credit_note_their_own_version_is_explained(
    service: Service, seed: int
) -> None:
    stored = readings(random.Random(seed))
    event = completed(service.telemetry, stored)
    await service.billing.deliver(event)
    await service.billing.deliver(completed(service.telemetry, later(stored), event.id, 2))
    old, note, new = service.billing.documents()
    superseded = f"superseded by {new['number']}: later readings changed it"
    for document, remark in ((old, superseded), (note, f"credits {old['number']}; {superseded}"), (new, "")):
        shown = await service.get(f"{INVOICES}/{document['id']}/explain")
        detail = await service.get(f"{INVOICES}/{document['id']}")
        assert (shown["agrees"], shown["differences"], shown["remark"]) == (True, [], remark)
        for name in ("lines", "status", "version", "kind", "total_excl_vat", "total_incl_vat", "payable"):
            assert shown[name] == detail[name]
        assert shown["computed_from"] == ("readings" if document is new else "cdr")
        assert shown["superseded_by"] == (None if document is new else new["number"])
    service.billing.rows("UPDATE billing.invoice_line SET billed = 1 WHERE invoice_id = %s RETURNING 1", old["id"])
    shown = await service.get(f"{INVOICES}/{old['id']}/explain")
    assert not shown["agrees"]
    assert "line 2: stored ENERGY 1," in shown["differences"][0]


async def test_a_credited_invoice_agrees_in_whatever_order_its_event_has_the_components(
    service: Service, seed: int
) -> None:
    """The stream has TIME before FLAT, rating has them by name, and the tariff as its author liked."""
    event = completed(service.telemetry, readings(random.Random(seed)))
    assert event.pricing is not None
    backwards = msgspec.structs.replace(event.pricing, consumption=event.pricing.consumption[::-1])
    await service.billing.deliver(msgspec.structs.replace(event, pricing=backwards))
    (invoice,) = service.billing.documents()
    note = await service.post(CANCEL, {"invoice_id": str(invoice["id"]), "reason": "x"})
    await service.billing.deliver(completed(service.telemetry, readings(random.Random(seed + 1)), event.id, 2))
    for id_ in (invoice["id"], note["id"]):
        shown = await service.get(f"{INVOICES}/{id_}/explain")
        assert (shown["agrees"], shown["differences"], shown["computed_from"]) == (True, [], "cdr")
        assert [line["dimension"] for line in shown["lines"]] == ["FLAT", "ENERGY", "TIME"]


async def test_an_invoice_that_later_readings_did_not_change_agrees_with_them(service: Service, seed: int) -> None:
    stored = readings(random.Random(seed))
    least: dict[str, Any] = {"tariff": LEAST, "version": LEAST_VERSION}
    event = completed(service.telemetry, stored, **least)
    await service.billing.deliver(event)
    await service.billing.deliver(completed(service.telemetry, later(stored), event.id, 2, **least))
    (document,) = service.billing.documents()
    shown = await service.get(f"{INVOICES}/{document['id']}/explain")
    assert (shown["agrees"], shown["differences"], shown["computed_from"]) == (True, [], "readings")
    assert (shown["status"], shown["version"], shown["payable"]) == ("open", 2, "24.20")
    assert "not the amount" in shown["remark"]


async def test_an_invoice_whose_newer_version_is_in_doubt_is_explained_by_its_own(service: Service, seed: int) -> None:
    event = completed(service.telemetry, readings(random.Random(seed)))
    await service.billing.deliver(event, session(event.id, revision=2, excl_off_micros=1))
    (document,) = service.billing.documents()
    shown = await service.get(f"{INVOICES}/{document['id']}/explain")
    assert (shown["agrees"], shown["computed_from"]) == (True, "cdr")
    assert "drift" in shown["remark"]


async def test_prices_of_a_tariff_are_of_one_type(service: Service, seed: int) -> None:
    await service.billing.deliver(completed(service.telemetry, readings(random.Random(seed))))
    shown = await service.get(f"{INVOICES}/{service.billing.documents()[0]['id']}/explain")
    components = [one for element in shown["tariff"]["elements"] for one in element["price_components"]]
    assert [one["price"] for one in components] == ["0.5", "0.3456", "1.2", "3"]
    assert {type(one["vat"]) for one in components} == {str}
    assert {type(one["step_size"]) for one in components} == {int}


async def test_a_reservation_and_a_credit_note_are_explained(service: Service) -> None:
    await service.billing.deliver(reservation("R-1"))
    (stored,) = service.billing.documents()
    shown = await service.get(f"{INVOICES}/{stored['id']}/explain", who="finance")
    assert (shown["agrees"], shown["periods"][0]["kind"], shown["readings"]) == (
        True,
        "RESERVATION",
        0,
    )
    note = await service.post(CANCEL, {"invoice_id": str(stored["id"]), "reason": "x"})
    shown = await service.get(f"{INVOICES}/{note['id']}/explain")
    assert (shown["agrees"], shown["total_excl_vat"], shown["payable"]) == (
        True,
        "-1.500000",
        note["payable"],
    )
    assert shown["remark"] == f"credits {stored['number']}"
    shown = await service.get(f"{INVOICES}/{stored['id']}/explain")
    assert (shown["status"], shown["remark"]) == ("cancelled", f"cancelled by {note['number']}")


async def test_readings_that_are_not_stored_any_more_are_reported(service: Service, seed: int) -> None:
    event = completed(service.telemetry, readings(random.Random(seed)), uuid4())
    await service.billing.deliver(event)
    id_ = service.billing.documents()[0]["id"]
    service.telemetry.set_readings(event.id, StoredReadings([], [], ANYTHING))
    problem = await service.get(f"{INVOICES}/{id_}/explain", 409)
    assert "not stored any more" in problem["detail"]
    service.telemetry.set_readings(event.id, StoredReadings([StoredReading(to_ms(START))], [0], ANYTHING))
    assert not (await service.get(f"{INVOICES}/{id_}/explain"))["agrees"]
