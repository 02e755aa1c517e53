"""One contract for every payment provider, and what is Stripe's own, on a stand-in of its API."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.currency import minor_digits
from billing.errors import BadSignature, Declined, ProviderFailed
from billing.payments.manual import ManualProvider
from billing.payments.provider import PaymentOrder, PaymentProvider, PaymentStatus, PaymentUpdate
from billing.payments.stripe_amounts import from_stripe, to_stripe
from billing.payments.stripe_provider import StripeProvider
from kit.clock import ManualClock
from kit.errors import Unavailable
from kit.web.errors import BadQuery, Conflict
from tests.billing.stripe_standin import KEY, SECRET, StripeStandIn, stripe_standin


def order(payment_id: UUID | None = None, amount_minor: int = 777, currency: str = "EUR") -> PaymentOrder:
    return PaymentOrder(payment_id or uuid4(), "2026-0000001", amount_minor, currency, minor_digits(currency))


class Harness(Protocol):
    """A provider, and a source of its messages."""

    @property
    def provider(self) -> PaymentProvider: ...

    def message(self, payment_id: UUID, reference: str, status: str) -> tuple[dict[str, str], bytes, bool]:
        """A true message: headers, body, and whether finance brings it."""

    def forged(self, payment_id: UUID, reference: str) -> tuple[dict[str, str], bytes, bool]:
        """The same by somebody else."""


@dataclass
class ManualHarness:
    provider: ManualProvider

    def message(self, payment_id: UUID, reference: str, status: str) -> tuple[dict[str, str], bytes, bool]:
        return {}, json.dumps({"payment_id": str(payment_id), "status": status}).encode(), True

    def forged(self, payment_id: UUID, reference: str) -> tuple[dict[str, str], bytes, bool]:
        headers, body, _ = self.message(payment_id, reference, "succeeded")
        return headers, body, False


@dataclass
class StripeHarness:
    provider: StripeProvider
    standin: StripeStandIn
    clock: ManualClock

    def message(self, payment_id: UUID, reference: str, status: str) -> tuple[dict[str, str], bytes, bool]:
        intent = {**self.standin.intents[reference], "metadata": {"payment_id": str(payment_id)}}
        types = {"succeeded": "payment_intent.succeeded", "failed": "payment_intent.canceled"}
        if status == "succeeded":
            intent["amount_received"] = intent["amount"]
        body = self.standin.event(types[status], intent, f"evt_{reference}_{status}")
        return self.standin.signed(body, self.clock.now_ms() // 1000), body, False

    def forged(self, payment_id: UUID, reference: str) -> tuple[dict[str, str], bytes, bool]:
        _, body, _ = self.message(payment_id, reference, "succeeded")
        # Finance's token is no signature of Stripe's.
        return self.standin.signed(body, self.clock.now_ms() // 1000, "whsec_other"), body, True


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Harness]:
    if name == "manual":
        yield ManualHarness(ManualProvider())
        return
    async with stripe_harness() as harness:
        yield harness


_TIMEOUT_S = 5


async def _no_pause(_: Any) -> None: ...


@asynccontextmanager
async def stripe_harness() -> AsyncIterator[StripeHarness]:
    clock = ManualClock()
    async with stripe_standin() as standin:
        provider = StripeProvider(KEY, SECRET, clock, api_base=standin.url, timeout_s=_TIMEOUT_S, sleep=_no_pause)
        try:
            yield StripeHarness(provider, standin, clock)
        finally:
            await provider.close()


@pytest.fixture(params=["manual", "stripe"])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    async with opened(request.param) as found:
        yield found


@pytest.fixture
async def stripe() -> AsyncIterator[StripeHarness]:
    async with stripe_harness() as found:
        yield found


def read(harness: Harness, message: tuple[dict[str, str], bytes, bool]) -> PaymentUpdate | None:
    headers, body, by_finance = message
    return harness.provider.read_message(headers, body, by_finance=by_finance)


async def test_the_same_order_again_is_the_same_payment_and_another_is_another(harness: Harness) -> None:
    first, second = order(), order()
    opened_first = await harness.provider.charge(first)
    assert opened_first.status is PaymentStatus.PENDING
    assert await harness.provider.charge(first) == opened_first
    assert (await harness.provider.charge(second)).reference != opened_first.reference


@pytest.mark.parametrize("status", ["succeeded", "failed"])
async def test_what_became_of_a_payment_is_read(harness: Harness, status: str) -> None:
    wanted = order()
    reference = (await harness.provider.charge(wanted)).reference
    update = read(harness, harness.message(wanted.payment_id, reference, status))
    assert update is not None
    assert (update.payment_id, update.status) == (wanted.payment_id, PaymentStatus(status))
    assert update.amount_minor in (None, wanted.amount_minor if status == "succeeded" else 0)
    again = read(harness, harness.message(wanted.payment_id, reference, status))
    assert again is not None
    assert again.event_id == update.event_id, "a repeated message must be recognised"


async def test_what_somebody_else_says_is_not_believed(harness: Harness) -> None:
    wanted = order()
    reference = (await harness.provider.charge(wanted)).reference
    with pytest.raises(BadSignature):
        read(harness, harness.forged(wanted.payment_id, reference))


async def test_a_message_that_was_tampered_with_or_is_nonsense_is_no_update(harness: Harness) -> None:
    wanted = order()
    reference = (await harness.provider.charge(wanted)).reference
    headers, body, by_finance = harness.message(wanted.payment_id, reference, "succeeded")
    for changed in (body.replace(b"succeeded", b"nonsense"), b"", b"{", b"\xff"):
        with pytest.raises((BadSignature, BadQuery)):
            read(harness, (headers, changed, by_finance))


async def test_a_charge_can_be_refunded_in_parts(harness: Harness) -> None:
    charge = order()
    reference = (await harness.provider.charge(charge)).reference
    parts = [order(amount_minor=250), order(amount_minor=527)]
    refunds = [await harness.provider.refund(part, reference) for part in parts]
    assert len({refund.reference for refund in refunds}) == 2


async def test_a_charge_can_be_refunded_and_the_same_refund_is_one(harness: Harness) -> None:
    wanted, back = order(), order()
    reference = (await harness.provider.charge(wanted)).reference
    refund = await harness.provider.refund(back, reference)
    assert refund.reference != reference
    assert await harness.provider.refund(back, reference) == refund


async def test_a_pending_charge_can_be_withdrawn_again_and_again(harness: Harness) -> None:
    reference = (await harness.provider.charge(order())).reference
    await harness.provider.withdraw(reference)
    await harness.provider.withdraw(reference)


@pytest.mark.parametrize("fault", ["drop", "hang", "500", "409"])
async def test_stripe_is_asked_again_with_the_same_key_and_charges_once(
    stripe: StripeHarness, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stripe.standin.faults.append(fault)
    wanted = order()
    charging = asyncio.create_task(stripe.provider.charge(wanted))
    if fault == "hang":
        await stripe.standin.hanging.wait()
        loop = asyncio.get_running_loop()
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + _TIMEOUT_S)  # instead of waiting
    opened_intent = await charging
    assert list(stripe.standin.intents) == [opened_intent.reference]
    keys = {request.headers["idempotency-key"] for request in stripe.standin.requests}
    assert (len(stripe.standin.requests), keys) == (2, {str(wanted.payment_id)})


async def test_stripe_that_does_not_answer_is_unavailable_and_the_order_is_safe_to_repeat(
    stripe: StripeHarness,
) -> None:
    wanted = order()
    stripe.standin.faults.extend(["drop"] * 3)
    with pytest.raises(Unavailable):
        await stripe.provider.charge(wanted)
    assert (await stripe.provider.charge(wanted)).reference == "pi_1"
    assert len(stripe.standin.intents) == 1


async def test_a_card_that_is_declined_says_so(stripe: StripeHarness) -> None:
    stripe.standin.faults.append("402")
    with pytest.raises(Declined, match="declined") as declined:
        await stripe.provider.charge(order())
    assert declined.value.code == "card_declined"


@pytest.mark.parametrize(("fault", "error"), [("400", ProviderFailed), ("429", Unavailable)])
async def test_what_stripe_refuses_is_distinguished_from_what_it_cannot_do_now(
    stripe: StripeHarness, fault: str, error: type[Exception]
) -> None:
    stripe.standin.faults.append(fault)
    with pytest.raises(error) as raised:
        await stripe.provider.charge(order())
    assert KEY not in str(raised.value)


async def test_a_wrong_key_is_no_outage() -> None:
    async with stripe_standin() as standin:
        provider = StripeProvider("sk_test_wrong", SECRET, ManualClock(), api_base=standin.url)
        with pytest.raises(ProviderFailed, match="AuthenticationError"):
            await provider.charge(order())
        await provider.close()


async def test_the_library_sends_stripe_nothing_about_us(stripe: StripeHarness) -> None:
    for _ in range(2):  # the library reports a request's duration with the next one
        await stripe.provider.charge(order())
    known = {"host", "accept", "accept-encoding", "connection", "user-agent", "content-length", "content-type"}
    known |= {"authorization", "idempotency-key", "stripe-version"}
    for request in stripe.standin.requests:
        assert set(request.headers) <= known
        assert request.headers["user-agent"] == "voltstream"


async def test_stripe_gets_minor_units_and_the_currency(stripe: StripeHarness) -> None:
    await stripe.provider.charge(order(amount_minor=1_234, currency="JPY"))
    params = stripe.standin.requests[0].params
    assert (params["amount"], params["currency"], params["description"]) == ("1234", "jpy", "2026-0000001")


async def test_a_charge_that_succeeded_cannot_be_withdrawn(stripe: StripeHarness) -> None:
    reference = (await stripe.provider.charge(order())).reference
    stripe.standin.pay(reference)
    with pytest.raises(Conflict):
        await stripe.provider.withdraw(reference)


async def test_a_recorded_message_is_not_believed_later(stripe: StripeHarness) -> None:
    wanted = order()
    reference = (await stripe.provider.charge(wanted)).reference
    message = stripe.message(wanted.payment_id, reference, "succeeded")
    stripe.clock.advance(301)
    with pytest.raises(BadSignature, match="too long ago"):
        read(stripe, message)


async def test_a_declined_card_leaves_the_payment_pending_and_refunds_may_fail(stripe: StripeHarness) -> None:
    wanted = order()
    reference = (await stripe.provider.charge(wanted)).reference
    intent = {**stripe.standin.intents[reference], "last_payment_error": {"code": "card_declined"}}
    refund = {"currency": "eur", "amount": 777, "status": "failed", "failure_reason": "lost_or_stolen_card"}
    for type_, thing, status, why in (
        ("payment_intent.payment_failed", intent, PaymentStatus.PENDING, "card_declined"),
        ("refund.failed", {**intent, **refund}, PaymentStatus.FAILED, "lost_or_stolen_card"),
    ):
        body = stripe.standin.event(type_, thing)
        update = stripe.provider.read_message(
            stripe.standin.signed(body, stripe.clock.now_ms() // 1000), body, by_finance=False
        )
        assert update is not None
        assert (update.status, update.error, update.payment_id) == (status, why, wanted.payment_id)


@pytest.mark.parametrize(
    ("type_", "thing"),
    [
        ("customer.created", {"object": "customer"}),
        ("payment_intent.succeeded", {"currency": "eur", "metadata": {}}),
        ("payment_intent.succeeded", {"currency": "eur", "metadata": {"payment_id": "of somebody else"}}),
    ],
)
async def test_what_is_not_ours_is_ignored(stripe: StripeHarness, type_: str, thing: dict[str, Any]) -> None:
    body = stripe.standin.event(type_, thing)
    headers = stripe.standin.signed(body, stripe.clock.now_ms() // 1000)
    assert stripe.provider.read_message(headers, body, by_finance=False) is None


@given(st.integers(1, 10**12), st.sampled_from(["EUR", "JPY", "KWD", "ISK", "UGX", "MGA", "CLF", "XOF", "HUF"]))
def test_an_amount_is_stripe_s_exactly_or_is_refused(amount_minor: int, currency: str) -> None:
    try:
        theirs = to_stripe(amount_minor, currency)
    except ProviderFailed:
        assert currency in ("KWD", "CLF", "MGA")
        return
    assert from_stripe(theirs, currency) == amount_minor
