"""What billing derives from stored readings is the same before and after these are moved to the lake."""

import asyncio
import random
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from billing.invoices.store import InvoiceStore
from billing.readings_source import StoredReadings
from billing.readings_store import ReadingsStore
from billing.reconcile import Finding, Reconciler, Report
from kit.errors import Unavailable
from kit.lake.folder import LakeFolder
from kit.lake.reader import LakeReader
from streams.storage.connections import Connections, open_writer
from streams.storage.lake_move import LakeMover
from tests.billing.making import START
from tests.billing.running import RunningBilling, open_running
from tests.billing.serving import INVOICES, Service, served
from tests.billing.sessions import completed, readings

_SESSIONS = 24


def move(url: str, folder: Path) -> int:
    """Move all that is older than a week, a month after the sessions; how many readings."""
    connections = Connections(partial(open_writer, url), 1)
    try:
        weeks = LakeMover(connections, LakeFolder.at(str(folder))).move(START + timedelta(days=40), 7)
        return sum(week.rows for week in weeks)
    finally:
        connections.close()


def plain(stored: StoredReadings) -> Any:
    return sorted(map(repr, zip(stored.readings, stored.flags, strict=True))), stored.before


async def reconciled(billing: RunningBilling, lake: LakeReader) -> Report:
    reconciler = Reconciler(InvoiceStore(billing.database), ReadingsStore(billing.database, lake))
    return await reconciler.run(START - timedelta(days=1), START + timedelta(days=30), lambda done, expected: None)


async def explained(service: Service) -> list[Any]:
    return [await service.get(f"{INVOICES}/{one['id']}/explain") for one in service.billing.documents()]


async def test_explain_reconcile_and_rating_are_the_same_before_and_after_a_move(
    billing_url: str, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    lake = LakeReader.at(str(tmp_path))
    async with open_running(billing_url, lake_url=str(tmp_path)) as billing, served(billing) as service:
        stored = [readings(rng, START + timedelta(hours=9 * number)) for number in range(_SESSIONS)]
        events = [completed(billing.telemetry, one) for one in stored]
        await billing.deliver_at_once(events)
        source = ReadingsStore(billing.database, lake, at_once=100)
        before = await reconciled(billing, lake), await explained(service)
        derived = {one.id: plain(one.readings) async for one in source.sessions([e.id for e in events]) if one.readings}
        moved = await asyncio.to_thread(move, billing_url, tmp_path)
        assert moved > sum(len(one.readings) for one in stored) / 2
        assert (await reconciled(billing, lake), await explained(service)) == before
        assert before[0].outcomes == {Finding.AGREES: _SESSIONS}
        again = {one.id: plain(one.readings) async for one in source.sessions([e.id for e in events]) if one.readings}
        assert again == derived
        assert len(derived) == _SESSIONS


async def test_a_charge_is_rated_again_from_readings_in_the_lake(billing_url: str, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with open_running(billing_url, lake_url=str(tmp_path)) as billing:
        stored = [readings(rng, START + timedelta(hours=9 * number)) for number in range(_SESSIONS)]
        events = [completed(billing.telemetry, one) for one in stored]
        await asyncio.to_thread(move, billing_url, tmp_path)
        assert billing.telemetry.readings(events[0].id) == 0
        await billing.deliver_at_once(events)  # the check before an invoice rates each of them
        assert len(billing.documents()) == _SESSIONS
        assert billing.metric("billing_drift_total") == 0


async def test_without_the_lake_nothing_is_taken_for_missing(billing_url: str, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with open_running(billing_url) as billing:
        stored = [readings(rng, START + timedelta(hours=9 * number)) for number in range(_SESSIONS)]
        events = [completed(billing.telemetry, one) for one in stored]
        await asyncio.to_thread(move, billing_url, tmp_path)
        with pytest.raises(Unavailable, match="VOLTSTREAM_LAKE_URL"):
            await ReadingsStore(billing.database).readings(events[0].id)
        (tmp_path / "reading").rename(tmp_path / "away")
        with pytest.raises(Unavailable, match="the lake cannot read"):
            await ReadingsStore(billing.database, LakeReader.at(str(tmp_path))).readings(events[0].id)
