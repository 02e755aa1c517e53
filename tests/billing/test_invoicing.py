"""Laws of invoicing, on a real PostgreSQL: from events to documents."""

import asyncio
import itertools
import random
from uuid import UUID, uuid4

import pytest

from billing.invoicing.drafts import reservation_subject
from billing.invoicing.poster import LATE
from schemas.events import Consumption
from tests.billing.making import (
    ENERGY,
    ENERGY_VERSION,
    LEAST,
    LEAST_VERSION,
    TARIFF,
    assigned,
    consumption,
    free_session,
    message,
    reservation,
    session,
)
from tests.billing.running import NOW, Payload, RunningBilling, open_running


def energy(energy_mwh: int) -> list[Consumption]:
    """Consumption of ENERGY's only component."""
    return [one for one in consumption(energy_mwh, 0) if one.dimension == "ENERGY"]


def totals(billing: RunningBilling, subject_id: UUID) -> tuple[int, int, int]:
    """Sums over all documents of a subject: excl., incl., payable."""
    documents = billing.documents(subject_id)
    return (
        sum(document["total_excl_micros"] for document in documents),
        sum(document["total_incl_micros"] for document in documents),
        sum(document["payable_minor"] for document in documents),
    )


async def test_a_completed_session_becomes_an_invoice_with_lines_that_add_up(billing: RunningBilling) -> None:
    done = session(energy_mwh=12_345_678, time_ms=5_400_123)
    await billing.deliver(done)
    (invoice,) = billing.documents()
    assert done.pricing is not None
    assert invoice["number"] == "2026-0000001"
    assert (invoice["kind"], invoice["status"], invoice["version"]) == ("invoice", "open", 1)
    assert invoice["total_excl_micros"] == done.pricing.cost.excl_vat_micros
    assert invoice["total_incl_micros"] == done.pricing.cost.incl_vat_micros
    # 0.50 + 12.345678 kWh (step 1 Wh: 12.346) x 0.3456 + 91 min x 1.2/h, by hand
    assert invoice["total_excl_micros"] == 500_000 + 4_266_778 + 1_820_000
    assert invoice["total_incl_micros"] == 605_000 + 4_266_778 + 896_023 + 1_820_000 + 182_000
    assert (invoice["payable_excl_minor"], invoice["payable_minor"]) == (659, 777)
    assert invoice["rounding"] == "payable: the total, once, half up to 0.01 EUR"
    lines = billing.rows("SELECT * FROM billing.invoice_line ORDER BY line")
    assert [line["dimension"] for line in lines] == ["FLAT", "ENERGY", "TIME"], "as in the tariff"
    assert [(line["volume"], line["billed"]) for line in lines] == [
        (1, 1),
        (12_345_678, 12_346_000),
        (5_400_123, 5_460_000),
    ]
    assert sum(line["excl_micros"] for line in lines) == invoice["total_excl_micros"]
    assert sum(line["incl_micros"] for line in lines) == invoice["total_incl_micros"]
    (cdr,) = billing.cdrs(done.id)
    assert (cdr["status"], cdr["current"], cdr["revision"]) == ("invoiced", True, 1)
    (event,) = billing.events()
    assert event["metadata"]["type"] == "invoice.created.v1"
    assert event["metadata"]["correlationId"].startswith("test-")
    assert event["payload"]["invoice_id"] == str(invoice["id"])
    assert event["payload"]["payable_minor"] == 777


async def test_an_event_that_comes_again_changes_nothing(billing: RunningBilling) -> None:
    events = [session(energy_mwh=1_000_000 + n) for n in range(40)]
    repeated = [*events, *reversed(events), *events]
    await billing.deliver_at_once(repeated)
    await billing.deliver(*events[:3])
    assert len(billing.documents()) == len(events)
    assert {document["session_id"] for document in billing.documents()} == {one.id for one in events}
    assert len(billing.events()) == len(events)


async def test_late_readings_credit_and_bill_anew_and_all_documents_sum_to_the_newest(billing: RunningBilling) -> None:
    own_id = uuid4()
    first, second = session(own_id), session(own_id, revision=2, energy_mwh=13_000_000)
    await billing.deliver(first, second)
    old, note, new = billing.documents(own_id)
    assert [document["status"] for document in (old, note, new)] == ["credited", "settled", "open"]
    assert (note["kind"], note["credits"], new["replaces"]) == ("credit_note", old["id"], old["id"])
    assert (old["version"], note["version"], new["version"]) == (1, 1, 2)
    for name in ("total_excl_micros", "total_incl_micros", "payable_excl_minor", "payable_minor"):
        assert note[name] == -old[name]
    assert second.pricing is not None
    assert totals(billing, own_id)[:2] == (second.pricing.cost.excl_vat_micros, second.pricing.cost.incl_vat_micros)
    assert totals(billing, own_id)[2] == new["payable_minor"]
    lines = billing.rows(
        "SELECT line, sum(excl_micros) AS excl, sum(incl_micros) AS incl, sum(volume) AS volume "
        "FROM billing.invoice_line WHERE invoice_id = ANY (%s) GROUP BY line",
        [old["id"], note["id"]],
    )
    assert {(line["excl"], line["incl"], line["volume"]) for line in lines} == {(0, 0, 0)}
    assert [cdr["current"] for cdr in billing.cdrs(own_id)] == [False, True]
    assert [event["metadata"]["type"] for event in billing.events()] == [
        "invoice.created.v1",
        "invoice.created.v1",
        "invoice.updated.v1",
        "invoice.created.v1",
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_revisions_in_any_order_end_with_the_newest(billing: RunningBilling, order: tuple[int, ...]) -> None:
    own_id = uuid4()
    events = [session(own_id, revision=n + 1, energy_mwh=10_000_000 * (n + 1)) for n in range(3)]
    for place in order:
        await billing.deliver(events[place], events[place])
    newest = events[2].pricing
    assert newest is not None
    assert totals(billing, own_id)[:2] == (newest.cost.excl_vat_micros, newest.cost.incl_vat_micros)
    valid = [d for d in billing.documents(own_id) if d["kind"] == "invoice" and d["status"] in ("open", "paid")]
    assert [invoice["total_incl_micros"] for invoice in valid] == [newest.cost.incl_vat_micros]
    assert [cdr["revision"] for cdr in billing.cdrs(own_id) if cdr["current"]] == [3]


async def test_revisions_all_at_once_end_with_the_newest(billing: RunningBilling) -> None:
    ids = [uuid4() for _ in range(10)]
    events = [session(own, revision=n, energy_mwh=n * 1_000_000) for own in ids for n in range(1, 6)]
    await billing.deliver_at_once([*events, *reversed(events)])
    for own in ids:
        newest = session(own, revision=5, energy_mwh=5_000_000).pricing
        assert newest is not None
        assert totals(billing, own)[:2] == (newest.cost.excl_vat_micros, newest.cost.incl_vat_micros)


async def test_events_twice_and_in_any_order_give_the_same_invoices(billing: RunningBilling, seed: int) -> None:
    """`ordered` in order, and the same of other sessions shuffled, each event twice."""
    rng = random.Random(seed)
    pairs = [(uuid4(), uuid4()) for _ in range(25)]
    shuffled: list[Payload] = []
    for number, (ordered, mixed) in enumerate(pairs):
        energies_mwh = [rng.randrange(1, 50) * 100_000 for _ in range(rng.randrange(1, 5))]
        for own_id in (ordered, mixed):
            events: list[Payload] = [session(own_id, revision=n, energy_mwh=e) for n, e in enumerate(energies_mwh, 1)]
            events += [assigned(own_id, f"driver-{number}"), reservation(f"R-{own_id}", minutes=number + 1)]
            if own_id == ordered:
                await billing.deliver(*events)
            else:
                shuffled += events * 2
    rng.shuffle(shuffled)
    await billing.deliver_at_once(shuffled)

    def valid(own_id: UUID) -> list[tuple[object, ...]]:
        subjects = (own_id, reservation_subject(f"R-{own_id}"))
        documents = [document for subject in subjects for document in billing.documents(subject)]
        names = ("driver_id", "total_excl_micros", "total_incl_micros", "payable_minor", "status")
        return [tuple(d[name] for name in names) for d in documents if d["status"] in ("open", "paid")]

    for ordered, mixed in pairs:
        assert valid(mixed) == valid(ordered)
        assert totals(billing, mixed) == totals(billing, ordered)
    assert [d["sequence"] for d in billing.documents()] == list(range(1, len(billing.documents()) + 1))


async def test_a_revision_with_the_same_money_is_noted_and_nothing_is_credited(billing: RunningBilling) -> None:
    own_id = uuid4()
    await billing.deliver(session(own_id), session(own_id, revision=4))
    assert len(billing.documents()) == 1
    (cdr,) = billing.cdrs(own_id)
    assert cdr["revision"] == 4
    await billing.deliver(session(own_id, revision=3, energy_mwh=1))
    assert len(billing.documents()) == 1


async def test_other_consumption_of_the_same_money_issues_no_document_and_the_cdr_says_the_newest(
    billing: RunningBilling,
) -> None:
    own_id = uuid4()
    await billing.deliver(session(own_id, tariff=LEAST, version=LEAST_VERSION, energy_mwh=1_000_000))
    await billing.deliver(session(own_id, revision=2, tariff=LEAST, version=LEAST_VERSION, energy_mwh=2_000_000))
    (invoice,) = billing.documents()
    assert (invoice["status"], invoice["total_excl_micros"], invoice["payable_minor"]) == ("open", 20_000_000, 2_420)
    first, second = billing.cdrs(own_id)
    assert [(cdr["status"], cdr["current"], cdr["revision"]) for cdr in (first, second)] == [
        ("invoiced", False, 1),
        ("invoiced", True, 2),
    ]
    assert [cdr["consumption"][1]["volume"] for cdr in (first, second)] == [1_000_000, 2_000_000]
    assert invoice["cdr_id"] == first["id"], "its lines are those of the consumption then"
    assert len(billing.events()) == 1
    await billing.deliver(session(own_id, revision=3, tariff=LEAST, version=LEAST_VERSION, energy_mwh=500_000_000))
    assert [document["status"] for document in billing.documents()] == ["credited", "settled", "open"]
    assert {document["reason"] for document in billing.documents()} == {"", LATE}


async def test_the_money_of_the_standing_invoice_again_after_a_doubt_issues_nothing(billing: RunningBilling) -> None:
    own_id = uuid4()
    await billing.deliver(session(own_id), session(own_id, revision=2, energy_mwh=99_000, excl_off_micros=1))
    await billing.deliver(session(own_id, revision=3))
    assert [document["status"] for document in billing.documents()] == ["open"]
    assert [cdr["status"] for cdr in billing.cdrs(own_id)] == ["invoiced", "drift", "invoiced"]
    await billing.deliver(session(own_id, revision=4, energy_mwh=99_000))
    assert [document["status"] for document in billing.documents()] == ["credited", "settled", "open"]


async def test_drift_is_recorded_and_reported_and_never_billed(billing: RunningBilling) -> None:
    own_id = uuid4()
    await billing.deliver(session(own_id, excl_off_micros=1))
    assert billing.documents() == []
    (cdr,) = billing.cdrs(own_id)
    assert cdr["status"] == "drift"
    assert cdr["stream_excl_micros"] == cdr["total_excl_micros"] + 1
    assert billing.metric("billing_drift_total") == 1
    assert billing.events() == []
    await billing.deliver(session(own_id, revision=2))
    (invoice,) = billing.documents()
    assert invoice["version"] == 2
    await billing.deliver(session(own_id, revision=3, energy_mwh=99_000, excl_off_micros=-1))
    assert [document["status"] for document in billing.documents()] == ["open"], "doubt is no ground to credit"
    await billing.deliver(session(own_id, revision=4, energy_mwh=99_000))
    assert [document["status"] for document in billing.documents()] == ["credited", "settled", "open"]


async def test_a_session_without_a_tariff_is_kept_unpriced(billing: RunningBilling) -> None:
    own_id = uuid4()
    await billing.deliver(session(own_id, tariff=None, used=[]))
    (cdr,) = billing.cdrs(own_id)
    assert (cdr["status"], cdr["total_incl_micros"], cdr["tariff_version"]) == ("unpriced", None, None)
    assert billing.documents() == []


async def test_more_than_the_bound_is_looked_at_before_it_is_billed(billing: RunningBilling) -> None:
    own_id = uuid4()
    await billing.deliver(session(own_id, energy_mwh=10_000_000_000, time_ms=10 * 3_600_000))
    assert billing.documents() == []
    assert [(cdr["status"], cdr["reasons"]) for cdr in billing.cdrs(own_id)] == [("held", ["above_total_max"])]


@pytest.mark.parametrize("currency", ["ABC", "XXX", "XAU"])
async def test_a_currency_that_nobody_can_pay_in_is_looked_at_before_it_is_billed(
    billing: RunningBilling, currency: str
) -> None:
    own_id = uuid4()
    await billing.deliver(session(own_id, tariff={**TARIFF, "currency": currency}))
    assert billing.documents() == []
    assert [(cdr["status"], cdr["currency"]) for cdr in billing.cdrs(own_id)] == [("review", currency)]


async def test_nothing_owed_uses_no_number(billing: RunningBilling) -> None:
    free, own_id = free_session(), uuid4()
    first = session(own_id, tariff=ENERGY, version=ENERGY_VERSION, energy_mwh=2_000_000, used=energy(2_000_000))
    await billing.deliver(free, first)
    assert [cdr["status"] for cdr in billing.cdrs(free.id)] == ["nothing_owed"]
    (invoice,) = billing.documents()
    assert (invoice["number"], invoice["session_id"]) == ("2026-0000001", own_id)
    less = session(own_id, revision=2, tariff=ENERGY, version=ENERGY_VERSION, energy_mwh=11_000, used=energy(11_000))
    await billing.deliver(less)
    assert [cdr["status"] for cdr in billing.cdrs(own_id)] == ["invoiced", "nothing_owed"], "0.46 cents cannot be paid"
    assert [d["status"] for d in billing.documents()] == ["cancelled", "settled"]
    assert totals(billing, own_id) == (0, 0, 0)


async def test_an_operator_may_want_invoices_of_nothing_which_are_paid(billing_url: str) -> None:
    async with open_running(billing_url, invoice_zero=True) as billing:
        await billing.deliver(free_session())
        assert [(d["status"], d["payable_minor"]) for d in billing.documents()] == [("paid", 0)]


async def test_a_driver_is_known_whether_assigned_before_or_after(billing: RunningBilling) -> None:
    before, after = uuid4(), uuid4()
    await billing.deliver(assigned(before, "ann"), session(before), session(after), assigned(after, "bob"))
    await billing.deliver(session(after, revision=2, energy_mwh=1_000_000))
    await billing.deliver(assigned(after, "eve"))
    assert {document["driver_id"] for document in billing.documents(before)} == {"ann"}
    assert {document["driver_id"] for document in billing.documents(after)} == {"bob"}
    assert {cdr["driver_id"] for cdr in billing.cdrs(after)} == {"bob"}
    updated = [e for e in billing.events() if e["metadata"]["type"] == "invoice.updated.v1"]
    assert updated[0]["payload"]["driver_id"] == "bob"
    ids = [event["metadata"]["eventId"] for event in billing.events()]
    assert len(ids) == len(set(ids)), "two events with one id: consumers would drop one"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_of_what_is_said_of_a_session_s_driver_the_highest_revision_counts(
    billing: RunningBilling, order: tuple[int, ...]
) -> None:
    own_id = uuid4()
    words: list[Payload] = [session(own_id), assigned(own_id, "ann"), assigned(own_id, "ann", 2, withdrawn=True)]
    words.append(assigned(own_id, "bob", 3))
    for place in order:
        await billing.deliver(words[place])
    assert [document["driver_id"] for document in billing.documents(own_id)] == ["bob"]
    assert [cdr["driver_id"] for cdr in billing.cdrs(own_id)] == ["bob"]
    await billing.deliver(assigned(own_id, "bob", 4, withdrawn=True))
    assert [document["driver_id"] for document in billing.documents(own_id)] == [None]


async def test_a_reservation_is_billed_once_to_its_driver_and_by_its_own_prices(billing: RunningBilling) -> None:
    await billing.deliver(reservation("R-1"), reservation("R-1", minutes=31), reservation("R-1"))
    (invoice,) = billing.documents()
    assert (invoice["reservation_id"], invoice["session_id"], invoice["driver_id"]) == ("R-1", None, "driver-1")
    assert invoice["total_excl_micros"] == 1_500_000
    assert [cdr["kind"] for cdr in billing.cdrs(reservation_subject("R-1"))] == ["reservation"]


async def test_numbers_have_no_gaps_and_rise_with_the_moment_of_issue(billing: RunningBilling) -> None:
    ids = [uuid4() for _ in range(60)]
    await billing.deliver_at_once(session(own) for own in ids)
    billing.clock.set_wall(NOW.replace(year=2025))
    await billing.deliver_at_once(session(own, revision=2, energy_mwh=5) for own in ids[:20])
    billing.clock.set_wall(NOW.replace(year=2027, month=1, day=1))
    await billing.deliver_at_once(session(own, revision=3, energy_mwh=6_000_000) for own in ids[:5])
    documents = billing.documents()
    by_year = {2026: 60 + 40, 2027: 10}
    for year, count in by_year.items():
        assert [d["sequence"] for d in documents if d["year"] == year] == list(range(1, count + 1))
    assert [d["issued_at"] for d in documents] == sorted(d["issued_at"] for d in documents)
    assert all(d["number"] == f"{d['year']}-{d['sequence']:07d}" for d in documents)


async def test_two_processes_give_each_number_once_and_each_event_once(
    billing_url: str, billing: RunningBilling
) -> None:
    events = [session(energy_mwh=1_000 + n) for n in range(120)]
    async with open_running(billing_url) as other:
        await asyncio.gather(billing.deliver_at_once(events), other.deliver_at_once(reversed(events)))
    assert [document["sequence"] for document in billing.documents()] == list(range(1, len(events) + 1))


async def test_one_bad_event_stops_no_other(billing: RunningBilling) -> None:
    good = [session(energy_mwh=1_000 + n) for n in range(20)]
    bad = session(energy_mwh=7, station_id="nul \0 is no text for PostgreSQL")
    odd = free_session()
    await billing.deliver_at_once([*good[:10], bad, odd, *good[10:]])
    assert len(billing.documents()) == len(good)
    assert [cdr["status"] for cdr in billing.cdrs(odd.id)] == ["nothing_owed"]
    assert billing.cdrs(bad.id) == []


async def test_what_cannot_be_money_is_dead_lettered_at_once(billing: RunningBilling) -> None:
    stranger = session(used=consumption(1_000, 0))
    assert stranger.pricing is not None
    stranger.pricing.consumption[0] = type(stranger.pricing.consumption[0])(
        element=9, dimension="ENERGY", volume=1, since="2026-01-01T00:00:00Z", last=True
    )
    dead: list[bytes] = []

    async def note(letter: object) -> None:
        dead.append(letter.body)  # type: ignore[attr-defined]  # it is a letter

    await billing.bus.subscribe("dead", "dlx_events", "billing_session_completed", note)
    await billing.deliver(stranger)
    await billing.bus.publish(message(session()).__class__("direct_events", "session.completed", b"{}"))
    assert len(dead) == 2
    assert billing.documents() == []
    assert billing.metric("events_consumed_total", queue="billing_session_completed", outcome="unprocessable") == 2
