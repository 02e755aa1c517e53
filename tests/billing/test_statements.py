"""Laws of collective invoices: every charge of a customer who wants one stands on exactly one, whatever comes late."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.einvoices.validation import broken_rules
from billing.statements import store
from billing.statements.composition import CollectedCharge, bounds_of, first_month, is_due, items_of
from billing.vat import payable_amounts, with_rates
from schemas.events import SessionCompleted
from tests.billing.charged_lines import amounts_of, component, documents
from tests.billing.customers_wanted import wanted
from tests.billing.einvoices.en16931 import broken
from tests.billing.making import LEAST, LEAST_VERSION, START, assigned, session
from tests.billing.serving import CANCEL, INVOICES, Service

CUSTOMERS: Final = "/api/v1/billing/customers"
BERLIN: Final = ZoneInfo("Europe/Berlin")
APRIL: Final = datetime(2026, 4, 1, 12, tzinfo=UTC)
MAY: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)


def charge(subject: int, version: int, cents: int) -> CollectedCharge:
    return CollectedCharge(
        cdr_id=uuid4(),
        subject_id=UUID(int=subject),
        version=version,
        customer_id=uuid4(),
        currency="EUR",
        label="",
        energy_uj=cents,
        started_at=START,
        ended_at=START,
        lines=(component(cents * 10_000, 210_000),),
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans()), max_size=25))
def test_after_any_run_each_subject_stands_with_its_newest_version_once(
    steps: list[tuple[int, int, bool, bool]],
) -> None:
    """A step: a later version of a subject with an amount, maybe void from then on, maybe followed by an invoice."""
    waiting: list[CollectedCharge] = []
    standing: dict[UUID, CollectedCharge] = {}
    newest: dict[UUID, CollectedCharge] = {}
    void: set[UUID] = set()
    requested = 0
    for version, (subject, cents, voided, invoices) in enumerate([*steps, (0, 1, False, True)], 1):
        one = charge(subject, version, cents)
        waiting.append(one)
        newest[one.subject_id] = one
        (void.add if voided else void.discard)(one.subject_id)
        if not invoices:
            continue
        touched = {late.subject_id for late in waiting} | void
        items = items_of(waiting, [old for id_, old in standing.items() if id_ in touched], void)
        for item in items:
            requested += sum(line.incl_micros for line in item.lines)
            if item.taken_back:
                assert standing.pop(item.charge.subject_id) is item.charge
            else:
                assert item.charge.subject_id not in standing
                standing[item.charge.subject_id] = item.charge
        waiting = []
    owed = {id_: one.lines for id_, one in newest.items() if id_ not in void}
    assert {id_: one.lines for id_, one in standing.items()} == owed
    assert requested == sum(line.incl_micros for lines in owed.values() for line in lines)


@given(documents())
def test_adjustments_divided_by_rate_have_the_same_sums_and_pay_the_same(lines: Any) -> None:
    divided = with_rates(lines)
    for name in ("excl_micros", "incl_micros"):
        assert sum(getattr(line, name) for line in divided) == sum(getattr(line, name) for line in lines)
    before = amounts_of(lines)
    after = payable_amounts(divided, before.payable_minor, 2)
    assert [one.vat_ppm for one in after.rates] == [one.vat_ppm for one in before.rates]


def test_a_month_is_one_of_the_customer_and_due_twelve_hours_after_its_end() -> None:
    start, end = bounds_of(date(2026, 3, 1), BERLIN)
    assert (start, end) == (datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC))
    assert first_month(end, None, BERLIN) == date(2026, 4, 1)
    assert first_month(end - timedelta(seconds=1), None, BERLIN) == date(2026, 3, 1)
    assert first_month(start, date(2026, 3, 1), BERLIN) == date(2026, 4, 1)
    assert not is_due(date(2026, 3, 1), end + timedelta(hours=11), BERLIN)
    assert is_due(date(2026, 3, 1), end + timedelta(hours=12), BERLIN)


async def collect(service: Service, *charged: SessionCompleted, driver: str = "ann") -> None:
    for one in charged:
        await service.billing.deliver(assigned(one.id, driver), one)


async def issue(service: Service, now: datetime) -> list[Any]:
    """Run the job; the documents that are new by then, whole."""
    known = {row["id"] for row in service.billing.documents()}
    service.billing.clock.advance((now - service.billing.clock.now()).total_seconds())
    await service.billing.components.statements.issue_due()
    return [
        await service.get(f"{INVOICES}/{row['id']}") for row in service.billing.documents() if row["id"] not in known
    ]


@pytest.fixture
async def monthly(service: Service) -> dict[str, Any]:
    """A customer of ann who wants one invoice a month."""
    customer: dict[str, Any] = await service.post(
        CUSTOMERS, wanted("Monthly GmbH", "ann", billing="monthly", time_zone="Europe/Berlin")
    )
    return customer


async def test_a_months_charges_stand_on_one_invoice_by_charge(service: Service, monthly: dict[str, Any]) -> None:
    march = [session(energy_mwh=1_000_000 * number, start=START + timedelta(minutes=number)) for number in (1, 2, 3)]
    april = session(start=START + timedelta(days=10))
    others = session()
    await collect(service, *march, april, session(tariff=LEAST, version=LEAST_VERSION))
    await collect(service, others, driver="bob")
    assert [row["subject_id"] for row in service.billing.documents()] == [others.id]
    assert await issue(service, APRIL - timedelta(hours=3)) == []
    (invoice,) = await issue(service, APRIL)
    assert await issue(service, APRIL) == []
    assert (invoice["customer"]["customer_id"], invoice["issued_on"]) == (monthly["id"], "2026-04-01")
    groups = {line["group"] for line in invoice["payable_lines"]}
    assert len(groups) == 4
    assert "NL-1 · 2026-03-28 21:01 · session TX-1 · ann" in groups
    cdrs = [row for one in march for row in service.billing.cdrs(one.id)]
    assert sum(row["total_incl_micros"] for row in cdrs) + 24_200_000 == Decimal(invoice["total_incl_vat"]) * 1_000_000
    for syntax in ("ubl", "cii"):
        xml = await service.ask("GET", f"{INVOICES}/{invoice['id']}/xml", 200, params={"format": syntax})
        assert broken_rules(xml.content) == []
    await service.ask("GET", f"{INVOICES}/{invoice['id']}/pdf", 200, params={"format": "facturx"})
    await service.get(f"{INVOICES}/{invoice['id']}/explain", 409)
    for format_ in ("csv", "jsonl", "parquet"):
        exported = await service.ask("GET", "/api/v1/billing/export", 200, params={"format": format_})
        assert format_ == "parquet" or invoice["number"].encode() in exported.content
    cdrs_of_file = (await service.ask("GET", "/api/v1/billing/export", 200, params={"format": "ocpi"})).json()
    assert cdrs_of_file == [], "no station is registered"
    left_out = (await service.get("/api/v1/billing/export/left-out"))["documents"]
    assert [one["missing"] for one in left_out if one["number"] == invoice["number"]] == [["station"]] * 4
    assert len(await issue(service, MAY)) == 1


async def test_what_comes_late_is_taken_back_and_invoiced_again_on_the_next(
    service: Service, monthly: dict[str, Any]
) -> None:
    charged, other = session(energy_mwh=5_000_000), session(start=START + timedelta(days=10))
    await collect(service, charged, session(charged.id, revision=2, energy_mwh=6_000_000))
    (first,) = await issue(service, APRIL)
    await collect(service, session(charged.id, revision=3, energy_mwh=4_000_000), other)
    (second,) = await issue(service, MAY)
    newest = [service.billing.cdrs(one.id)[-1] for one in (charged, other)]
    total = sum(Decimal(one["total_incl_vat"]) for one in (first, second))
    assert total * 1_000_000 == sum(row["total_incl_micros"] for row in newest)
    assert any("taken back" in line["group"] for line in second["payable_lines"])
    xml = await service.ask("GET", f"{INVOICES}/{second['id']}/xml", 200)
    assert broken(xml.content) == broken_rules(xml.content) == []


async def test_less_than_nothing_is_carried_over(service: Service, monthly: dict[str, Any]) -> None:
    charged = session(energy_mwh=50_000_000)
    await collect(service, charged)
    (first,) = await issue(service, APRIL)
    await collect(service, session(charged.id, revision=2, energy_mwh=1_000_000))
    assert await issue(service, MAY) == []
    other = session(start=START + timedelta(days=40), energy_mwh=90_000_000)
    await collect(service, other)
    (second,) = await issue(service, MAY + timedelta(days=31))
    newest = [service.billing.cdrs(one.id)[-1] for one in (charged, other)]
    total = sum(Decimal(one["total_incl_vat"]) for one in (first, second))
    assert total * 1_000_000 == sum(row["total_incl_micros"] for row in newest)


async def test_a_crash_midway_leaves_no_document_and_the_next_run_issues_it(
    service: Service, monthly: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await collect(service, session(), session())

    async def crash(*_: object) -> None:
        raise RuntimeError("power failure")

    with monkeypatch.context() as broken_store:
        broken_store.setattr(store, "settle", crash)
        with pytest.raises(RuntimeError, match="power failure"):
            await issue(service, APRIL)
    assert service.billing.documents() == []
    (invoice,) = await issue(service, APRIL)
    assert invoice["number"] == "2026-0000001"


async def test_a_collected_charge_stays_so_when_the_customer_changes_and_keeps_them_from_deletion(
    service: Service, monthly: dict[str, Any]
) -> None:
    charged = session(energy_mwh=1_000_000)
    await collect(service, charged)
    path = f"{CUSTOMERS}/{monthly['id']}"
    await service.ask("DELETE", path, 409, headers={"If-Match": "*"})
    body = wanted("Single GmbH", billing="single")
    await service.ask("PUT", path, 200, json=body, headers={"If-Match": "*"})
    await collect(service, session(charged.id, revision=2, energy_mwh=2_000_000))
    (invoice,) = await issue(service, APRIL)
    assert Decimal(invoice["total_incl_vat"]) * 1_000_000 == service.billing.cdrs(charged.id)[-1]["total_incl_micros"]
    await service.ask("DELETE", path, 204, headers={"If-Match": "*"})


async def test_a_collective_invoice_is_cancelled_by_a_credit_note_with_its_lines(
    service: Service, monthly: dict[str, Any]
) -> None:
    await collect(service, session(), session())
    (invoice,) = await issue(service, APRIL)
    note = await service.post(CANCEL, {"invoice_id": invoice["id"], "reason": "wrong customer"})
    whole = await service.get(f"{INVOICES}/{note['id']}")
    assert [line["group"] for line in whole["payable_lines"]] == [line["group"] for line in invoice["payable_lines"]]
    assert whole["customer"] == invoice["customer"]
    xml = await service.ask("GET", f"{INVOICES}/{note['id']}/xml", 200)
    assert broken_rules(xml.content) == []


async def test_a_charge_that_was_invoiced_singly_stays_so(service: Service) -> None:
    charged = session(energy_mwh=1_000_000)
    await collect(service, charged)
    await service.post(CUSTOMERS, wanted("Monthly GmbH", "ann", billing="monthly"))
    await service.billing.deliver(session(charged.id, revision=2, energy_mwh=2_000_000))
    assert [row["kind"] for row in service.billing.documents(charged.id)] == ["invoice", "credit_note", "invoice"]
    assert await issue(service, APRIL) == []
