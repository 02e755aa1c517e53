"""Laws of customers: kept as given, changed only from the version that was read, named by documents as they were."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from billing.customers import examples
from billing.customers.models import Customer, CustomerPage, NewCustomer
from tests.billing.customers_wanted import wanted
from tests.billing.making import assigned, session
from tests.billing.serving import INVOICES, Service

CUSTOMERS = "/api/v1/billing/customers"


async def change(service: Service, customer_id: str, body: Any, status: int, if_match: str | None) -> Any:
    headers = {} if if_match is None else {"If-Match": if_match}
    return await service.ask("PUT", f"{CUSTOMERS}/{customer_id}", status, json=body, headers=headers)


def test_the_examples_are_of_the_models() -> None:
    NewCustomer.model_validate(examples.NEW_CUSTOMER)
    Customer.model_validate(examples.CUSTOMER)
    CustomerPage.model_validate(examples.PAGE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " "},
        {"name": "a\nb"},
        {"tax_id": "-"},
        {"time_zone": "Europe/Nowhere"},
        {"time_zone": "../etc/passwd"},
        {"driver_ids": ["ann", "ann"]},
        {"payment_days": -1},
        {"billing": "weekly"},
        {"email": "a b"},
        {"address": {**examples.NEW_CUSTOMER["address"], "country": "Germany"}},
        {"address": {**examples.NEW_CUSTOMER["address"], "lines": []}},
        {"unknown": 1},
    ],
)
def test_what_cannot_be_on_a_document_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NewCustomer.model_validate({**examples.NEW_CUSTOMER, **wrong})


async def test_a_customer_is_kept_as_given_until_it_is_deleted(service: Service) -> None:
    body = wanted("Ελληνική Я GmbH", "ann", "bob")
    answer = await service.ask("POST", CUSTOMERS, 201, key="one", json=body)
    added = answer.json()
    assert answer.headers["location"] == f"{CUSTOMERS}/{added['id']}"
    assert (await service.ask("POST", CUSTOMERS, 201, key="one", json=body)).json() == added
    assert {name: added[name] for name in body} == body
    read = await service.ask("GET", f"{CUSTOMERS}/{added['id']}", 200, who="operator")
    assert (read.json(), read.headers["etag"]) == (added, '"1"')
    assert (await service.get(CUSTOMERS, driver_id="bob"))["customers"] == [added]
    assert (await service.get(CUSTOMERS, driver_id="zoe"))["customers"] == []
    await service.ask("DELETE", f"{CUSTOMERS}/{added['id']}", 204, headers={"If-Match": "*"})
    await service.get(f"{CUSTOMERS}/{added['id']}", 404)


async def test_a_change_is_made_only_to_the_version_that_was_read(service: Service) -> None:
    added = await service.post(CUSTOMERS, wanted("one", "ann"))
    changed = (await change(service, added["id"], wanted("two", "bob"), 200, '"1"')).json()
    assert (changed["name"], changed["version"], changed["driver_ids"]) == ("two", 2, ["bob"])
    await change(service, added["id"], wanted("three"), 412, '"1"')
    await change(service, added["id"], wanted("three"), 428, None)
    await change(service, added["id"], wanted("three"), 422, "1")
    await change(service, str(uuid4()), wanted("three"), 404, "*")
    await service.ask("DELETE", f"{CUSTOMERS}/{added['id']}", 412, headers={"If-Match": '"1"'})
    assert await service.get(f"{CUSTOMERS}/{added['id']}") == changed


async def test_a_driver_has_one_customer(service: Service) -> None:
    first = await service.post(CUSTOMERS, wanted("one", "ann"))
    problem = await service.post(CUSTOMERS, wanted("two", "ann", "bob"), 409)
    assert f"ann is of {first['id']}" in problem["detail"]
    second = await service.post(CUSTOMERS, wanted("two", "bob"))
    await change(service, second["id"], wanted("two", "ann"), 409, "*")
    await change(service, first["id"], wanted("one"), 200, "*")
    await change(service, second["id"], wanted("two", "ann"), 200, "*")
    assert (await service.get(CUSTOMERS, driver_id="bob"))["customers"] == []


async def test_pages_have_every_customer_once(service: Service) -> None:
    added = []
    for number in range(5):
        added.append((await service.post(CUSTOMERS, wanted(f"customer {number}")))["id"])
        service.billing.clock.advance(1)
    seen: list[str] = []
    path: str | None = f"{CUSTOMERS}?limit=2"
    while path is not None:
        page = await service.get(path)
        seen += [one["id"] for one in page["customers"]]
        path = page["next"]
    assert seen == added


async def test_only_the_office_sees_customers(service: Service) -> None:
    for who, status in (("ann", 403), ("device", 403), (None, 401)):
        await service.ask("GET", CUSTOMERS, status, who)
        await service.ask("POST", CUSTOMERS, status, who, json=wanted())


async def document(service: Service, subject_id: UUID, place: int = -1) -> Any:
    row = service.billing.documents(subject_id)[place]
    return await service.get(f"{INVOICES}/{row['id']}")


async def test_a_document_names_the_customer_of_its_driver_as_they_were_when_it_was_issued(service: Service) -> None:
    customer = await service.post(
        CUSTOMERS, wanted("as it was", "ann", payment_days=30, payment_terms="2 % within 5 days")
    )
    charged = session()
    await service.billing.deliver(assigned(charged.id, "ann"), charged)
    await change(service, customer["id"], wanted("as it is now", "ann"), 200, "*")
    found = await document(service, charged.id)
    assert (found["customer"]["name"], found["customer"]["vat_id"]) == ("as it was", "DE123456789")
    assert (found["issued_on"], found["due_on"]) == ("2026-03-29", "2026-04-28")
    assert found["payment_terms"] == "2 % within 5 days"
    assert found["seller"]["name"] == "Muster Laden GmbH"
    await service.billing.deliver(session(charged.id, revision=2, energy_mwh=99_000_000))
    note, later = await document(service, charged.id, 1), await document(service, charged.id, 2)
    assert (note["kind"], note["customer"]["name"], note["due_on"]) == ("credit_note", "as it was", None)
    assert note["credits_number"] == found["number"]
    assert later["customer"]["name"] == "as it is now"


async def test_a_driver_who_is_known_later_brings_the_customer(service: Service) -> None:
    await service.post(CUSTOMERS, wanted("late", "ann", payment_days=0))
    charged = session()
    await service.billing.deliver(charged)
    before = await document(service, charged.id)
    assert (before["customer"], before["due_on"]) == (None, "2026-04-12")
    await service.billing.deliver(assigned(charged.id, "ann"))
    after = await document(service, charged.id)
    assert (after["customer"]["name"], after["due_on"]) == ("late", "2026-03-29")
    await service.billing.deliver(assigned(charged.id, "bob", 2))
    assert (await document(service, charged.id))["customer"] is None


async def test_a_document_of_before_terms_were_recorded_has_those_of_the_settings(service: Service) -> None:
    charged = session()
    await service.billing.deliver(charged)
    service.billing.rows("DELETE FROM billing.document_terms RETURNING invoice_id")
    found = await document(service, charged.id)
    assert (found["due_on"], found["seller"]["vat_id"], found["customer"]) == ("2026-04-12", "DE123456789", None)


async def test_a_customer_is_audited_from_the_first_to_the_last(service: Service) -> None:
    added = await service.post(CUSTOMERS, wanted("one", "ann"))
    await change(service, added["id"], wanted("two"), 412, '"7"')
    await change(service, added["id"], wanted("two", "bob"), 200, '"1"')
    await service.ask("DELETE", f"{CUSTOMERS}/{added['id']}", 204, headers={"If-Match": "*"})
    entries = service.billing.rows("SELECT * FROM audit.entry WHERE action ~ '^customer' ORDER BY id")
    assert [one["action"] for one in entries] == ["customer.added", "customer.changed", "customer.deleted"]
    assert {one["entity"] for one in entries} == {f"customer/{added['id']}"}
    made, changed, deleted = entries
    assert (made["before"], deleted["after"]) == (None, None)
    assert made["after"] == changed["before"] == {name: value for name, value in added.items() if name != "id"}
    assert (changed["after"]["name"], changed["after"]["driver_ids"]) == ("two", ["bob"])
    assert changed["after"] == deleted["before"]
    assert {one["role"] for one in entries} == {"finance"}
