"""The commit: everything one flush changes, in one transaction that only the partition's present owner can make.

Exactly-once rests on its first statement. It advances `next` and `commits`, and finds no row unless they are what this
worker last committed: a zombie's commit ends there with nothing changed, and a commit that is repeated because its
answer was lost is recognised by `commits`, which only the owner of the epoch can have raised.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray

from streams.effects import NULL_I64, Columns, Effects, RefusedItems
from streams.errors import BorderMoved, Fenced
from streams.session_ids import session_octets
from streams.storage import events
from streams.storage.bays import write_bays
from streams.storage.binary_copy import encode, encode_arrays
from streams.storage.connections import Connection
from streams.storage.events import FlushContext, OutboxRow, SessionEventRow, WindowEventRow
from streams.storage.revisions import bounds_of, by_week, remeasure_windows, revise_readings
from streams.storage.status import MERGE_STATUS, STATUS_INTERVAL, WITHDRAW_STATUS, WITHDRAWN, revisions, write_silences
from streams.storage.store import Store
from streams.storage.tables import (
    READING,
    REVISED,
    SESSION,
    StoredTable,
    merge_sessions,
    merge_windows,
)

_PROGRESS: Final = "SELECT epoch, next, commits, border_ms FROM telemetry.stream_offset WHERE partition = %s"
_MERGE_SESSIONS: Final = merge_sessions()
_INSERT_READINGS: Final = f"INSERT INTO {READING.name} ({READING.columns}) SELECT * FROM {READING.given}".encode()  # noqa: S608  # our own names
_QUARANTINE: Final = """
INSERT INTO telemetry.quarantine (partition, received_at, station_id, connector_id, reason, detail, raw)
SELECT %s, 'epoch'::timestamptz + received_ms * interval '1 millisecond', station_id, connector_id, reason, detail, raw
FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::text[], %s::text[], %b::bytea[])
    AS refused (received_ms, station_id, connector_id, reason, detail, raw)
"""
# The fence, and what the same partition's rows get only if it holds: one statement, for each of its own costs as much
# as all that these few rows cost.
_FENCE: Final = """moved AS (
UPDATE telemetry.stream_offset SET next = %(end)s, commits = %(commit)s
WHERE partition = %(partition)s AND epoch = %(epoch)s AND next = %(start)s AND commits = %(commit)s - 1
    AND border_ms = %(border_ms)s
RETURNING partition)"""
_LEDGER: Final = """counted AS (
UPDATE telemetry.ledger SET stored = stored + %(stored)s, duplicate = duplicate + %(duplicate)s,
    quarantined = quarantined + %(quarantined)s, in_windows = in_windows + %(in_windows)s, updated_at = now()
WHERE partition = %(partition)s AND EXISTS (SELECT FROM moved))"""
_SOURCES: Final = """progress AS (
INSERT INTO telemetry.ledger_source (partition, source, items_total, items_received)
SELECT partition, given.* FROM moved,
    unnest(%(sources)s::text[], %(items_total)s::bigint[], %(items_received)s::bigint[]) AS given
ON CONFLICT (partition, source) DO UPDATE SET
    items_total = excluded.items_total, items_received = excluded.items_received)"""
_NEW_BASE: Final = """replaced AS (
DELETE FROM telemetry.partition_state WHERE partition = %(partition)s AND EXISTS (SELECT FROM moved))"""
_BODY: Final = """saved AS (
INSERT INTO telemetry.partition_state (partition, patch, base, body)
SELECT partition, %(commit)s, %(base)s, %(body)b FROM moved)"""
_DONE: Final = "SELECT 1 / count(*) FROM moved"  # an error: of what is sent with it nothing may be executed
_COPY_BODY: Final = "COPY telemetry.partition_state (partition, patch, base, body) FROM STDIN (FORMAT binary)"
_OUTBOX: Final = """
INSERT INTO telemetry.outbox (event_id, exchange, routing_key, body)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %b::bytea[])
"""

PUBLISHED_SESSIONS: Final = """
SELECT s.session_key, s.id, c.station_id, c.connector_id, s.session_id,
    (extract(epoch FROM s.started_at) * 1000)::bigint, (extract(epoch FROM s.ended_at) * 1000)::bigint,
    s.end_reason, s.energy_uj, s.integrated_uj, s.readings, s.flagged, s.revision,
    s.tariff_key, s.cost_excl_micros, s.cost_incl_micros, s.hold, s.void, s.export_mwh
FROM unnest(%s::bigint[]) WITH ORDINALITY AS wanted (session_key, place)
JOIN telemetry.session AS s USING (session_key) JOIN telemetry.connector AS c USING (connector_key)
ORDER BY wanted.place
"""
_PUBLISHED_WINDOWS: Final = f"""
SELECT c.station_id, c.connector_id, wanted.bucket_ms, {", ".join(f"w.{name}" for name in WindowEventRow._fields[3:])}
FROM unnest(%s::int[], %s::bigint[]) WITH ORDINALITY AS wanted (connector_key, bucket_ms, place)
JOIN telemetry.window_1m AS w ON w.connector_key = wanted.connector_key
    AND w.bucket = 'epoch'::timestamptz + wanted.bucket_ms * interval '1 millisecond'
JOIN telemetry.connector AS c ON c.connector_key = wanted.connector_key ORDER BY wanted.place
"""  # noqa: S608  # the names are a class's

_NO_ID: Final = bytes(16)
# A connection keeps a buffer of the largest message it ever sent, so none is large: merged rows go 0.6 MB a statement,
# and a body beyond that is copied, piece by piece.
_MERGED_ROWS_MAX: Final = 2_048
_BODY_SENT_MAX: Final = 512 << 10
# Few rows go in the pipeline: a COPY has two round trips of its own, and rows are laid out slower than columns. From
# here on what the server takes for a row decides.
_INSERTED_ROWS_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Flush:
    """The result of one step, ready to be committed; the same object for every attempt."""

    partition: int
    epoch: int
    commit: int  # one more than the last
    start: int  # the first offset it contains
    end: int  # the first that it does not
    effects: Effects
    body: bytes  # of the state
    base: bool  # the body is all of the state, not a patch
    context: FlushContext
    border_ms: int = NULL_I64  # older readings were refused: they may be in the lake


def commit(store: Store, flush: Flush) -> None:
    """Commit the flush, all or nothing; nothing is done where an earlier attempt has committed it.

    Raises Fenced when the partition is another worker's, BorderMoved when the lake's border is not the flush's (nothing
    was changed: compute it again), Unavailable when the outcome is unknown (try again), psycopg's
    DataError or IntegrityError when the data are refused.
    """
    try:
        _try(store, flush)
    except psycopg.errors.CheckViolation:
        # "no partition of relation found": retention dropped one that we knew. It is made again.
        store.forget_weeks()
        _try(store, flush)


def _try(store: Store, flush: Flush) -> None:
    with store.connections.lend() as connection:
        store.ensure_weeks(connection, [flush.effects.readings["ts_ms"], flush.effects.windows["bucket_ms"]])
        _transact(connection, flush)


def _transact(connection: Connection, flush: Flush) -> None:
    try:
        if _is_plain(flush):
            with connection.pipeline():  # until its end it is one transaction, without BEGIN and COMMIT
                connection.execute(*_move(flush))
                _insert_readings(connection, flush.effects)
                _merge(connection, flush)
        else:
            _transact_by_steps(connection, flush)
    except psycopg.errors.DivisionByZero:
        connection.rollback()
        progress = connection.execute(_PROGRESS, (flush.partition,)).fetchone()
        if progress is not None and progress[:3] == (flush.epoch, flush.end, flush.commit):
            return
        if progress is not None and progress[:3] == (flush.epoch, flush.start, flush.commit - 1):
            raise BorderMoved(f"partition {flush.partition}: the lake's border went on to {progress[3]}") from None
        raise Fenced(f"partition {flush.partition}: epoch {flush.epoch} commits {flush.start} to {flush.end}, "
                     f"but the store has epoch, next, commits, border = {progress}") from None  # fmt: skip


def _is_plain(flush: Flush) -> bool:
    """Whether all of it can be sent at once: few rows, and nothing to publish, which is read first."""
    effects = flush.effects
    published = len(effects.started) or len(effects.completed) or len(effects.emit["connector_key"])
    return not (
        effects.stored > _INSERTED_ROWS_MAX or _is_large(flush) or published or events.any_without_rows(effects)
    )


def _transact_by_steps(connection: Connection, flush: Flush) -> None:
    effects = flush.effects
    with connection.pipeline():
        connection.execute("BEGIN")
        connection.execute(*_move(flush))
    if effects.stored > _INSERTED_ROWS_MAX:  # there is no COPY in a pipeline
        _copy_readings(connection, effects)
    if _is_large(flush):
        _copy_body(connection, flush)
    published = [*effects.started.tolist(), *effects.completed.tolist()]
    with connection.pipeline():
        if effects.stored <= _INSERTED_ROWS_MAX:
            _insert_readings(connection, effects)
        _merge(connection, flush)
        sessions = connection.execute(PUBLISHED_SESSIONS, (published,)) if published else None
        windows = _read_windows(connection, effects.emit)
        if sessions is None and windows is None and not events.any_without_rows(effects):
            connection.execute("COMMIT")
            return
    rows = _outbox(flush, sessions, windows)
    with connection.pipeline():
        connection.execute(_OUTBOX, _transposed([(r.event_id, r.exchange, r.routing_key, r.body) for r in rows], 4))
        connection.execute("COMMIT")


def _move(flush: Flush) -> tuple[bytes, dict[str, Any]]:
    """The statement that moves the offset, with its parameters; DivisionByZero where the partition is another's."""
    effects, parts = flush.effects, [_FENCE]
    parameters: dict[str, Any] = {
        "partition": flush.partition, "epoch": flush.epoch, "start": flush.start, "end": flush.end,
        "commit": flush.commit, "border_ms": flush.border_ms,
    }  # fmt: skip
    counts = {
        "stored": effects.stored,
        "duplicate": effects.duplicate,
        "quarantined": effects.quarantined,
        "in_windows": int(effects.windows["readings"].sum()),
    }
    if any(counts.values()):
        parts.append(_LEDGER)
        parameters |= counts
    if effects.sources:
        parts.append(_SOURCES)
        totals = [(s.source, s.items_total, s.items_received) for s in effects.sources]
        parameters |= zip(("sources", "items_total", "items_received"), _transposed(totals, 3), strict=True)
    if flush.base:
        parts.append(_NEW_BASE)
    if not _is_large(flush):
        parts.append(_BODY)
        parameters |= {"base": flush.base, "body": flush.body}
    return f"WITH {', '.join(parts)} {_DONE}".encode(), parameters


def _readings(effects: Effects) -> Columns:
    return effects.readings | {"extra": _extras(effects)}


def _insert_readings(connection: Connection, effects: Effects) -> None:
    _merge_rows(connection, READING, _INSERT_READINGS, _readings(effects))


def _copy_readings(connection: Connection, effects: Effects) -> None:
    readings = _readings(effects)
    table = READING.without_defaults(readings)
    _copy(connection, table, _sorted({field.source: readings[field.source] for field in table.fields}))


def _copy(connection: Connection, table: StoredTable, columns: Columns) -> None:
    with connection.cursor() as cursor, cursor.copy(table.copy_into(table.name)) as copy:
        for chunk in encode(table, columns):
            copy.write(chunk)


def _extras(effects: Effects) -> NDArray[Any]:
    if effects.extra is None:
        return np.zeros(effects.stored, "S1")
    extras = np.empty(effects.stored, np.object_)
    extras[:] = effects.extra
    return extras


def _sorted(readings: Columns) -> Columns:
    """By connector: the index on raw readings distinguishes pages by the connectors in them."""
    key = readings["connector_key"].astype(np.int32, copy=False)
    if np.all(key[1:] >= key[:-1]):
        return readings
    order = np.argsort(key, kind="stable")
    return {name: column[order] for name, column in readings.items()}


def _session_columns(effects: Effects) -> Columns:
    names = [b"" if name is None else name.encode() for name in effects.session_ids]
    versions = [effects.tariffs.get(key) for key in effects.sessions["tariff_key"].tolist()]
    consumed = [effects.consumption.get(key) for key in effects.sessions["session_key"].tolist()]
    return effects.sessions | {
        "id": session_octets(effects.sessions["session_key"].astype(np.int64, copy=False)).view("V16").ravel(),
        "session_id": _texts(names),
        "tariff_version": np.frombuffer(b"".join(_NO_ID if v is None else v.id.bytes for v in versions), "V16"),
        "currency": _texts([b"" if v is None else v.tariff.currency.encode() for v in versions]),
        "consumption": _texts(
            [b"" if used is None else msgspec.json.encode(events.consumption_of(used)) for used in consumed]
        ),
    }


def _status_columns(flush: Flush) -> Columns:
    status = flush.effects.status
    codes = {name: getattr(status, f"{name}s") for name in ("error_code", "vendor_error_code")}
    texts = {name: _texts([(text or "").encode() for text in column]) for name, column in codes.items()}
    return status.intervals | texts | revisions(status, flush.commit)


def _texts(texts: list[bytes]) -> NDArray[np.bytes_]:
    return np.array(texts, np.bytes_) if any(texts) else np.zeros(len(texts), "S1")


def _merge(connection: Connection, flush: Flush) -> None:
    effects, partition = flush.effects, flush.partition
    if len(effects.windows["bucket_ms"]):
        _merge_rows(connection, *merge_windows(effects.windows), effects.windows)
    if len(effects.revised["connector_key"]):
        revised = effects.revised | {"extra": _texts(effects.revised_extra)}
        for week in by_week(revised, "ts_ms"):
            _merge_rows(connection, REVISED, revise_readings(bounds_of("r", "ts", week)), week)
    if len(effects.remeasured["bucket_ms"]):
        for week in by_week(effects.remeasured, "bucket_ms"):
            columns = (week[name].tolist() for name in ("connector_key", "bucket_ms"))
            wanted = _transposed(sorted({*zip(*columns, strict=True)}), 2)
            connection.execute(remeasure_windows(bounds_of("w", "bucket", week)), wanted)
    if len(effects.sessions["session_key"]):
        _merge_rows(connection, SESSION, _MERGE_SESSIONS, _session_columns(effects))
    if effects.status.any_rows:
        _merge_status(connection, _status_columns(flush))
        write_silences(connection, effects.status, flush.commit)
    if effects.bays.intervals:
        write_bays(connection, effects.bays, flush.commit)
    if effects.refused.reason:
        connection.execute(_QUARANTINE, (partition, *_quarantined(effects.refused)))


def _merge_status(connection: Connection, intervals: Columns) -> None:
    withdrawn = intervals["status"] == 0
    if withdrawn.any():
        gone = {name: column[withdrawn] for name, column in intervals.items()}
        _merge_rows(connection, WITHDRAWN, WITHDRAW_STATUS, gone)
        intervals = {name: column[~withdrawn] for name, column in intervals.items()}
    _merge_rows(connection, STATUS_INTERVAL, MERGE_STATUS, intervals)


def _copy_body(connection: Connection, flush: Flush) -> None:
    with connection.cursor() as cursor, cursor.copy(_COPY_BODY.encode()) as copy:
        copy.set_types(("int2", "int8", "bool", "bytea"))
        copy.write_row((flush.partition, flush.commit, flush.base, flush.body))


def _is_large(flush: Flush) -> bool:
    return len(flush.body) > _BODY_SENT_MAX


def _merge_rows(connection: Connection, table: StoredTable, statement: bytes, columns: Columns) -> None:
    rows = len(columns[table.fields[0].source])
    for start in range(0, rows, _MERGED_ROWS_MAX):
        part = {field.source: columns[field.source][start : start + _MERGED_ROWS_MAX] for field in table.fields}
        connection.execute(statement, encode_arrays(table, part))


def _quarantined(refused: RefusedItems) -> tuple[list[Any], ...]:
    return (
        refused.received_ms,
        [None if station is None else _storable(station) for station in refused.station_id],
        refused.connector_id,
        refused.reason,
        [_storable(detail) for detail in refused.detail],
        refused.raw,
    )


def _storable(text: str) -> str:
    """PostgreSQL's text has no NUL; a refused item may. The raw form keeps it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _read_windows(connection: Connection, emit: Columns) -> psycopg.Cursor[tuple[Any, ...]] | None:
    if not len(emit["connector_key"]):
        return None
    return connection.execute(_PUBLISHED_WINDOWS.encode(), (emit["connector_key"].tolist(), emit["bucket_ms"].tolist()))


def _outbox(
    flush: Flush,
    sessions: psycopg.Cursor[tuple[Any, ...]] | None,
    windows: psycopg.Cursor[tuple[Any, ...]] | None,
) -> list[OutboxRow]:
    rows: list[OutboxRow] = []
    if sessions is not None:
        found = [SessionEventRow(*row) for row in sessions.fetchall()]
        started = len(flush.effects.started)
        rows += [events.session_started(row, flush.context) for row in found[:started]]
        rows += [
            events.session_completed(row, events.pricing_of(row, flush.effects), flush.context)
            for row in found[started:]
        ]
    if windows is not None:
        emitted = [WindowEventRow(*row) for row in windows.fetchall()]
        rows += events.telemetry_aggregated(flush.partition, emitted, flush.context)
    rows += events.session_cost_updated(flush.partition, flush.effects, flush.context)
    rows += events.telemetry_received(flush.partition, flush.effects, flush.context)
    rows += events.station_status_changed(flush.commit, flush.effects, flush.context)
    rows += events.bay_occupancy_changed(flush.commit, flush.effects, flush.context)
    return rows


def _transposed(rows: list[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
