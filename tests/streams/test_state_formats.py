"""States that earlier versions wrote are read."""

import msgspec
import numpy as np
import zstandard

from schemas.reading import Status
from schemas.session import HoldReason
from streams.kernels.runs import NULL
from streams.state.encoding import load_state, snapshot
from streams.state.partition import PartitionState
from streams.worker.compute import compute_effects
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.test_register_awaited import LATE_REGISTER, frames_at_once, one_by_one
from tests.streams.test_step_laws import BASE_MS, PARAMS, blank_readings, frames_of


def test_a_state_from_when_there_were_seven_reasons_to_hold_a_session_is_read() -> None:
    """And one that is written now has room for all of them."""
    store, state = MemoryStore(), PartitionState(0)
    arrived = blank_readings(
        {"ts_ms": BASE_MS + n, "received_ms": BASE_MS, "seq": n, "station_id": f"S{n}", "status": Status.CHARGING}
        for n in range(3)
    )
    compute_effects(state, frames_of(arrived, []), BASE_MS, AsStoreQueries(store), PARAMS)
    state.hold[:3] = 0, 4, 111
    older = msgspec.msgpack.decode(zstandard.decompress(snapshot(state)))
    columns = older["columns"]
    columns["hold"] = np.frombuffer(columns.pop("hold_reasons"), "<i2").astype(np.int8).tobytes()
    for name in ("begin_ms", "late_mwh", "before_uj", "unsure_uj", "past_on_time"):
        columns.pop(name, None)
    read = load_state(0, [zstandard.compress(msgspec.msgpack.encode(older | {"version": 5}))])
    assert read.hold[:3].tolist() == [0, 4, 111]
    assert read.open_key[:3].tolist() == state.open_key[:3].tolist()
    assert (read.energy.begin_ms[:3].tolist(), read.past_on_time[:3].tolist()) == ([NULL] * 3, [0] * 3)
    state.hold[:3] = sum(HoldReason)
    assert load_state(0, [snapshot(state)]).hold[:3].tolist() == [sum(HoldReason)] * 3


def test_a_session_that_waits_for_a_register_in_a_state_without_its_base_is_judged_by_it() -> None:
    frames = frames_at_once(one_by_one(*LATE_REGISTER))[:4]
    store, state = MemoryStore(), PartitionState(0)
    for frame in frames[:3]:
        store.apply(compute_effects(state, [frame], BASE_MS, AsStoreQueries(store), PARAMS))
    older = msgspec.msgpack.decode(zstandard.decompress(snapshot(state)))
    columns = older["columns"]
    base_mwh = np.frombuffer(columns.pop("awaited_base_mwh"), "<i8")
    for name in ("awaited_base_ms", "awaited_power_max_mw"):
        del columns[name]
    columns["awaited_mwh"], columns["awaited_since_ms"] = (base_mwh - 999).tobytes(), np.array([BASE_MS]).tobytes()
    read = load_state(0, [zstandard.compress(msgspec.msgpack.encode(older))])
    read.connector_key[:1] = state.connector_key[:1]
    store.apply(compute_effects(read, frames[3:], BASE_MS, AsStoreQueries(store), PARAMS))
    assert [row["hold"] for row in store.sessions.values()] == [HoldReason.REGISTER_MISSING, 0]
