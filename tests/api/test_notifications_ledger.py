"""The ledger of deliveries: once per (event, subject, channel), queued = sent + failed + suppressed + waiting, whatever
is redelivered, refused, postponed or killed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.notifications.channels.channel import Gone, Outcome, OutgoingMessage, Receipt, Rejected, RetryAfter
from api.notifications.declaration import SERVICE
from api.notifications.deliveries.sender import LEASE
from api.notifications.kinds import CHANNELS
from kit.errors import Unavailable
from kit.web.errors import NotFound
from schemas.events import EventFailed, NotificationDelivery, StationStatusChanged
from schemas.topics import (
    EVENT_FAILED,
    NOTIFICATION_FAILED,
    NOTIFICATION_SENT,
    RESERVATION_CREATED,
    STATION_STATUS_CHANGED,
)
from tests.api.notifications_harness import (
    Harness,
    attachment_of,
    event_id_of,
    invoice_created,
    message,
    notifications_harness,
    reservation,
    status,
)
from tests.serving import make_schemas

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    """The service at work."""
    make_schemas(database_url, [SERVICE])
    async with notifications_harness(database_url, NOW, notification_attempts_max=3) as running:
        yield running


def created(name: str, driver_id: str = "D1") -> Any:
    return message(RESERVATION_CREATED, f"{name}/{driver_id}", reservation(name, driver_id=driver_id))


async def counts(harness: Harness, **selected: Any) -> dict[str, Any]:
    """Of the ledger over HTTP, after a look at whether it adds up."""
    found: dict[str, Any] = (await harness.ask("GET", "/deliveries", 200, **selected))["counts"]
    every = [found, *found["by_channel"].values()]
    for one in every:
        assert one["queued"] == one["sent"] + one["failed"] + one["suppressed"] + one["waiting"]
    for state in ("queued", "sent", "failed", "suppressed", "waiting"):
        assert found[state] == sum(one[state] for one in found["by_channel"].values())
    assert found["suppressed"] == sum(found["suppressed_by_reason"].values())
    return found


async def test_an_event_becomes_one_delivery_by_each_channel_and_each_is_sent_and_published(harness: Harness) -> None:
    await harness.prefer()
    event = created("R-1")
    await harness.deliver(event, event)
    assert await harness.states() == {"queued": 3}
    assert (await counts(harness))["waiting"] == 3
    await harness.send_all()
    rows = await harness.rows()
    assert {(row["channel"], row["state"], row["attempts"], row["receipt"]) for row in rows} == {
        (channel, "sent", 1, "taken") for channel in ("email", "push", "webhook")
    }
    for row in rows:
        (one,) = harness.sent(row["channel"])
        assert (one.id, one.address, one.title) == (row["id"], row["address"], "Reserved at ST-1")
    events = await harness.published()
    assert {event.metadata.type for event in events} == {NOTIFICATION_SENT}
    payloads = [msgspec.convert(event.payload, NotificationDelivery) for event in events]
    assert {(one.channel, one.kind, one.subject, one.attempts, one.event_id, one.error) for one in payloads} == {
        (channel, "reservation_created", "driver/D1", 1, event_id_of(event), None)
        for channel in ("email", "push", "webhook")
    }
    await harness.send_all()
    assert len(await harness.published()) == 3
    assert await counts(harness) == {
        "queued": 3, "sent": 3, "failed": 0, "suppressed": 0, "waiting": 0, "suppressed_by_reason": {},
        "by_channel": {
            channel: {"queued": 1, "sent": 1, "failed": 0, "suppressed": 0, "waiting": 0}
            for channel in ("email", "push", "webhook")
        },
    }  # fmt: skip


async def test_the_same_event_delivered_by_many_at_once_is_one(harness: Harness) -> None:
    await harness.prefer()
    events = [created(f"R-{number}", f"D{number % 3}") for number in range(20)]
    await harness.deliver_at_once(*events, *events, *reversed(events))
    names = Counter((row["event_id"], row["subject"], row["channel"]) for row in await harness.rows())
    assert max(names.values()) == 1
    assert len({event_id for event_id, _, _ in names}) == 20


async def test_a_receipt_goes_with_its_pdf_and_again_when_billing_is_back(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    harness.pdfs.error = Unavailable("billing is away")
    await harness.deliver(invoice_created("7"))
    await harness.send_all()
    assert harness.sent("email") == []
    assert [(row["state"], row["reason"]) for row in await harness.rows()] == [("queued", "billing is away")]
    harness.pdfs.error = None
    harness.clock.advance(30)
    await harness.send_all()
    (one,) = harness.sent("email")
    pdf = attachment_of(one)
    assert (pdf.media_type, pdf.content[:5]) == ("application/pdf", b"%PDF-")
    assert pdf.name.startswith("N-")
    assert "12.10 EUR" in one.body
    assert await harness.states() == {"sent": 1}


async def test_a_receipt_whose_pdf_is_no_more_goes_without(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    harness.pdfs.error = NotFound("no such invoice")
    await harness.deliver(invoice_created("8", kind="credit_note"))
    await harness.send_all()
    (one,) = harness.sent("email")
    assert (one.attachment, one.kind) == (None, "credit_note")


async def test_what_is_postponed_comes_again_under_the_same_id_and_not_before(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    answers: list[Outcome] = [RetryAfter(90, "451 busy"), RetryAfter(None, "451 still busy"), Receipt("250 ok")]
    harness.channels["email"].answer = lambda _: answers.pop(0)
    await harness.deliver(created("R-1"))
    await harness.send_all()
    harness.clock.advance(89)
    await harness.send_all()
    assert len(harness.sent("email")) == 1
    harness.clock.advance(1)
    await harness.send_all()
    assert len(harness.sent("email")) == 2
    (row,) = await harness.rows()
    assert (row["state"], row["reason"], row["attempts"]) == ("queued", "451 still busy", 2)
    harness.clock.advance(60)
    await harness.send_all()
    assert len({one.id for one in harness.sent("email")}) == 1
    assert len(harness.sent("email")) == 3
    assert await harness.states() == {"sent": 1}


async def test_attempts_are_bounded_and_the_last_reason_is_kept(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    harness.channels["email"].answer = lambda _: RetryAfter(None, "451 busy")
    await harness.deliver(created("R-1"))
    for _ in range(5):
        await harness.send_all()
        harness.clock.advance(86_400)
    assert len(harness.sent("email")) == 3
    (row,) = await harness.rows()
    assert (row["state"], row["reason"], row["attempts"]) == ("failed", "451 busy", 3)
    (event,) = await harness.published()
    assert (event.metadata.type, event.payload["error"], event.payload["attempts"]) == (
        NOTIFICATION_FAILED, "451 busy", 3,
    )  # fmt: skip


async def test_an_address_that_is_gone_gets_nothing_more_until_it_is_another(harness: Harness) -> None:
    await harness.prefer(addresses={"push": "old"})
    harness.channels["push"].answer = lambda _: Gone("UNREGISTERED")
    await harness.deliver(created("R-1"))
    await harness.send_all()
    assert (await harness.ask("GET", "/preferences", 200, subject="driver/D1"))["gone"] == {"push": "UNREGISTERED"}
    await harness.deliver(created("R-2"))
    assert await harness.states() == {"failed": 1, "suppressed": 1}
    assert (await counts(harness))["suppressed_by_reason"]["address gone"] == 1
    await harness.prefer(addresses={"push": "old"}, language="de")
    assert (await harness.ask("GET", "/preferences", 200, subject="driver/D1"))["gone"] != {}
    await harness.prefer(addresses={"push": "new"})
    harness.channels["push"].answer = None
    await harness.deliver(created("R-3"))
    await harness.send_all()
    assert [one.address for one in harness.sent("push")] == ["old", "new"]


@pytest.mark.parametrize("answer", [Rejected("552 too large"), None])
async def test_what_is_never_taken_fails_at_once_and_so_does_a_fault_of_a_channel(
    harness: Harness, answer: Outcome | None
) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})

    def refuse(_: OutgoingMessage) -> Outcome:
        if answer is None:
            raise KeyError("a fault")
        return answer

    harness.channels["email"].answer = refuse
    await harness.deliver(created("R-1"), created("R-2"))
    await harness.send_all()
    assert await harness.states() == {"failed": 2}


async def test_what_a_killed_process_had_taken_comes_again_when_its_lease_ends(harness: Harness) -> None:
    """Killed between the send and its record: sent twice, under the same id, and recorded once."""
    await harness.prefer(addresses={"email": "d1@example.com"})
    await harness.deliver(created("R-1"))
    deliveries = harness.service.components.deliveries
    (taken,) = await deliveries.take("email", NOW, 10, LEASE)  # … and nothing more is heard of that process
    await harness.send_all()
    assert harness.sent("email") == []
    harness.clock.advance(LEASE.total_seconds())
    await harness.send_all()
    assert [one.id for one in harness.sent("email")] == [taken.id]
    (row,) = await harness.rows()
    assert (row["state"], row["attempts"]) == ("sent", 2)
    await deliveries.postpone(taken, NOW, "late")  # the first one was only slow
    assert await harness.states() == {"sent": 1}


@pytest.mark.parametrize("late", [Receipt("late"), Gone("late"), Rejected("late"), RetryAfter(None, "late")])
async def test_a_process_that_was_only_slow_changes_no_end_and_publishes_none(harness: Harness, late: Outcome) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    await harness.deliver(created("R-1"))
    (taken,) = await harness.service.components.deliveries.take("email", NOW, 10, LEASE)
    harness.clock.advance(LEASE.total_seconds())
    await harness.send_all()
    before = await harness.rows()
    harness.channels["email"].answer = lambda _: late
    await harness.sender.attempt(taken)
    assert await harness.rows() == before
    assert [event.metadata.type for event in await harness.published()] == [NOTIFICATION_SENT]


async def test_a_slow_success_counts_while_another_attempt_is_under_way_and_a_slow_failure_does_not(
    harness: Harness,
) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    await harness.deliver(created("R-1"))
    deliveries = harness.service.components.deliveries
    (slow,) = await deliveries.take("email", NOW, 10, LEASE)
    harness.clock.advance(LEASE.total_seconds())
    (again,) = await deliveries.take("email", harness.clock.now(), 10, LEASE)
    harness.channels["email"].answer = lambda _: Rejected("552 too large")
    await harness.sender.attempt(slow)
    assert await harness.states() == {"queued": 1}
    harness.channels["email"].answer = None
    await harness.sender.attempt(slow)
    assert await harness.states() == {"sent": 1}
    await harness.sender.attempt(again)
    assert len(await harness.published()) == 1


async def test_senders_side_by_side_take_each_delivery_once(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    await harness.deliver_at_once(*(created(f"R-{number}") for number in range(40)))
    await asyncio.gather(*(harness.sender.send_due("email") for _ in range(6)))
    await harness.send_all()
    ids = [one.id for one in harness.sent("email")]
    assert len(ids) == len(set(ids)) == 40


async def test_over_the_rate_is_suppressed_with_that_reason_but_receipts_and_alarms_never_are(
    database_url: str,
) -> None:
    make_schemas(database_url, [SERVICE])
    async with notifications_harness(database_url, NOW, rate=2) as harness:
        await harness.prefer(addresses={"email": "d1@example.com"})
        await harness.deliver(*(created(f"R-{number}") for number in range(5)))
        await harness.deliver(*(invoice_created(f"{number}") for number in range(5)))
        assert await harness.states() == {"queued": 7, "suppressed": 3}
        assert (await counts(harness))["suppressed_by_reason"] == {"over the rate of this recipient": 3}
        await harness.prefer("team/operators", addresses={"email": "ops@example.com"})
        for number in range(4):
            change = StationStatusChanged(changes=[status(f"ST-{number}")])
            await harness.deliver(message(STATION_STATUS_CHANGED, f"{number}", change))
        alarms = await harness.rows("WHERE n.kind = 'station_alarm'")
        assert Counter(row["is_digest_item"] for row in alarms) == {False: 2, True: 2}
        assert {row["state"] for row in alarms} == {"queued"}


async def test_items_of_a_digest_come_together_and_end_as_it_does(harness: Harness) -> None:
    await harness.prefer(
        addresses={"email": "d1@example.com"},
        modes={"reservations": {"email": "digest"}},
        digest_at="18:00",
        time_zone="Europe/Berlin",
        language="de",
    )
    await harness.deliver(*(created(f"R-{number}") for number in range(3)))
    await harness.send_all()
    assert harness.sent("email") == []
    harness.clock.set_wall(datetime(2026, 3, 29, 16, 0, tzinfo=UTC))  # 18:00 in Berlin
    harness.channels["email"].answer = lambda _: RetryAfter(60, "451 busy")
    await harness.send_all()
    harness.channels["email"].answer = None
    harness.clock.advance(60)
    await harness.send_all()
    first, again = harness.sent("email")
    assert (first.id, first.body, first.kind) == (again.id, again.body, "digest")
    assert first.title == "3 Mitteilungen"
    assert first.body.count("Reserviert: ST-1") == 3
    assert await harness.states() == {"sent": 4}  # the items, and the digest itself
    kinds = Counter(event.payload["kind"] for event in await harness.published())
    assert kinds == {"reservation_created": 3, "digest": 1}
    await harness.deliver(created("R-9"))
    assert (await harness.states())["queued"] == 1  # for tomorrow


async def test_a_digest_that_fails_fails_its_items(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"}, modes={"reservations": {"email": "digest"}})
    await harness.deliver(created("R-1"), created("R-2"))
    harness.clock.advance(86_400)
    harness.channels["email"].answer = lambda _: Gone("550 no such mailbox")
    await harness.send_all()
    assert await harness.states() == {"failed": 3}
    assert (await counts(harness))["failed"] == 3


async def test_quiet_hours_let_webhooks_through_and_hold_the_rest(harness: Harness) -> None:
    await harness.prefer(quiet={"from": "10:00", "until": "12:30"}, time_zone="Europe/Berlin")  # it is 11:00 there
    await harness.deliver(created("R-1"))
    await harness.send_all()
    assert (len(harness.sent("webhook")), len(harness.sent("push"))) == (1, 0)
    harness.clock.advance(90 * 60)
    await harness.send_all()
    assert (len(harness.sent("email")), len(harness.sent("push"))) == (1, 1)


async def test_old_notifications_are_forgotten_but_not_those_that_wait(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    await harness.deliver(created("R-1"))
    await harness.send_all()
    harness.channels["email"].answer = lambda _: RetryAfter(None, "451 busy")
    await harness.deliver(created("R-2"))
    harness.clock.advance(timedelta(days=91).total_seconds())
    assert (await harness.service.end_records(harness.clock.now()))["notifications"] == 1
    (row,) = await harness.rows()
    assert row["state"] == "queued"


async def test_nobody_is_alarmed_of_our_own_queue_of_alarms(harness: Harness) -> None:
    await harness.prefer("team/operators")
    for queue in ("notifications_event_failed", "billing_session_completed"):
        failed = EventFailed(queue=queue, event_id=None, event_type="x.y.v1", attempts=8, error="no")
        await harness.deliver(message(EVENT_FAILED, queue, failed))
    assert {row["title"] for row in await harness.rows()} == {"Events are given up in billing_session_completed"}


async def test_a_sender_that_closes_lets_what_is_under_way_end_and_takes_nothing_more(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    await harness.deliver(created("R-1"))
    began, may_end = asyncio.Event(), asyncio.Event()
    send = harness.channels["email"].send

    async def slow(message: OutgoingMessage) -> Outcome:
        began.set()
        await may_end.wait()
        return await send(message)

    harness.channels["email"].send = slow  # type: ignore[method-assign]
    running = asyncio.create_task(harness.sender.run())
    await began.wait()
    await harness.deliver(created("R-2"))
    harness.sender.close()
    may_end.set()
    await running
    assert await harness.states() == {"sent": 1, "queued": 1}


async def test_while_sending_is_paused_everything_is_prepared_and_waits(database_url: str) -> None:
    make_schemas(database_url, [SERVICE])
    async with notifications_harness(database_url, NOW, notifications_paused=True) as harness:
        await harness.prefer(addresses={"email": "d1@example.com"})
        await harness.deliver(created("R-1"))
        running = asyncio.create_task(harness.sender.run())
        await asyncio.sleep(0)
        harness.sender.close()
        await running
        assert await harness.states() == {"queued": 1}
        await harness.send_all()
        assert await harness.states() == {"sent": 1}


# -- the law ----------------------------------------------------------------------------------------------------------

OUTCOMES = st.sampled_from(
    [Receipt("ok"), RetryAfter(None, "busy"), RetryAfter(5, "slow down"), Gone("gone"), Rejected("no"), None]
)
EVENTS = st.tuples(st.integers(0, 3), st.sampled_from(("D1", "D2", "D3")))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.lists(EVENTS, min_size=1, max_size=6)),
        st.tuples(st.just("send"), st.lists(OUTCOMES, min_size=1, max_size=4)),
        st.tuples(st.just("crash"), st.sampled_from(CHANNELS)),
        st.tuples(st.just("wait"), st.integers(1, 100_000)),
    ),
    max_size=8,
)
MODES = st.dictionaries(st.sampled_from(("email", "push", "sms", "webhook")), st.sampled_from(("now", "digest", "off")))
HAVING = st.sets(st.sampled_from(("email", "push", "sms", "webhook")))


async def _holds(harness: Harness, preferences: list[Any], steps: list[Any]) -> None:
    await harness.empty()
    harness.clock.set_wall(NOW)
    for driver, (modes, having) in zip(("D1", "D2"), preferences, strict=True):  # D3 never chose anything
        addresses = {one: {"webhook": "https://x.example", "sms": "+3161234567"}.get(one, "a@b.c") for one in having}
        await harness.prefer(f"driver/{driver}", addresses=addresses, modes={"reservations": modes})
    events: set[tuple[int, str]] = set()
    ended: dict[UUID, str] = {}
    for step, given_ in steps:
        if step == "deliver":
            events.update(given_)
            await harness.deliver_at_once(*(created(f"{number}", driver) for number, driver in given_ for _ in "ab"))
        elif step == "send":
            script = list(given_)

            def answer(_: OutgoingMessage, script: list[Outcome | None] = script) -> Outcome:
                outcome = script[0] if len(script) == 1 else script.pop(0)
                if outcome is None:
                    raise TimeoutError("no answer")
                return outcome

            for channel in harness.channels.values():
                channel.answer = answer
            for name in CHANNELS:
                await harness.sender.send_due(name)
        elif step == "crash":  # whoever took them is heard of no more
            await harness.service.components.deliveries.take(given_, harness.clock.now(), 10, LEASE)
        else:
            harness.clock.advance(given_)
        rows = await harness.rows()
        own = [row for row in rows if row["kind"] != "digest"]
        keys = [(row["event_id"], row["subject"], row["channel"]) for row in own]
        assert len(keys) == len(set(keys))
        assert {(event_id, subject) for event_id, subject, _ in keys} == {
            (event_id_of(created(f"{number}", driver)), f"driver/{driver}") for number, driver in events
        }
        found = await counts(harness)
        assert found["queued"] == len(rows)
        for row in rows:
            assert ended.get(row["id"], row["state"]) == row["state"], "an end is the end"
            assert (row["reason"] is None) <= (row["state"] in ("queued", "sent"))
            if row["state"] != "queued":
                ended[row["id"]] = row["state"]
    published = [(event.metadata.type, event.payload["notification_id"], event.payload["channel"]) for event in
                 await harness.published()]  # fmt: skip
    names = {"sent": NOTIFICATION_SENT, "failed": NOTIFICATION_FAILED}
    expected = [
        (names[row["state"]], str(row["notification_id"]), row["channel"])
        for row in await harness.rows()
        if row["state"] in names
    ]
    assert sorted(published) == sorted(expected)


async def test_queued_is_sent_and_failed_and_suppressed_and_waiting_and_once_whatever_happens(
    harness: Harness,
) -> None:
    loop = asyncio.get_running_loop()

    @settings(suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate], max_examples=30)
    @given(st.lists(st.tuples(MODES, HAVING), min_size=2, max_size=2), STEPS)
    def law(preferences: list[Any], steps: list[Any]) -> None:
        asyncio.run_coroutine_threadsafe(_holds(harness, preferences, steps), loop).result()

    await asyncio.to_thread(law)
