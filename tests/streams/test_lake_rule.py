"""The rule of what may be moved to the lake: what no later step can tell from readings that are still there."""

import copy
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from hypothesis import assume, event, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.reading import SessionEvent, Status
from schemas.session import EndReason
from streams.effects import StepParams
from streams.engine.refusals import TOO_OLD
from streams.engine.store_queries import StoredIdentity
from streams.kernels.windows import WINDOW_MS
from streams.state.encoding import load_state, snapshot
from streams.state.partition import PartitionState
from streams.storage.store import IDENTITY_TS_SLACK_MS
from streams.worker.compute import compute_effects
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.reference import Reading
from tests.streams.test_step_laws import BASE_MS, blank_readings, frames_of, optional

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
END_MS = BASE_MS // DAY_MS * DAY_MS + 5 * DAY_MS  # of what is moved
BORDER_MS = END_MS + DAY_MS
PARAMS = StepParams(lateness_ms=5_000, session_timeout_ms=600_000, power_max_mw=400_000_000)

timed = st.fixed_dictionaries(
    {
        "station_id": st.just("A"),
        "connector_id": st.sampled_from([0, 1, 1, 1, 1, 2]),
        "session_id": optional(st.sampled_from(["s1", "s2", "s3", "0"]), 1),
        "boot": st.one_of(st.none(), st.none(), st.integers(1, 2)),
        "seq": optional(st.integers(0, 60), 1),
        "energy_mwh": optional(st.one_of(st.integers(0, 3_000_000), st.integers(0, 10**9)), 2),
        "power_mw": optional(st.integers(0, 50_000_000), 1),
        "status": st.sampled_from([Status.NONE, Status.CHARGING, Status.CHARGING, Status.AVAILABLE]),
        "session_event": st.sampled_from(
            [SessionEvent.NONE, SessionEvent.NONE, SessionEvent.STARTED, SessionEvent.ENDED]
        ),
    }
)
_WITHIN_MS = st.one_of(st.integers(0, 20).map(lambda n: n * 30_000), st.integers(0, 6).map(lambda n: n * HOUR_MS))
before_border = st.tuples(st.integers(0, 5), _WITHIN_MS).map(lambda at: END_MS - 5 * DAY_MS + at[0] * DAY_MS + at[1])
about_border = st.tuples(st.integers(-2, 2), _WITHIN_MS).map(lambda at: BORDER_MS + at[0] * DAY_MS + at[1])


@st.composite
def deliveries(draw: st.DrawFn, moments: st.SearchStrategy[int], received_ms: int) -> list[Reading]:
    arrived = draw(st.lists(st.tuples(timed, moments), min_size=1, max_size=25))
    blank = blank_readings([{}])[0]
    return [blank | one | {"ts_ms": ts_ms, "received_ms": received_ms} for one, ts_ms in arrived]


def some_sessions() -> list[Reading]:
    """Three of connector 1, a day apart, so that something may be moved."""
    energy_mwh = 10**8
    fields = []
    for day in range(3):
        for number, sign in enumerate((SessionEvent.STARTED, SessionEvent.NONE, SessionEvent.ENDED)):
            ts_ms = END_MS - 5 * DAY_MS + day * DAY_MS + 7 * HOUR_MS + number * 60_000
            energy_mwh += 100_000
            fields.append({"ts_ms": ts_ms, "session_event": sign, "energy_mwh": energy_mwh, "session_id": f"d{day}"})
    return [one | {"status": Status.CHARGING, "received_ms": BORDER_MS} for one in blank_readings(fields)]


class BoundedStore(MemoryStore):
    """Looks for a repeated identity within IDENTITY_TS_SLACK_MS, as the database does."""

    def identities(
        self, connector_key: NDArray[Any], boot: NDArray[Any], seq: NDArray[Any], ts_ms: NDArray[Any]
    ) -> StoredIdentity:
        found = super().identities(connector_key, boot, seq, ts_ms)
        near = np.array(
            [
                bool((np.abs(ts_ms[connector_key == key] - at_ms) <= IDENTITY_TS_SLACK_MS).any())
                for key, at_ms in zip(found.connector_key.tolist(), found.ts_ms.tolist(), strict=True)
            ],
            np.bool_,
        )
        return StoredIdentity(
            found.connector_key[near], found.boot[near], found.seq[near], found.ts_ms[near], found.payload_hash[near]
        )


def cuts_of(store: MemoryStore) -> dict[int, int]:
    """Until when the readings of each connector may be moved, by key; of the others nothing may (lake_move._CUT)."""
    cuts = {}
    for key in {session["connector_key"] for session in store.sessions.values()}:
        mine = sorted(
            (row["started_ms"], row["last_ms"], number, row["end_reason"])
            for number, row in store.sessions.items()
            if row["connector_key"] == key and row["end_reason"] != EndReason.WITHDRAWN
        )
        settled = [one for one in mine if one[3] != EndReason.OPEN and one[1] < END_MS - DAY_MS]
        if len(settled) > 1:
            last_ms = min(one[1] for one in mine if one[:3] >= settled[-2][:3])
            cuts[key] = min(END_MS, last_ms // WINDOW_MS * WINDOW_MS)
    return cuts


def without_moved(store: MemoryStore) -> tuple[MemoryStore, list[tuple[dict[str, Any], str | None]]]:
    """The store once the readings that may be moved are, and these."""
    left, cuts = copy.deepcopy(store), cuts_of(store)
    rows = list(zip(store.readings, store.extra, strict=True))
    gone = [row[0]["ts_ms"] < cuts.get(row[0]["connector_key"], -DAY_MS) for row in rows]
    left.readings = [row for (row, _), moved in zip(rows, gone, strict=True) if not moved]
    left.extra = [extra for (_, extra), moved in zip(rows, gone, strict=True) if not moved]
    return left, [row for row, moved in zip(rows, gone, strict=True) if moved]


def all_readings(store: MemoryStore, moved: list[Any]) -> list[str]:
    return sorted(map(repr, [*zip(store.readings, store.extra, strict=True), *moved]))


def contents(store: MemoryStore) -> list[Any]:
    return [store.sessions, store.session_ids, store.windows, store.statuses, sorted(store.refused), store.counts]


@given(
    deliveries(before_border, BORDER_MS),
    st.lists(deliveries(about_border, BORDER_MS + 3 * DAY_MS), max_size=4),
)
def test_later_readings_find_all_they_need_among_those_that_stay(first: list[Reading], later: list[Any]) -> None:
    store, state = BoundedStore(), PartitionState(0)
    first = some_sessions() + first
    store.apply(compute_effects(state, frames_of(first, []), BORDER_MS, AsStoreQueries(store), PARAMS))
    # A step without frames closes by the clock what nobody has closed.
    store.apply(compute_effects(state, [], BORDER_MS + DAY_MS, AsStoreQueries(store), PARAMS))
    left, moved = without_moved(store)
    event(f"moved: {bool(moved)}")
    assume(moved)
    whole, parts = store, left
    body = snapshot(state)
    states = [load_state(0, [body]), load_state(0, [body])]
    for one in states:
        one.connector_key[: one.slots] = store.register_connectors(0, one.connector_index.connectors())
    params = replace(PARAMS, oldest_ms=BORDER_MS)
    for number, delivery in enumerate(later):
        for one, of_store in zip(states, (whole, parts), strict=True):
            frames = [
                (msgspec.structs.replace(header, source=f"later {number}"), batch)
                for header, batch in frames_of(delivery, [])
            ]
            now_ms = delivery[0]["received_ms"]
            of_store.apply(compute_effects(one, frames, now_ms, AsStoreQueries(of_store), params))
        assert contents(parts) == contents(whole)
        assert all_readings(parts, moved) == all_readings(whole, [])
    too_old = sum(reading["ts_ms"] < BORDER_MS for delivery in later for reading in delivery)
    assert sum(reason == TOO_OLD for reason, _ in whole.refused) == too_old
