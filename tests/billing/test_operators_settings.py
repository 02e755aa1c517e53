"""Settings that operators change while billing runs: a pause loses nothing and doubles nothing, a time settles anew."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.config.values import ConfigSnapshot
from tests.billing.making import assigned, reservation, session
from tests.billing.running import RunningBilling
from tests.waiting import eventually


def put(billing: RunningBilling, **values: object) -> None:
    """As if the config service had these settings of billing, and no other."""
    documents = {f"billing.{name}": {"value": value, "version": 1} for name, value in values.items()}
    billing.config.apply_snapshot(ConfigSnapshot(billing.config.snapshot.revision + 1, documents))


async def test_what_comes_in_a_pause_waits_and_is_invoiced_once_after_it(billing: RunningBilling) -> None:
    before, later = session(), [session() for _ in range(5)]
    await billing.deliver(before)
    put(billing, paused=True)
    waiting = asyncio.create_task(
        billing.deliver_at_once([*later, *later, *(assigned(one.id, "ann") for one in later), reservation("R-1")])
    )
    await eventually(lambda: billing.bus._queues["billing_session_completed"].unsettled == 2 * len(later))
    assert [document["subject_id"] for document in billing.documents()] == [before.id]
    assert not waiting.done(), "whoever published them keeps them until they are handled"
    put(billing, paused=False)
    await waiting
    assert len(billing.documents()) == 1 + len(later) + 1
    for one in later:
        assert len(billing.documents(one.id)) == 1


async def test_pauses_at_any_moments_change_no_document(billing: RunningBilling) -> None:
    loop = asyncio.get_running_loop()

    async def deliver(pauses: list[bool]) -> None:
        done = [session() for _ in range(4)]
        deliveries = [asyncio.create_task(billing.deliver(one)) for one in done]
        for paused in [*pauses, False]:
            put(billing, paused=paused)
            await asyncio.sleep(0)
        await asyncio.gather(*deliveries)
        assert [len(billing.documents(one.id)) for one in done] == [1] * len(done)

    @settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.booleans(), max_size=12))
    def paused(pauses: list[bool]) -> None:
        asyncio.run_coroutine_threadsafe(deliver(pauses), loop).result()

    await asyncio.to_thread(paused)


async def test_a_charge_settles_as_long_as_the_setting_says_when_it_comes(billing: RunningBilling) -> None:
    first, second = session(), session()
    put(billing, settle_time=300)
    await billing.deliver(first)
    put(billing, settle_time=30)
    await billing.deliver(second)
    billing.clock.advance(30)
    await billing.components.poster.invoice_due()
    assert [document["subject_id"] for document in billing.documents()] == [second.id]
    billing.clock.advance(270)
    await billing.components.poster.invoice_due()
    assert {document["subject_id"] for document in billing.documents()} == {first.id, second.id}
