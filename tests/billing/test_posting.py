"""Laws of posting, on a real PostgreSQL: from events to documents."""

import asyncio
import itertools
import random
from uuid import UUID, uuid4

import pytest

from billing.invoicing.drafts import reservation_subject
from billing.invoicing.poster import LATE
from tests.billing.books import NOW, Books, Payload, open_books
from tests.billing.making import LEAST, LEAST_VERSION, TARIFF, assigned, consumption, message, reservation, session


def totals(books: Books, subject_id: UUID) -> tuple[int, int, int]:
    """Sums over all documents of a subject: excl., incl., payable."""
    documents = books.documents(subject_id)
    return (
        sum(document["total_excl_micros"] for document in documents),
        sum(document["total_incl_micros"] for document in documents),
        sum(document["payable_minor"] for document in documents),
    )


async def test_a_completed_session_becomes_an_invoice_with_lines_that_add_up(books: Books) -> None:
    done = session(energy_mwh=12_345_678, time_ms=5_400_123)
    await books.hear(done)
    (invoice,) = books.documents()
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
    lines = books.rows("SELECT * FROM billing.invoice_line ORDER BY line")
    assert [line["dimension"] for line in lines] == ["ENERGY", "FLAT", "TIME"]
    assert [(line["volume"], line["billed"]) for line in lines] == [
        (12_345_678, 12_346_000),
        (1, 1),
        (5_400_123, 5_460_000),
    ]
    assert sum(line["excl_micros"] for line in lines) == invoice["total_excl_micros"]
    assert sum(line["incl_micros"] for line in lines) == invoice["total_incl_micros"]
    (cdr,) = books.cdrs(done.id)
    assert (cdr["status"], cdr["current"], cdr["revision"]) == ("invoiced", True, 1)
    (event,) = books.events()
    assert event["metadata"]["type"] == "invoice.created.v1"
    assert event["metadata"]["correlationId"].startswith("test-")
    assert event["payload"]["invoice_id"] == str(invoice["id"])
    assert event["payload"]["payable_minor"] == 777


async def test_an_event_that_comes_again_changes_nothing(books: Books) -> None:
    news = [session(energy_mwh=1_000_000 + n) for n in range(40)]
    news_again = [*news, *reversed(news), *news]
    await books.hear_at_once(news_again)
    await books.hear(*news[:3])
    assert len(books.documents()) == len(news)
    assert {document["session_id"] for document in books.documents()} == {one.id for one in news}
    assert len(books.events()) == len(news)


async def test_late_readings_credit_and_bill_anew_and_all_documents_sum_to_the_newest(books: Books) -> None:
    own_id = uuid4()
    first, second = session(own_id), session(own_id, revision=2, energy_mwh=13_000_000)
    await books.hear(first, second)
    old, note, new = books.documents(own_id)
    assert [document["status"] for document in (old, note, new)] == ["credited", "settled", "open"]
    assert (note["kind"], note["credits"], new["replaces"]) == ("credit_note", old["id"], old["id"])
    assert (old["version"], note["version"], new["version"]) == (1, 1, 2)
    for name in ("total_excl_micros", "total_incl_micros", "payable_excl_minor", "payable_minor"):
        assert note[name] == -old[name]
    assert second.pricing is not None
    assert totals(books, own_id)[:2] == (second.pricing.cost.excl_vat_micros, second.pricing.cost.incl_vat_micros)
    assert totals(books, own_id)[2] == new["payable_minor"]
    lines = books.rows(
        "SELECT line, sum(excl_micros) AS excl, sum(incl_micros) AS incl, sum(volume) AS volume "
        "FROM billing.invoice_line WHERE invoice_id = ANY (%s) GROUP BY line",
        [old["id"], note["id"]],
    )
    assert {(line["excl"], line["incl"], line["volume"]) for line in lines} == {(0, 0, 0)}
    assert [cdr["current"] for cdr in books.cdrs(own_id)] == [False, True]
    assert [event["metadata"]["type"] for event in books.events()] == [
        "invoice.created.v1",
        "invoice.created.v1",
        "invoice.updated.v1",
        "invoice.created.v1",
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_revisions_in_any_order_end_with_the_newest(books: Books, order: tuple[int, ...]) -> None:
    own_id = uuid4()
    news = [session(own_id, revision=n + 1, energy_mwh=10_000_000 * (n + 1)) for n in range(3)]
    for place in order:
        await books.hear(news[place], news[place])
    newest = news[2].pricing
    assert newest is not None
    assert totals(books, own_id)[:2] == (newest.cost.excl_vat_micros, newest.cost.incl_vat_micros)
    standing = [d for d in books.documents(own_id) if d["kind"] == "invoice" and d["status"] in ("open", "paid")]
    assert [invoice["total_incl_micros"] for invoice in standing] == [newest.cost.incl_vat_micros]
    assert [cdr["revision"] for cdr in books.cdrs(own_id) if cdr["current"]] == [3]


async def test_revisions_all_at_once_end_with_the_newest(books: Books) -> None:
    ids = [uuid4() for _ in range(10)]
    news = [session(own, revision=n, energy_mwh=n * 1_000_000) for own in ids for n in range(1, 6)]
    await books.hear_at_once([*news, *reversed(news)])
    for own in ids:
        newest = session(own, revision=5, energy_mwh=5_000_000).pricing
        assert newest is not None
        assert totals(books, own)[:2] == (newest.cost.excl_vat_micros, newest.cost.incl_vat_micros)


async def test_events_twice_and_in_any_order_give_the_same_invoices(books: Books, seed: int) -> None:
    """`told` in order, and the same of other sessions shuffled, each event twice."""
    rng = random.Random(seed)
    pairs = [(uuid4(), uuid4()) for _ in range(25)]
    shuffled: list[Payload] = []
    for number, (told, mixed) in enumerate(pairs):
        energies_mwh = [rng.randrange(1, 50) * 100_000 for _ in range(rng.randrange(1, 5))]
        for own_id in (told, mixed):
            news: list[Payload] = [session(own_id, revision=n, energy_mwh=e) for n, e in enumerate(energies_mwh, 1)]
            news += [assigned(own_id, f"driver-{number}"), reservation(f"R-{own_id}", minutes=number + 1)]
            if own_id == told:
                await books.hear(*news)
            else:
                shuffled += news * 2
    rng.shuffle(shuffled)
    await books.hear_at_once(shuffled)

    def standing(own_id: UUID) -> list[tuple[object, ...]]:
        subjects = (own_id, reservation_subject(f"R-{own_id}"))
        documents = [document for subject in subjects for document in books.documents(subject)]
        names = ("driver_id", "total_excl_micros", "total_incl_micros", "payable_minor", "status")
        return [tuple(d[name] for name in names) for d in documents if d["status"] in ("open", "paid")]

    for told, mixed in pairs:
        assert standing(mixed) == standing(told)
        assert totals(books, mixed) == totals(books, told)
    assert [d["sequence"] for d in books.documents()] == list(range(1, len(books.documents()) + 1))


async def test_a_revision_with_the_same_money_is_noted_and_nothing_is_credited(books: Books) -> None:
    own_id = uuid4()
    await books.hear(session(own_id), session(own_id, revision=4))
    assert len(books.documents()) == 1
    (cdr,) = books.cdrs(own_id)
    assert cdr["revision"] == 4
    await books.hear(session(own_id, revision=3, energy_mwh=1))
    assert len(books.documents()) == 1


async def test_other_consumption_of_the_same_money_issues_no_document_and_the_cdr_says_the_newest(books: Books) -> None:
    own_id = uuid4()
    await books.hear(session(own_id, tariff=LEAST, version=LEAST_VERSION, energy_mwh=1_000_000))
    await books.hear(session(own_id, revision=2, tariff=LEAST, version=LEAST_VERSION, energy_mwh=2_000_000))
    (invoice,) = books.documents()
    assert (invoice["status"], invoice["total_excl_micros"], invoice["payable_minor"]) == ("open", 20_000_000, 2_420)
    first, second = books.cdrs(own_id)
    assert [(cdr["status"], cdr["current"], cdr["revision"]) for cdr in (first, second)] == [
        ("invoiced", False, 1),
        ("invoiced", True, 2),
    ]
    assert [cdr["consumption"][0]["volume"] for cdr in (first, second)] == [1_000_000, 2_000_000]
    assert invoice["cdr_id"] == first["id"], "its lines are those of the consumption then"
    assert len(books.events()) == 1
    await books.hear(session(own_id, revision=3, tariff=LEAST, version=LEAST_VERSION, energy_mwh=500_000_000))
    assert [document["status"] for document in books.documents()] == ["credited", "settled", "open"]
    assert {document["reason"] for document in books.documents()} == {"", LATE}


async def test_the_money_of_the_standing_invoice_again_after_a_doubt_issues_nothing(books: Books) -> None:
    own_id = uuid4()
    await books.hear(session(own_id), session(own_id, revision=2, energy_mwh=99_000, excl_off_micros=1))
    await books.hear(session(own_id, revision=3))
    assert [document["status"] for document in books.documents()] == ["open"]
    assert [cdr["status"] for cdr in books.cdrs(own_id)] == ["invoiced", "drift", "invoiced"]
    await books.hear(session(own_id, revision=4, energy_mwh=99_000))
    assert [document["status"] for document in books.documents()] == ["credited", "settled", "open"]


async def test_drift_is_kept_and_told_and_never_billed(books: Books) -> None:
    own_id = uuid4()
    await books.hear(session(own_id, excl_off_micros=1))
    assert books.documents() == []
    (cdr,) = books.cdrs(own_id)
    assert cdr["status"] == "drift"
    assert cdr["stream_excl_micros"] == cdr["total_excl_micros"] + 1
    assert books.metric("billing_drift_total") == 1
    assert books.events() == []
    await books.hear(session(own_id, revision=2))
    (invoice,) = books.documents()
    assert invoice["version"] == 2
    await books.hear(session(own_id, revision=3, energy_mwh=99_000, excl_off_micros=-1))
    assert [document["status"] for document in books.documents()] == ["open"], "doubt is no ground to credit"
    await books.hear(session(own_id, revision=4, energy_mwh=99_000))
    assert [document["status"] for document in books.documents()] == ["credited", "settled", "open"]


async def test_a_session_without_a_tariff_is_kept_unpriced(books: Books) -> None:
    own_id = uuid4()
    await books.hear(session(own_id, tariff=None, used=[]))
    (cdr,) = books.cdrs(own_id)
    assert (cdr["status"], cdr["total_incl_micros"], cdr["tariff_version"]) == ("unpriced", None, None)
    assert books.documents() == []


async def test_more_than_the_bound_is_looked_at_before_it_is_billed(books: Books) -> None:
    own_id = uuid4()
    await books.hear(session(own_id, energy_mwh=10_000_000_000))
    assert books.documents() == []
    assert [cdr["status"] for cdr in books.cdrs(own_id)] == ["review"]


@pytest.mark.parametrize("currency", ["ABC", "XXX", "XAU"])
async def test_a_currency_that_nobody_can_pay_in_is_looked_at_before_it_is_billed(books: Books, currency: str) -> None:
    own_id = uuid4()
    await books.hear(session(own_id, tariff={**TARIFF, "currency": currency}))
    assert books.documents() == []
    assert [(cdr["status"], cdr["currency"]) for cdr in books.cdrs(own_id)] == [("review", currency)]


async def test_an_invoice_of_nothing_is_paid(books: Books) -> None:
    await books.hear(session(used=[]))
    assert [(d["status"], d["payable_minor"]) for d in books.documents()] == [("paid", 0)]


async def test_a_driver_is_known_whether_told_before_or_after(books: Books) -> None:
    before, after = uuid4(), uuid4()
    await books.hear(assigned(before, "ann"), session(before), session(after), assigned(after, "bob"))
    await books.hear(session(after, revision=2, energy_mwh=1_000_000))
    await books.hear(assigned(after, "eve"))
    assert {document["driver_id"] for document in books.documents(before)} == {"ann"}
    assert {document["driver_id"] for document in books.documents(after)} == {"bob"}
    assert {cdr["driver_id"] for cdr in books.cdrs(after)} == {"bob"}
    updated = [e for e in books.events() if e["metadata"]["type"] == "invoice.updated.v1"]
    assert updated[0]["payload"]["driver_id"] == "bob"
    ids = [event["metadata"]["eventId"] for event in books.events()]
    assert len(ids) == len(set(ids)), "two pieces of news with one id: consumers would drop one"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_of_what_is_said_of_a_session_s_driver_the_highest_revision_counts(
    books: Books, order: tuple[int, ...]
) -> None:
    own_id = uuid4()
    words: list[Payload] = [session(own_id), assigned(own_id, "ann"), assigned(own_id, "ann", 2, withdrawn=True)]
    words.append(assigned(own_id, "bob", 3))
    for place in order:
        await books.hear(words[place])
    assert [document["driver_id"] for document in books.documents(own_id)] == ["bob"]
    assert [cdr["driver_id"] for cdr in books.cdrs(own_id)] == ["bob"]
    await books.hear(assigned(own_id, "bob", 4, withdrawn=True))
    assert [document["driver_id"] for document in books.documents(own_id)] == [None]


async def test_a_reservation_is_billed_once_to_its_driver_and_by_its_own_prices(books: Books) -> None:
    await books.hear(reservation("R-1"), reservation("R-1", minutes=31), reservation("R-1"))
    (invoice,) = books.documents()
    assert (invoice["reservation_id"], invoice["session_id"], invoice["driver_id"]) == ("R-1", None, "driver-1")
    assert invoice["total_excl_micros"] == 1_500_000
    assert [cdr["kind"] for cdr in books.cdrs(reservation_subject("R-1"))] == ["reservation"]


async def test_numbers_have_no_gaps_and_rise_with_the_moment_of_issue(books: Books) -> None:
    ids = [uuid4() for _ in range(60)]
    await books.hear_at_once(session(own) for own in ids)
    books.clock.set_wall(NOW.replace(year=2025))
    await books.hear_at_once(session(own, revision=2, energy_mwh=5) for own in ids[:20])
    books.clock.set_wall(NOW.replace(year=2027, month=1, day=1))
    await books.hear_at_once(session(own, revision=3, energy_mwh=6_000_000) for own in ids[:5])
    documents = books.documents()
    by_year = {2026: 60 + 40, 2027: 10}
    for year, count in by_year.items():
        assert [d["sequence"] for d in documents if d["year"] == year] == list(range(1, count + 1))
    assert [d["issued_at"] for d in documents] == sorted(d["issued_at"] for d in documents)
    assert all(d["number"] == f"{d['year']}-{d['sequence']:07d}" for d in documents)


async def test_two_processes_give_each_number_once_and_each_event_once(billing_url: str, books: Books) -> None:
    news = [session(energy_mwh=1_000 + n) for n in range(120)]
    async with open_books(billing_url) as other:
        await asyncio.gather(books.hear_at_once(news), other.hear_at_once(reversed(news)))
    assert [document["sequence"] for document in books.documents()] == list(range(1, len(news) + 1))


async def test_one_bad_event_stops_no_other(books: Books) -> None:
    good = [session(energy_mwh=1_000 + n) for n in range(20)]
    bad = session(energy_mwh=7, station_id="nul \0 is no text for PostgreSQL")
    odd = session(used=[])
    await books.hear_at_once([*good[:10], bad, odd, *good[10:]])
    assert len(books.documents()) == len(good) + 1
    assert books.cdrs(bad.id) == []


async def test_what_cannot_be_money_is_dead_lettered_at_once(books: Books) -> None:
    stranger = session(used=consumption(1_000, 0))
    assert stranger.pricing is not None
    stranger.pricing.consumption[0] = type(stranger.pricing.consumption[0])(
        element=9, dimension="ENERGY", volume=1, since="2026-01-01T00:00:00Z", last=True
    )
    dead: list[bytes] = []

    async def note(letter: object) -> None:
        dead.append(letter.body)  # type: ignore[attr-defined]  # it is a letter

    await books.bus.subscribe("dead", "dlx_events", "billing_session_completed", note)
    await books.hear(stranger)
    await books.bus.publish(message(session()).__class__("direct_events", "session.completed", b"{}"))
    assert len(dead) == 2
    assert books.documents() == []
    assert books.metric("events_consumed_total", queue="billing_session_completed", outcome="unprocessable") == 2
