"""The commit: all or nothing, once, and only by the owner."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np
import psycopg
import pytest

from kit.clock import format_rfc3339
from kit.errors import Unavailable
from schemas.events import Envelope, Event, StationReceived, TelemetryReceived
from streams.effects import NULL_I64, READING_COLUMNS, REVISED_COLUMNS, SourceProgress, StationReadings
from streams.errors import Fenced
from streams.session_ids import session_uuid
from streams.storage.commit import _BODY_SENT_MAX, commit
from streams.storage.connections import Connections, open_writer
from streams.storage.store import Store
from streams.storage.tables import READING, WINDOW
from tests.streams.frames_and_effects import (
    T0_MS,
    columns,
    effects_of,
    flush_of,
    plain,
    random_readings,
    sessions,
    statuses,
    windows_of,
)

_TABLES = ("reading", "window_1m", "session", "quarantine", "ledger", "ledger_source", "stream_offset",
           "partition_state", "outbox", "status_interval", "silence")  # fmt: skip


def contents(url: str) -> dict[str, list[Any]]:
    """Every row of every table that a commit writes, but for when and by which number."""
    with psycopg.connect(url) as connection:
        found = {}
        for table in _TABLES:
            cursor = connection.execute(f"SELECT * FROM telemetry.{table}".encode())
            names = [column.name for column in cursor.description or ()]
            kept = [at for at, name in enumerate(names) if name not in ("id", "updated_at", "created_at")]
            found[table] = sorted(repr([row[at] for at in kept]) for row in cursor)
        return found


def everything(store: Store, seed: int, number: int = 1) -> Any:
    """Effects that touch every table."""
    rng = np.random.default_rng(seed + number)
    keys = store.register_connectors(0, [("A", 1), ("B", 1)])
    readings = random_readings(rng, keys, 200)
    session_keys = [number * 10 + 1, number * 10 + 2]
    revised = {name: readings[name][:20] for name in REVISED_COLUMNS} | {"session_key": np.full(20, session_keys[0])}
    effects = effects_of(
        readings,
        extra=[b'{"error_code":"x"}' if row % 2 else b"" for row in range(200)],
        revised=revised,
        revised_extra=[b"", b'{"session_id":"ty"}'] * 10,
        remeasured={
            "connector_key": readings["connector_key"][:1],
            "bucket_ms": readings["ts_ms"][:1] // 60_000 * 60_000,
        },
        sessions=sessions(session_keys, keys[0], ended_ms=T0_MS + 60_000, end_reason=1, revision=1),
        session_ids=["tx", None],
        started=np.array(session_keys[:1]),
        completed=np.array(session_keys),
        status=statuses(keys, number),
        sources=[SourceProgress("source", 200 * number, 200 * number)],
        quarantined=1,
    )
    effects.emit = {name: effects.windows[name][:3] for name in ("connector_key", "bucket_ms")}
    refused = effects.refused
    for column, value in (("station_id", "A\0"), ("connector_id", None), ("reason", "absurd"), ("detail", "no\0"),
                          ("raw", b"\0raw"), ("received_ms", T0_MS)):  # fmt: skip
        getattr(refused, column).append(value)
    return effects


def at_once(store: Store, seed: int, number: int = 1) -> Any:
    """Effects that are sent in one go: few readings, and nothing to publish."""
    effects = everything(store, seed, number)
    few = {name: column[:100] for name, column in effects.readings.items()}
    nothing = effects.started[:0]
    emit = {name: column[:0] for name, column in effects.emit.items()}
    return replace(
        effects, readings=few, extra=effects.extra[:100], windows=windows_of(few), stored=100, started=nothing,
        completed=nothing, emit=emit,
    )  # fmt: skip


either_way = pytest.mark.parametrize("made", [everything, at_once])


def test_a_commit_moves_everything_at_once(store: Store, telemetry_url: str, seed: int) -> None:
    effects = everything(store, seed)
    hashes = effects.readings["payload_hash"].sum()
    commit(store, flush_of(store.acquire(0), effects, frames=3))
    with psycopg.connect(telemetry_url) as connection:
        for query, wanted in (
            ("SELECT next, commits FROM telemetry.stream_offset WHERE partition = 0", (3, 1)),
            ("SELECT count(*), sum(payload_hash) FROM telemetry.reading", (200, int(hashes))),
            ("SELECT count(*), count(extra) FROM telemetry.reading WHERE session_key = 11", (20, 10)),
            ("SELECT stored, duplicate, quarantined FROM telemetry.ledger WHERE partition = 0", (200, 0, 1)),
            ("SELECT reason, station_id, raw FROM telemetry.quarantine", ("absurd", "A\ufffd", b"\0raw")),
            ("SELECT id, session_id FROM telemetry.session WHERE session_key = 11", (session_uuid(11), "tx")),
            ("SELECT patch, base, body FROM telemetry.partition_state", (1, True, b"body 1")),
        ):
            assert connection.execute(query.encode()).fetchone() == wanted
    again = store.acquire(0)
    assert (again.next, again.commits, again.bodies) == (3, 1, [b"body 1"])


@either_way
def test_a_zombies_commit_changes_nothing(store: Store, telemetry_url: str, seed: int, made: Any) -> None:
    zombie = store.acquire(0)
    store.acquire(0)
    effects = made(store, seed)
    before = contents(telemetry_url)
    with pytest.raises(Fenced):
        commit(store, flush_of(zombie, effects))
    assert contents(telemetry_url) == before


@either_way
def test_a_commit_made_twice_counts_once(store: Store, telemetry_url: str, seed: int, made: Any) -> None:
    flush = flush_of(store.acquire(0), made(store, seed))
    commit(store, flush)
    once = contents(telemetry_url)
    commit(store, flush)
    assert contents(telemetry_url) == once


@either_way
def test_a_tick_made_twice_counts_once(store: Store, telemetry_url: str, seed: int, made: Any) -> None:
    """It moves no offset: only the number of commits tells that it was made."""
    flush = flush_of(store.acquire(0), made(store, seed), frames=0)
    commit(store, flush)
    once = contents(telemetry_url)
    commit(store, flush)
    assert contents(telemetry_url) == once


@either_way
def test_a_commit_out_of_turn_is_fenced(store: Store, seed: int, made: Any) -> None:
    acquired = store.acquire(0)
    with pytest.raises(Fenced):
        commit(store, flush_of(acquired, made(store, seed), number=2))
    commit(store, flush_of(acquired, made(store, seed)))  # by the same connection


@either_way
def test_what_the_database_refuses_leaves_nothing(store: Store, telemetry_url: str, seed: int, made: Any) -> None:
    acquired, effects = store.acquire(0), made(store, seed)
    before = contents(telemetry_url)
    effects.refused.raw[0] = None  # by the last statement
    with pytest.raises(psycopg.IntegrityError):
        commit(store, flush_of(acquired, effects))
    assert contents(telemetry_url) == before
    effects.refused.raw[0] = b""
    commit(store, flush_of(acquired, effects))
    assert len(contents(telemetry_url)["reading"]) == effects.stored


def test_few_readings_are_stored_as_many_are(store: Store, telemetry_url: str, seed: int) -> None:
    """Few are sent as arrays and many are copied."""
    effects = at_once(store, seed)
    acquired = store.acquire(0)
    commit(store, flush_of(acquired, effects))
    once = contents(telemetry_url)["reading"]
    twice = {name: np.concatenate([column] * 2) for name, column in effects.readings.items()}
    with psycopg.connect(telemetry_url) as connection:
        connection.execute("TRUNCATE telemetry.reading")
    many = replace(effects, readings=twice, extra=effects.extra * 2, stored=200, revised_extra=effects.revised_extra)
    commit(store, flush_of(acquired, many, number=2))
    assert contents(telemetry_url)["reading"] == sorted(once * 2)


def test_readings_are_stored_as_they_are_whichever_columns_all_of_them_lack(
    store: Store, telemetry_url: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    keys = store.register_connectors(0, [("A", 1), ("B", 1)])
    acquired = store.acquire(0)
    lacking, wanted = columns(READING_COLUMNS, 40), []
    for number in range(1, 6):
        readings = random_readings(rng, keys, 40)
        readings["seq"] = np.arange(40) + number * 100
        for field in READING.fields[:-1]:  # the last is text
            if (field.nullable or field.default is not None) and field.name != "seq" and rng.random() < 0.5:
                readings[field.source][:] = lacking[field.source] if field.default is None else field.default
        extra = [b"{}" if number == 3 and row == 7 else b"" for row in range(40)]
        commit(store, flush_of(acquired, effects_of(readings, extra=extra), number=number))
        values = [plain(readings[field.source]) for field in READING.fields[:-1]]
        wanted += list(zip(*values, [text.decode() or None for text in extra], strict=True))
    shown = [
        f"(extract(epoch FROM {f.name}) * 1000)::bigint" if f.type == "timestamptz" else f.name for f in READING.fields
    ]
    with psycopg.connect(telemetry_url) as connection:
        found = connection.execute(f"SELECT {', '.join(shown)} FROM telemetry.reading ORDER BY seq".encode()).fetchall()
    assert found == sorted(wanted, key=lambda row: row[4])


def test_windows_merged_in_any_pieces_are_the_windows_of_all(store: Store, telemetry_url: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = store.register_connectors(0, [("A", 1), ("B", 1), ("C", 2)])
    readings = random_readings(rng, keys, 600)
    pieces, lacking = np.array_split(rng.permutation(600), 7), columns(READING_COLUMNS, 1)
    # Windows are merged without what none of them has.
    for name, without in (("energy_export_mwh", pieces[::3]), ("outside_mwh", pieces[1::2]),
                          ("rejected_mwh", pieces[1::3]), ("soc_mpct", pieces[::2]),
                          ("temperature_mc", pieces[2:])):  # fmt: skip
        readings[name][np.concatenate(without)] = lacking[name]
    acquired = store.acquire(0)
    for number, piece in enumerate(pieces, 1):
        part = {name: column[np.sort(piece)] for name, column in readings.items()}
        commit(store, flush_of(acquired, effects_of(part), number=number))
    wanted = windows_of(readings)
    with psycopg.connect(telemetry_url) as connection:
        found = _stored_windows(connection)
    assert sorted(found) == sorted(zip(*(wanted[field.source].tolist() for field in WINDOW.fields), strict=True))


def _stored_windows(connection: psycopg.Connection[Any]) -> list[tuple[int, ...]]:
    names = [
        f"coalesce((extract(epoch FROM {field.name}) * 1000)::bigint, {NULL_I64 + 1} - 1)"
        if field.type == "timestamptz" else f"coalesce({field.name}::bigint, {NULL_I64 + 1} - 1)"
        for field in WINDOW.fields
    ]  # fmt: skip
    rows = connection.execute(f"SELECT {', '.join(names)} FROM telemetry.window_1m".encode()).fetchall()
    return [tuple(int(value) for value in row) for row in rows]


def test_events_say_what_is_stored_and_have_one_id_however_often_published(
    store: Store, telemetry_url: str, seed: int
) -> None:
    commit(store, flush_of(store.acquire(0), everything(store, seed)))
    with psycopg.connect(telemetry_url) as connection:
        rows = connection.execute(
            "SELECT event_id, exchange, routing_key, body FROM telemetry.outbox ORDER BY id"
        ).fetchall()
    published = [msgspec.json.decode(body, type=Envelope) for *_, body in rows]
    assert [envelope.metadata.type for envelope in published] == [
        "session.started.v1", "session.completed.v1", "session.completed.v1", "telemetry.aggregated.v1",
        "station.status_changed.v1",
    ]  # fmt: skip
    assert all(row[0] == envelope.metadata.event_id for row, envelope in zip(rows, published, strict=True))
    assert all(row[2] == envelope.routing_key for row, envelope in zip(rows, published, strict=True))
    completed = published[1].payload
    assert (completed["energy_wh"], completed["end_reason"], completed["estimated"]) == (2.0, "ended", False)
    assert completed["id"] == str(session_uuid(11))
    windows = published[3].payload["windows"]
    assert len(windows) == 3
    names = ("energy_export_wh_first", "energy_export_wh_last")
    with psycopg.connect(telemetry_url) as connection:
        for window in windows:
            asked = (window["station_id"], window["connector_id"], window["window_start"])
            exports = connection.execute(_EXPORTS, asked).fetchone()
            assert [window.get(name, "left out") for name in names] == [
                "left out" if mwh is None else mwh / 1_000 for mwh in exports or ()
            ]


def test_readings_by_station_are_published_once_where_wanted(store: Store, telemetry_url: str, seed: int) -> None:
    stations = [StationReadings(f"S{number:04d}", number + 1, T0_MS + number) for number in range(1_001)]
    readings = random_readings(np.random.default_rng(seed), store.register_connectors(0, [("A", 1)]), 3)
    flush = flush_of(store.acquire(0), effects_of(readings, by_station=stations))
    commit(store, flush)
    commit(store, flush)  # its answer was lost
    with psycopg.connect(telemetry_url) as connection:
        rows = connection.execute("SELECT body FROM telemetry.outbox ORDER BY id").fetchall()
    published = [msgspec.json.decode(body, type=Event[TelemetryReceived]) for (body,) in rows]
    assert [one.metadata.type for one in published] == ["telemetry.received.v1"] * 2
    assert [len(one.payload.stations) for one in published] == [1_000, 1]
    assert sum(one.payload.readings for one in published) == sum(station.readings for station in stations)
    assert published[0].payload.stations[7] == StationReceived(
        station_id="S0007", readings=8, newest_ts=format_rfc3339(T0_MS + 7)
    )
    assert published[0].payload.newest_ts == format_rfc3339(T0_MS + 999)


_EXPORTS = """
SELECT energy_export_first_mwh, energy_export_last_mwh
FROM telemetry.window_1m JOIN telemetry.connector USING (connector_key)
WHERE (station_id, connector_id, bucket) = (%s, %s, %s)
"""


class Cut(Connections):
    """Connections whose statement number `at` (COPYs count) never comes back: cut before it is sent, or after."""

    def __init__(self, url: str, at: int, after: bool) -> None:
        super().__init__(partial(open_writer, url), 1)
        self.at, self.after, self.seen, self.begun = at, after, 0, False

    @contextmanager
    def lend(self) -> Iterator[Any]:
        with super().lend() as connection:
            yield _Counted(connection, self)

    def around(self, connection: Any, work: Callable[[], Any]) -> Any:
        self.seen += 1
        if self.seen != self.at:
            return work()
        if self.after:
            work()
            if connection.pgconn.pipeline_status and self.begun:
                connection._pipeline.sync()
            elif connection.pgconn.pipeline_status:  # all of the transaction is one pipeline: a sync would end it
                connection.pgconn.send_flush_request()
                connection.pgconn.flush()
        connection.close()
        raise psycopg.OperationalError("the connection was cut")


class _Counted:
    def __init__(self, connection: Any, cut: Cut) -> None:
        self._connection, self._cut = connection, cut

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        self._cut.begun |= args[0] == "BEGIN"
        return self._cut.around(self._connection, lambda: self._connection.execute(*args, **kwargs))

    def cursor(self) -> Any:
        return self._cut.around(self._connection, self._connection.cursor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("body", [b"body", bytes(_BODY_SENT_MAX + 1)], ids=["small body", "large body"])
@pytest.mark.parametrize("after", [False, True])
@either_way
def test_a_crash_at_any_statement_leaves_all_or_nothing(
    store: Store, telemetry_url: str, seed: int, after: bool, body: bytes, made: Any
) -> None:
    effects = made(store, seed)
    acquired = store.acquire(0)
    flush = replace(flush_of(acquired, effects), body=body)
    with psycopg.connect(telemetry_url) as connection:  # the pieces outlast any crash and are no half commit
        connection.execute("SELECT telemetry.ensure_weeks(%s)", ([int(T0_MS // 604_800_000)],))
    before, at, outcomes = contents(telemetry_url), 0, set()
    while True:
        at += 1
        cut = Cut(telemetry_url, at, after)
        try:
            commit(Store(cut), flush)
        except Unavailable:
            now = contents(telemetry_url)
            outcomes.add(now == before)
            if now == before:
                continue
        finally:
            cut.close()
        break
    assert at > 5
    stored = contents(telemetry_url)
    commit(store, flush)  # the worker tries again what may have been made
    assert contents(telemetry_url) == stored
    assert len(stored["reading"]) == effects.stored
    assert store.acquire(0).bodies == [body]


def test_a_piece_that_retention_dropped_is_made_again(store: Store, telemetry_url: str, seed: int) -> None:
    acquired = store.acquire(0)
    commit(store, flush_of(acquired, everything(store, seed)))
    with psycopg.connect(telemetry_url) as connection:
        assert connection.execute("SELECT telemetry.drop_readings('infinity')").fetchone() == (1,)
    commit(store, flush_of(acquired, everything(store, seed, 2), number=2))
    assert len(contents(telemetry_url)["reading"]) == 200


def test_a_new_base_replaces_the_patches(store: Store, telemetry_url: str, seed: int) -> None:
    acquired = store.acquire(0)
    for number in (1, 2, 3):
        commit(store, flush_of(acquired, everything(store, seed, number), number=number))
    again = store.acquire(0)
    assert again.bodies == [b"body 1", b"body 2", b"body 3"]
    assert (again.base_bytes, again.patch_bytes) == (6, 12)
    commit(store, flush_of(again, everything(store, seed, 4)))
    assert store.acquire(0).bodies == [b"body 1"]
