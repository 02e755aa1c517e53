"""Laws of reconciliation: no difference where all agrees, and every one where something does not."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from billing.invoices.store import InvoiceStore
from billing.readings_store import ReadingsStore
from billing.reconcile import Drift, Finding, Reconciler, Report
from tests.billing.making import LEAST, LEAST_VERSION, START, reservation, session
from tests.billing.running import open_running
from tests.billing.serving import CANCEL, INVOICES, Service, served
from tests.billing.sessions import completed, later, readings

CHARGES = "/api/v1/billing/charges"


async def reconciled(service: Service) -> Report:
    progress: list[tuple[int, int]] = []
    reconciler = Reconciler(InvoiceStore(service.billing.database), ReadingsStore(service.billing.database))
    report = await reconciler.run(START, START + timedelta(days=1), lambda *step: progress.append(step))
    assert [done for done, _ in progress] == list(range(1, report.charges + 1))
    assert all(done <= expected for done, expected in progress)
    return report


async def test_what_events_alone_have_made_agrees_with_the_readings(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    stored = [readings(rng, START + timedelta(minutes=n)) for n in range(30)]
    events = [completed(service.telemetry, one) for one in stored]
    await service.billing.deliver_at_once([*events, reservation("R-1")])
    revised = [
        completed(service.telemetry, later(one), event.id, 2)
        for one, event in zip(stored[:10], events[:10], strict=True)
    ]
    await service.billing.deliver_at_once([*revised, *events])
    report = await reconciled(service)
    assert report.drifts == []
    assert report.outcomes == {Finding.AGREES: 31}
    assert report.booked_micros == report.derived_micros != {}


async def test_later_readings_that_change_no_money_are_no_drift(service: Service, seed: int) -> None:
    stored = readings(random.Random(seed))
    least: dict[str, Any] = {"tariff": LEAST, "version": LEAST_VERSION}
    event = completed(service.telemetry, stored, **least)
    await service.billing.deliver(event)
    await service.billing.deliver(completed(service.telemetry, later(stored), event.id, 2, **least))
    assert len(service.billing.documents()) == 1
    report = await reconciled(service)
    assert report.drifts == []
    assert report.booked_micros == report.derived_micros == {"EUR": 24_200_000}


async def test_nothing_is_asked_of_what_was_cancelled_or_not_priced_or_beyond_the_bound(
    service: Service, seed: int
) -> None:
    cancelled, unpriced = (completed(service.telemetry, readings(random.Random(seed + n))) for n in range(2))
    unpriced = session(unpriced.id, tariff=None, used=[], energy_mwh=unpriced.energy_uj // 3_600_000)
    await service.billing.deliver(cancelled, unpriced)
    id_ = str(service.billing.documents()[0]["id"])
    await service.post(CANCEL, {"invoice_id": id_, "reason": "x"})
    report = await reconciled(service)
    assert report.outcomes == {Finding.CANCELLED: 1, Finding.UNPRICED: 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE billing.invoice SET total_incl_micros = total_incl_micros + 1 RETURNING 1", "all documents together"),
        ("UPDATE billing.cdr SET total_excl_micros = total_excl_micros - 1 RETURNING 1", "total_excl_vat"),
        ("UPDATE billing.cdr SET energy_uj = 5 RETURNING 1", "energy_uj"),
        ("UPDATE billing.cdr SET consumption = '[]' RETURNING 1", "element 0 ENERGY"),
        (
            "DELETE FROM billing.invoice_line; DELETE FROM billing.document_terms; DELETE FROM billing.invoice",
            "all documents together",
        ),
    ],
)
async def test_a_figure_that_is_not_what_follows_is_reported(
    service: Service, seed: int, change: str, words: str
) -> None:
    event = completed(service.telemetry, readings(random.Random(seed)))
    await service.billing.deliver(event)
    for statement in change.split(";"):
        service.billing.rows(statement if "RETURNING" in statement else f"{statement} RETURNING 1")
    report = await reconciled(service)
    assert not report.agrees
    assert [drift.subject_id for drift in report.drifts] == [event.id]
    assert any(words in difference for difference in report.drifts[0].differences)


async def test_drift_of_the_stream_is_reported_with_both_figures(service: Service) -> None:
    wrong = session(excl_off_micros=3)
    await service.billing.deliver(wrong)
    report = await reconciled(service)
    assert report.outcomes == {Finding.DRIFT: 1}
    (drift,) = report.drifts
    assert drift.subject_id == wrong.id


async def test_what_one_side_does_not_know_is_reported(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    never_heard = completed(service.telemetry, readings(rng))
    forgotten = completed(service.telemetry, readings(rng))
    stored = readings(rng)
    behind = completed(service.telemetry, stored)
    await service.billing.deliver(forgotten, behind)
    service.telemetry.forget(forgotten.id)
    completed(service.telemetry, later(stored), behind.id, 2)
    report = await reconciled(service)
    said = {drift.subject_id: " ".join(drift.differences) for drift in report.drifts}
    assert set(said) == {never_heard.id, forgotten.id, behind.id}
    assert "no CDR" in said[never_heard.id]
    assert "no session" in said[forgotten.id]
    assert "revision" in said[behind.id]


async def test_what_did_not_agree_is_looked_at_again_alone(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    late, wrong, agrees = (completed(service.telemetry, readings(rng)) for _ in range(3))
    await service.billing.deliver(wrong, agrees, reservation("R-1"))
    service.billing.rows("UPDATE billing.cdr SET energy_uj = 5 WHERE subject_id = %s RETURNING 1", wrong.id)
    source = ReadingsStore(service.billing.database)
    reconciler = Reconciler(InvoiceStore(service.billing.database), source)

    async def again(drifts: Sequence[Drift]) -> Report:
        ids = [drift.subject_id for drift in drifts]
        return await reconciler.again(ids, await source.completed_among(ids))

    first = await reconciled(service)
    assert {drift.subject_id: drift.behind for drift in first.drifts} == {late.id: True, wrong.id: False}
    assert first.behind == 1
    second = await again(first.drifts)
    assert sorted(second.drifts, key=repr) == sorted(first.drifts, key=repr)
    await service.billing.deliver(late)
    third = await again(first.drifts)
    assert ([drift.subject_id for drift in third.drifts], third.behind) == ([wrong.id], 0)
    assert third.outcomes == {Finding.DRIFT: 1, Finding.AGREES: 1}


async def test_what_people_decided_and_credited_agrees(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    done = [completed(service.telemetry, readings(rng)) for _ in range(6)]
    approved, corrected, voided, void, held, credited = done
    doubted = [msgspec.structs.replace(one, held=("register_leapt",)) for one in (approved, corrected, voided, held)]
    await service.billing.deliver(*doubted, msgspec.structs.replace(void, void=True), credited)
    for one, deed, more in (
        (approved, "approve", {}),
        (corrected, "correct", {"energy_wh": "77"}),
        (voided, "void", {}),
    ):
        await service.post(f"{CHARGES}/{one.id}/{deed}", {"why": "x", **more})
    (invoice,) = service.billing.documents(credited.id)
    await service.post(f"{INVOICES}/{invoice['id']}/credit", {"amount": "0.10", "reason": "x"})
    report = await reconciled(service)
    assert report.drifts == []
    assert report.outcomes == {Finding.AGREES: 2, Finding.DECIDED: 2, Finding.NOT_OWED: 1, Finding.HELD: 1}
    assert report.booked_micros == report.derived_micros
    assert sum(report.booked_micros.values()) == sum(one["total_incl_micros"] for one in service.billing.documents())
    service.billing.rows("UPDATE billing.cdr SET total_incl_micros = total_incl_micros + 1 WHERE current RETURNING 1")
    said = {drift.subject_id for drift in (await reconciled(service)).drifts}
    assert {approved.id, corrected.id, credited.id} <= said


async def test_what_settles_is_no_drift(billing_url: str) -> None:
    async with open_running(billing_url, invoice_settle_s=60) as billing, served(billing) as service:
        own_id = uuid4()
        await billing.deliver(session(own_id))
        assert (await reconciled(service)).outcomes == {Finding.SETTLING: 1}
        billing.clock.advance(60)
        await billing.components.poster.invoice_due()
        await billing.deliver(session(own_id, revision=2, energy_mwh=5_000_000))
        report = await reconciled(service)
        assert (report.outcomes, report.drifts) == ({Finding.SETTLING: 1}, [])
        assert report.booked_micros == report.derived_micros != {}
