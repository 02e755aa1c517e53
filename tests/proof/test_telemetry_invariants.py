"""The invariants of stored telemetry hold after disorder and repetition, and find what contradicts them."""

import asyncio
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from api.telemetry.store import TelemetryStore
from kit.clock import from_ms
from kit.database.postgres import open_database
from schemas.frame import FrameHeader, FrameKind
from schemas.reading import READING_SCHEMA
from streams.effects import StepParams
from streams.state.partition import PartitionState
from streams.storage.commit import Flush, commit
from streams.storage.connections import Connections, open_writer
from streams.storage.events import FlushContext
from streams.storage.schema import prepare
from streams.storage.store import Store
from streams.worker.compute import compute_effects
from tests.private_servers import fresh_database
from tests.proof.load import DeliveryRecord
from tests.proof.recording_chargers import Reading, RecordingCharger
from tests.proof.telemetry_invariants import violations

START_MS = 1_790_035_200_000 - 600_000  # shortly before midnight, so that the readings are of two days
_CONTENT = ("session_id", "ts_ms", "energy_mwh", "power_mw", "voltage_mv", "current_ma", "temperature_mc", "soc_mpct",
            "energy_export_mwh", "status", "session_event")  # fmt: skip
_READINGS, _FLUSHES = 150, 6


@pytest.fixture
def telemetry_url(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        prepare(url, 1)
        yield url


def row(reading: Reading) -> dict[str, Any]:
    station_id, connector_id, boot, seq = reading.identity
    place = {"station_id": station_id, "connector_id": connector_id, "boot": boot, "seq": seq}
    return dict.fromkeys(READING_SCHEMA.names) | place | dict(zip(_CONTENT, reading.content, strict=True))


def store_all(url: str, arrived: list[Reading]) -> None:
    """By the stream's own step and commit, in several flushes, and some without readings for what waits."""
    store = Store(Connections(partial(open_writer, url), 2))
    newest_ms = max(int(reading.content[1] or 0) for reading in arrived) + 5
    parts = [arrived[n::_FLUSHES] for n in range(_FLUSHES)]
    random.Random(1).shuffle(parts)
    try:
        acquired, state, total = store.acquire(0), PartitionState(0), 0
        for number, part in enumerate([*parts, [], [], []]):
            total += len(part)
            batch = pa.RecordBatch.from_pylist([row(reading) for reading in part], READING_SCHEMA)
            header = FrameHeader(FrameKind.READINGS, 0, "source", number, len(part), total, newest_ms)
            effects = compute_effects(state, [(header, batch)] if part else [], newest_ms, store, StepParams())
            flush = Flush(
                0, acquired.epoch, acquired.commits + number + 1, min(number, _FLUSHES), min(number + 1, _FLUSHES),
                effects, b"", number == 0, FlushContext(newest_ms, ""),
            )  # fmt: skip
            commit(store, flush)
    finally:
        store.connections.close()


def test_they_hold_after_disorder_and_repetition_and_find_what_contradicts_them(telemetry_url: str, seed: int) -> None:
    rng = random.Random(seed)
    chargers = [RecordingCharger(f"P-{n}", 1, START_MS, rng) for n in range(8)]
    readings = [charger.next() for charger in chargers for _ in range(_READINGS)]
    arrived = sorted(readings, key=lambda one: int(one.content[1] or 0) + rng.choice([0, 0, 0, 20_000, 400_000]))
    arrived += rng.sample(readings, 50)
    record = DeliveryRecord()
    record.attempted = {one.identity: one.content for one in readings}
    record.acknowledged, record.items = set(record.attempted), len(arrived)
    store_all(telemetry_url, arrived)

    with psycopg.connect(telemetry_url, autocommit=True) as connection:
        connection.execute("DELETE FROM telemetry.outbox")
        assert violations(telemetry_url, record, None) == []
        for change, words in CONTRADICTIONS.items():
            with psycopg.connect(telemetry_url) as changed:
                changed.execute(change.encode())
                changed.commit()
            assert any(words in line for line in violations(telemetry_url, record, None)), change


async def test_the_probe_of_the_ledger_of_energy_finds_nothing_after_disorder(telemetry_url: str, seed: int) -> None:
    """Whatever the meters did, over any minutes: an alert on any would be a false one."""
    rng = random.Random(seed)
    chargers = [RecordingCharger(f"P-{n}", 1, START_MS, rng) for n in range(8)]
    readings = [charger.next() for charger in chargers for _ in range(_READINGS)]
    arrived = sorted(readings, key=lambda one: int(one.content[1] or 0) + rng.choice([0, 0, 0, 20_000, 400_000]))
    await asyncio.to_thread(store_all, telemetry_url, arrived + rng.sample(readings, 50))
    database = await open_database(telemetry_url, name="probe")
    try:
        store = TelemetryStore(database)
        connectors, known = await store.connectors_after(0, 100), 0
        times = [int(one.content[1] or 0) for one in readings]
        minutes = range(min(times) // 60_000, max(times) // 60_000 + 2)
        for first, last in ((first, last) for first in minutes for last in minutes if first < last):
            balances = await store.energy_balances(connectors, from_ms(first * 60_000), from_ms(last * 60_000))
            assert [one for one in balances if not one.closes] == []
            known += sum(bool(one.rise_mwh) for one in balances)
    finally:
        await database.close()
    assert known


RISEN = "UPDATE telemetry.window_1m SET in_session_mwh_sum = in_session_mwh_sum + 1 WHERE in_session_mwh_sum > 0"
MOVED = "UPDATE telemetry.window_1m SET in_session_mwh_sum = 0, outside_mwh_sum = outside_mwh_sum + in_session_mwh_sum"
LATER = "UPDATE telemetry.window_1m SET bucket = bucket + interval '1 day' WHERE in_session_mwh_sum > 0"
CONTRADICTIONS = {
    "UPDATE telemetry.window_1m SET outside_mwh_sum = outside_mwh_sum + 1": "windows (stored and recomputed)",
    "UPDATE telemetry.session SET power_max_mw = 1": "sessions (key, stored",
    "UPDATE telemetry.session SET export_mwh = export_mwh + 1": "sessions (key, stored",
    RISEN: "connectors whose meter rose otherwise",
    MOVED: "connectors and days whose ledger of energy",
    LATER: "connectors and days whose ledger of energy",
    "UPDATE telemetry.status_interval SET status = 8 WHERE place = 0": "status intervals (stored",
    "UPDATE telemetry.reading SET named = 0": "stored otherwise than sent",
}
