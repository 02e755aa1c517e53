"""Readings that are not merged into windows yet: buffered in the state, as durable as if merged, and not for long."""

from collections import Counter

import msgspec
import psycopg
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.step import BUFFERED_MS_MAX, BUFFERED_ROWS_MAX
from streams.state.encoding import load_state, snapshot, take_patch
from streams.state.partition import PartitionState
from streams.worker.compute import compute_effects
from streams.worker.processor import PartitionProcessor, WorkerContext
from tests.proof.telemetry_invariants import windows_follow_from_readings
from tests.streams.frames_and_effects import charging, frame_of
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.reference import Reading
from tests.streams.test_step_laws import BASE_MS, PARAMS, blank_readings, frames_of, streams


def contents(store: MemoryStore, state: PartitionState) -> Counter[tuple[int, int]]:
    """How many readings of each (connector_key, minute) are in windows or buffered."""
    counted = Counter({place: row["readings"] for place, row in store.windows.items()})
    buffered = state.window_buffer.columns()
    minutes = buffered["ts_ms"] // 60_000 * 60_000
    return counted + Counter(zip(state.connector_key[buffered["slot"]].tolist(), minutes.tolist(), strict=True))


@given(streams(), st.lists(st.integers(0, 99), max_size=8))
def test_every_stored_reading_is_in_its_window_or_buffered(arrived: list[Reading], cuts: list[int]) -> None:
    store, state, bodies = MemoryStore(), PartitionState(0), []
    for frame in frames_of(arrived, cuts):
        store.apply(compute_effects(state, [frame], frame[0].received_ms, AsStoreQueries(store), PARAMS))
        bodies.append(take_patch(state))
        stored = Counter((row["connector_key"], row["ts_ms"] // 60_000 * 60_000) for row in store.readings)
        successor = load_state(0, bodies)
        keys = store.register_connectors(0, successor.connector_index.connectors())
        successor.connector_key[: successor.slots] = keys
        assert contents(store, state) == contents(store, successor) == stored


def test_what_flushes_add_is_merged_together_after_a_while_and_at_once_when_nothing_comes() -> None:
    store, state = MemoryStore(), PartitionState(0)
    moments = (0, 100, BUFFERED_MS_MAX - 1, BUFFERED_MS_MAX, BUFFERED_MS_MAX + 100)
    arrived = blank_readings({"ts_ms": BASE_MS, "received_ms": BASE_MS + at_ms, "seq": at_ms} for at_ms in moments)
    merged = []
    for frame in [*([one] for one in frames_of(arrived, [])), []]:
        now_ms = frame[0][0].received_ms if frame else BASE_MS + BUFFERED_MS_MAX + 101
        effects = compute_effects(state, frame, now_ms, AsStoreQueries(store), PARAMS)
        merged.append(effects.windows["readings"].tolist())
    assert merged == [[1], [], [], [3], [], [1]]
    assert state.next_due_ms(PARAMS) != 0


def test_no_more_is_buffered_than_the_bound() -> None:
    store, state, rows = MemoryStore(), PartitionState(0), BUFFERED_ROWS_MAX // 4
    arrived = blank_readings({"ts_ms": BASE_MS + n // 10, "received_ms": BASE_MS, "seq": n} for n in range(rows * 6))
    frames = frames_of(arrived, [rows * n for n in range(1, 6)])
    buffered = []
    for frame in frames:
        compute_effects(state, [frame], BASE_MS, AsStoreQueries(store), PARAMS)
        buffered.append(state.window_buffer.rows // rows)
    assert buffered == [0, 1, 2, 3, 0, 1]


def test_a_window_is_emitted_with_all_of_its_readings() -> None:
    """Its end passes while readings of it are buffered."""
    store, state = MemoryStore(), PartitionState(0)
    end_ms = BASE_MS + 60_000
    event_ms = (end_ms - 5, end_ms - 3, end_ms + PARAMS.lateness_ms)
    arrived = blank_readings({"ts_ms": at_ms, "received_ms": end_ms, "seq": at_ms - BASE_MS} for at_ms in event_ms)
    emitted = []
    for frame in frames_of(arrived, [1, 2]):
        effects = compute_effects(state, [frame], end_ms, AsStoreQueries(store), PARAMS)
        store.apply(effects)
        if len(effects.emit["bucket_ms"]):
            emitted.append([row["readings"] for row in store.windows.values() if row["bucket_ms"] == BASE_MS])
    assert emitted == [[2]]


def test_a_state_from_before_windows_were_buffered_is_read() -> None:
    store, state = MemoryStore(), PartitionState(0)
    arrived = blank_readings({"ts_ms": BASE_MS + n, "received_ms": BASE_MS, "seq": n} for n in range(3))
    compute_effects(state, frames_of(arrived, []), BASE_MS, AsStoreQueries(store), PARAMS)
    older = msgspec.msgpack.decode(zstandard.decompress(snapshot(state)))
    for name in ("stations", "held", "held_emptied"):
        del older[name]
    body = zstandard.compress(msgspec.msgpack.encode(older | {"version": 3}))
    read = load_state(0, [body])
    assert (read.window_buffer.rows, read.pending.tolist()) == (0, state.pending.tolist())
    assert read.station_newest_ms.tolist() == state.station_newest_ms.tolist()


@pytest.mark.parametrize("flushes", [1, 4])
async def test_what_a_dead_worker_had_buffered_its_successor_merges_once(
    worker: WorkerContext, telemetry_url: str, flushes: int
) -> None:
    dead = PartitionProcessor(0, worker)
    await dead.acquire()
    for number in range(flushes):
        dead.offer(number, frame_of(0, number, charging("A", number, rows=1)))
        await dead.flush()
    successor = PartitionProcessor(0, worker)
    await successor.acquire()
    assert successor.has_unwritten_rows == (flushes > 1)
    await successor.flush()
    await successor.flush()
    assert not successor.has_unwritten_rows
    with psycopg.connect(telemetry_url) as connection:
        ledger = connection.execute("SELECT stored, in_windows FROM telemetry.ledger WHERE partition = 0").fetchone()
        assert ledger == (flushes, flushes)
        assert windows_follow_from_readings(connection) == []
