"""The store's answers to a step's queries, compared with a look at all rows."""

import numpy as np
import psycopg
import pytest

from schemas.quality import Quality
from schemas.session import EndReason
from streams.effects import NULL_I64, READING_COLUMNS, REVISED_COLUMNS
from streams.engine.store_queries import TIMELINE_COLUMNS, StoredTimelines
from streams.errors import Fenced
from streams.storage.commit import commit
from streams.storage.connections import open_writer
from streams.storage.store import Store
from streams.storage.tables import READING
from tests.streams.frames_and_effects import T0_MS, effects_of, flush_of, random_readings, sessions
from tests.streams.memory_store import MemoryStore


def test_acquiring_again_is_for_the_present_owner_only(store: Store) -> None:
    first = store.acquire(2)
    again = store.acquire(2, first.epoch)
    assert again.epoch > first.epoch
    with pytest.raises(Fenced):
        store.acquire(2, first.epoch)
    assert store.acquire(2).epoch > again.epoch


def test_a_database_that_went_back_hands_out_no_epoch_again(store: Store, telemetry_url: str) -> None:
    """A standby takes over that lacks the last assignment: who has it may go on, and must commit nothing."""
    before = store.acquire(2).epoch
    lost = store.acquire(2)
    with psycopg.connect(telemetry_url) as connection:
        connection.execute("UPDATE telemetry.stream_offset SET epoch = %s WHERE partition = 2", (before,))
    assert store.acquire(2).epoch > lost.epoch


def test_an_owner_that_hangs_within_its_commit_is_ended_by_its_successor(store: Store, telemetry_url: str) -> None:
    first = store.acquire(1)
    hanging = open_writer(telemetry_url)
    try:
        hanging.execute("BEGIN")
        hanging.execute("UPDATE telemetry.stream_offset SET next = 7 WHERE partition = 1")
        # No time-out of the server's covers a client that stops in the middle of a COPY.
        hanging.pgconn.exec_(READING.copy_into(READING.name))
        successor = Store(store.connections, holder_s_max=0.1).acquire(1)
        assert (successor.epoch > first.epoch, successor.next) == (True, first.next)
        with pytest.raises(psycopg.OperationalError):
            hanging.execute("COMMIT")
    finally:
        hanging.close()


def test_a_connector_has_one_key_for_ever(store: Store) -> None:
    asked = [("A", 1), ("B", 1), ("A", 2)]
    first = store.register_connectors(0, asked)
    assert len(set(first)) == 3
    assert store.register_connectors(0, [("C", 1), *reversed(asked)])[1:] == first[::-1]


@pytest.mark.parametrize("connectors", [2, 40])
def test_identities_are_those_of_a_look_at_all_rows(store: Store, seed: int, connectors: int) -> None:
    rng = np.random.default_rng(seed)
    keys = store.register_connectors(0, [(f"S{n}", 1) for n in range(connectors)])
    readings = random_readings(rng, keys, 3_000, span_ms=5 * 86_400_000)
    readings["seq"] = np.where(rng.random(3_000) < 0.3, NULL_I64, rng.integers(0, 500, 3_000))
    commit(store, flush_of(store.acquire(0), effects_of(readings)))
    stored = list(zip(*(readings[c].tolist() for c in ("connector_key", "boot", "seq", "ts_ms", "payload_hash")),
                      strict=True))  # fmt: skip
    picked = [stored[at] for at in rng.choice(3_000, 200)]
    asked = [(k, b, s, t) for k, b, s, t, _ in picked[:100]]
    asked += [(k, b, s + 1_000 if s != NULL_I64 else s, t + 7) for k, b, s, t, _ in picked[100:]]
    columns = [np.array(column, np.int64) for column in zip(*asked, strict=True)]
    answer = store.identities(columns[0].astype(np.int32), *columns[1:])
    found = set(zip(*(column.tolist() for column in answer), strict=True))
    by_ts = {(k, t) for k, b, s, t in asked if NULL_I64 in (b, s)}
    by_seq = {(k, b, s): t for k, b, s, t in asked if NULL_I64 not in (b, s)}
    must = {r for r in stored if (r[0], r[3]) in by_ts or by_seq.get(r[:3]) == r[3]}
    may = {r for r in stored if (r[0], r[3]) in by_ts or r[:3] in by_seq}
    assert must
    assert must <= found <= may


def test_no_question_has_no_answer(store: Store) -> None:
    none = np.empty(0, np.int64)
    assert all(len(column) == 0 for column in store.identities(none.astype(np.int32), none, none, none))
    found = store.timelines([], [])
    assert (found.sessions, found.extra) == ([], [])
    assert {name: column.dtype for name, column in found.readings.items()} == {
        name: READING_COLUMNS[name] for name in TIMELINE_COLUMNS
    }
    assert store.rated_powers([("A", 1), ("B", 1)]) == [0, 0], "no registry to ask"


def test_timelines_are_those_of_a_look_at_all_rows(store: Store, seed: int) -> None:
    """The store in memory, of which the laws of the step are shown, answers the same."""
    rng = np.random.default_rng(seed)
    keys = store.register_connectors(0, [("A", 1), ("B", 1), ("C", 1)])
    other = MemoryStore()
    assert other.register_connectors(0, [("A", 1), ("B", 1), ("C", 1)]) == keys
    readings = random_readings(rng, keys, 500, span_ms=3_600_000)
    session_keys = list(range(1, 30))
    rows = sessions(session_keys, keys[0])
    rows["connector_key"] = rng.choice(keys[:2], len(session_keys)).astype(np.int32)
    started_ms = T0_MS + rng.integers(0, 60, len(session_keys)) * 60_000
    rows["started_ms"], rows["last_ms"] = started_ms, started_ms + rng.integers(0, 600_000, len(session_keys))
    rows["end_reason"] = rng.choice(list(EndReason), len(session_keys)).astype(np.int16)
    for name in ("hold", "revision", "explicit", "export_mwh", "power_max_mw"):
        rows[name] = rng.integers(0, 99, len(session_keys)).astype(rows[name].dtype)
    extra = [[b"", b'{"session_id":"tx"}'][n] for n in rng.integers(0, 2, 500)]
    names = [[None, "tx", "L\u00e4nge"][n] for n in rng.integers(0, 3, len(session_keys))]
    effects = effects_of(readings, sessions=rows, session_ids=names, extra=extra)
    commit(store, flush_of(store.acquire(0), effects))
    other.apply(effects)
    for moments in ([T0_MS + 1_800_000] * 3, [T0_MS - 1, T0_MS + 60_000, T0_MS]):
        found, expected = store.timelines(keys, moments), other.timelines(keys, moments)
        assert found.sessions == expected.sessions
        assert _rows(found) == _rows(expected)
        assert {name: column.dtype for name, column in found.readings.items()} == {
            name: READING_COLUMNS[name] for name in TIMELINE_COLUMNS
        }


def _rows(found: StoredTimelines) -> list[str]:
    return sorted(map(repr, zip(*(column.tolist() for column in found.readings.values()), found.extra, strict=True)))


def test_revised_readings_are_found_by_their_identity_and_windows_measured_again(
    store: Store, telemetry_url: str, seed: int
) -> None:
    """As the store in memory has them; readings of other connectors and moments stay as they were."""
    rng = np.random.default_rng(seed)
    keys = store.register_connectors(0, [("A", 1), ("B", 1)])
    other = MemoryStore()
    other.register_connectors(0, [("A", 1), ("B", 1)])
    readings = random_readings(rng, keys, 300)
    readings["seq"] = np.where(rng.random(300) < 0.3, NULL_I64, readings["seq"])
    readings["part"] = (np.arange(300) % 100).astype(np.int16)
    acquired, first = store.acquire(0), effects_of(readings)
    chosen = np.sort(rng.choice(300, 120, replace=False))
    revised = {name: readings[name][chosen] for name in REVISED_COLUMNS}
    for name in ("in_session_mwh", "outside_mwh", "rejected_mwh"):
        revised[name] = rng.integers(-9, 9, 120)
    revised["flags"] = rng.choice([0, int(Quality.METER_ROLLBACK)], 120).astype(np.int16)
    revised["session_key"] = rng.choice([NULL_I64, 7], 120)
    windows = {"connector_key": readings["connector_key"].astype(np.int64),
               "bucket_ms": readings["ts_ms"] // 60_000 * 60_000}  # fmt: skip
    none = random_readings(rng, keys, 0)
    extra = [[b"", b'{"a":1}'][n] for n in rng.integers(0, 2, 120)]
    second = effects_of(none, revised=revised, revised_extra=extra, remeasured=windows)
    for number, effects in enumerate((first, second), 1):
        commit(store, flush_of(acquired, effects, number=number))
        other.apply(effects)
    found, expected = (one.timelines(keys, [T0_MS, T0_MS]) for one in (store, other))
    assert _rows(found) == _rows(expected)
    names = ("energy_n", "energy_first_mwh", "energy_last_mwh")
    with psycopg.connect(telemetry_url) as connection:
        rows = connection.execute(f"SELECT {', '.join(names)} FROM telemetry.window_1m".encode()).fetchall()
    wanted = [tuple(None if row[n] == NULL_I64 else row[n] for n in names) for row in other.windows.values()]
    assert sorted(map(repr, rows)) == sorted(map(repr, wanted))
