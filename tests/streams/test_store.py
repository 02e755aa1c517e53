"""The store's answers to a step's queries, compared with a look at all rows."""

import numpy as np
import psycopg
import pytest

from streams.effects import NULL_I64
from streams.errors import Fenced
from streams.storage.commit import commit
from streams.storage.connections import open_writer
from streams.storage.store import Store
from streams.storage.tables import READING
from tests.streams.frames_and_effects import T0_MS, effects_of, flush_of, random_readings, sessions


def test_acquiring_again_is_for_the_present_owner_only(store: Store) -> None:
    first = store.acquire(2)
    again = store.acquire(2, first.epoch)
    assert again.epoch == first.epoch + 1
    with pytest.raises(Fenced):
        store.acquire(2, first.epoch)
    assert store.acquire(2).epoch == again.epoch + 1


def test_an_owner_that_hangs_within_its_commit_is_ended_by_its_successor(store: Store, telemetry_url: str) -> None:
    first = store.acquire(1)
    hanging = open_writer(telemetry_url)
    try:
        hanging.execute("BEGIN")
        hanging.execute("UPDATE telemetry.stream_offset SET next = 7 WHERE partition = 1")
        # No time-out of the server's covers a client that stops in the middle of a COPY.
        hanging.pgconn.exec_(READING.copy_into(READING.name))
        successor = Store(store.connections, holder_s_max=0.1).acquire(1)
        assert (successor.epoch, successor.next) == (first.epoch + 1, first.next)
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
    assert store.sessions([], []) == []
    assert len(store.session_readings([5])["ts_ms"]) == 0


def test_the_newest_session_of_a_name_is_found(store: Store) -> None:
    (key, other) = store.register_connectors(0, [("A", 1), ("B", 1)])
    old = sessions([1], key, started_ms=T0_MS, ended_ms=T0_MS + 9, end_reason=2, revision=3)
    new = sessions([2], key, started_ms=T0_MS + 10)
    acquired = store.acquire(0)
    none = random_readings(np.random.default_rng(0), [key], 0)
    for number, rows in enumerate((old, new), 1):
        commit(store, flush_of(acquired, effects_of(none, sessions=rows, session_ids=["tx"]), number=number))
    (found, missing, elsewhere) = store.sessions([key, key, other], ["tx", "ty", "tx"])
    assert (missing, elsewhere) == (None, None)
    assert found is not None
    assert (found.session_key, found.started_ms, found.ended_ms) == (2, T0_MS + 10, NULL_I64)


def test_all_readings_of_a_session_are_found_also_those_newer_than_its_row(store: Store, seed: int) -> None:
    (key, other) = store.register_connectors(0, [("A", 1), ("B", 1)])
    readings = random_readings(np.random.default_rng(seed), [key, other], 500, span_ms=3_600_000)
    readings["session_key"] = np.where(readings["connector_key"] == key, 7, NULL_I64)
    rows = sessions([7], key, started_ms=T0_MS + 60_000, last_ms=T0_MS + 61_000)
    commit(store, flush_of(store.acquire(0), effects_of(readings, sessions=rows, session_ids=["tx"])))
    found = store.session_readings([7, 8])
    mine = readings["session_key"] == 7
    assert {name: column.dtype for name, column in found.items()} == {n: readings[n].dtype for n in found}
    for name in ("ts_ms", "boot", "seq", "energy_mwh", "power_mw", "session_event", "flags"):
        assert sorted(found[name].tolist()) == sorted(readings[name][mine].tolist())
