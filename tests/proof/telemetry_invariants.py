"""Invariants of stored telemetry after any faults, each as a list of its violations.

Nothing here uses the product's own arithmetic: windows are recomputed by SQL, energies by the plain reference of the
kernels' tests, both from the raw rows.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg

from schemas.energy import ENERGY_SHARES
from schemas.quality import REGISTER_UNUSABLE, Quality
from schemas.session import EndReason, HoldReason
from schemas.topics import TELEMETRY_AGGREGATED, routing_key
from streams.effects import StepParams
from tests.proof.load import DeliveryRecord
from tests.proof.recording_chargers import LEAP_MWH, Content, Identity
from tests.streams.reference import DAY_MS, UJ_PER_MWH, Connector, End, Meter

Connection = psycopg.Connection[tuple[Any, ...]]
Completed = dict[str, Any]
"""A session.completed.v1's payload."""

_SHOWN = 5  # violations of one kind
_ROWS = 20_000  # fetched at once


def _ms(column: str) -> str:
    return f"(extract(epoch FROM {column}) * 1000)::bigint"


# A session id that is not its session's is kept beside the reading.
_GIVEN_ID = "CASE WHEN r.named = 1 THEN s.session_id ELSE r.extra::json ->> 'session_id' END"
_READINGS = f"""
SELECT c.station_id, c.connector_id, r.boot, r.seq,
    {_GIVEN_ID}, {_ms("r.ts")}, r.energy_mwh,
    r.power_mw, r.voltage_mv, r.current_ma, r.temperature_mc, r.soc_mpct, r.energy_export_mwh, r.status, r.session_event
FROM telemetry.reading r JOIN telemetry.connector c USING (connector_key)
LEFT JOIN telemetry.session s USING (session_key)
"""


def violations(url: str, record: DeliveryRecord, completed: Sequence[Completed] | None) -> list[str]:
    """Violations of all invariants, in one snapshot. `completed`: the events received; None if none were recorded."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        checks: list[Callable[[], list[str]]] = [
            lambda: readings_are_those_sent(connection, record),
            lambda: ledger_closes(connection, record),
            lambda: windows_follow_from_readings(connection),
            lambda: sessions_follow_from_readings(connection),
            lambda: meters_rose_by_what_is_accounted_for(connection),
            lambda: energy_ledger_follows_from_readings(connection),
            lambda: statuses_follow_from_readings(connection),
            lambda: device_sessions_have_one_row(connection),
            lambda: outbox_is_drained(connection),
        ]
        if completed is not None:
            checks.append(lambda: completions_were_published(connection, completed))
        return [violation for check in checks for violation in check()]


def outstanding(url: str) -> int:
    """Number of events in the outbox, of running sessions whose rows lag behind their readings, and of readings that
    are not in their windows yet."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM telemetry.outbox)"
            " + (SELECT coalesce(sum(stored - in_windows), 0) FROM telemetry.ledger)"
            " + (SELECT count(*) FROM telemetry.session s LEFT JOIN"
            " (SELECT session_key, count(*) AS there FROM telemetry.reading GROUP BY 1) AS r USING (session_key)"
            " WHERE s.ended_at IS NULL AND s.readings IS DISTINCT FROM r.there)"
        ).fetchone()
    assert row is not None
    return int(row[0])


def newest(url: str) -> dict[tuple[str, int], str]:
    """The time of each connector's newest reading, as RFC 3339."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT station_id, connector_id, to_char(max(ts) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
            " FROM telemetry.reading JOIN telemetry.connector USING (connector_key) GROUP BY 1, 2"
        ).fetchall()
    return {(station, connector): ts for station, connector, ts in rows}


def readings_are_those_sent(connection: Connection, record: DeliveryRecord, stations: str = "") -> list[str]:
    """Every acknowledged reading is stored; nothing is stored twice, changed, or was never sent. `stations`: of those
    only whose id begins so."""
    twice: list[Identity] = []
    changed: list[tuple[Identity, Content, Content | None]] = []
    stored: set[Identity] = set()
    for station, connector, boot, seq, *content in _rows(connection, f"{_READINGS} WHERE station_id ^@ '{stations}'"):
        identity = (station, connector, boot, seq)
        if identity in stored:
            twice.append(identity)
        stored.add(identity)
        sent = record.attempted.get(identity)
        if tuple(content) != sent:
            changed.append((identity, tuple(content), sent))
    lost = record.acknowledged - stored
    return [
        *_violations("acknowledged and not stored", sorted(lost)),
        *_violations("stored twice", twice),
        *_violations("stored otherwise than sent", changed),
    ]


def ledger_closes(connection: Connection, record: DeliveryRecord) -> list[str]:
    """stored + duplicate + quarantined = accepted >= acknowledged, and stored is the number of rows."""
    row = connection.execute(
        "SELECT sum(stored)::bigint, sum(duplicate)::bigint, sum(quarantined)::bigint,"
        " (SELECT sum(items_total)::bigint FROM telemetry.ledger_source),"
        " (SELECT sum(items_received)::bigint FROM telemetry.ledger_source),"
        " (SELECT count(*) FROM telemetry.reading), (SELECT count(*) FROM telemetry.quarantine),"
        " sum(in_windows)::bigint FROM telemetry.ledger"
    ).fetchone()
    assert row is not None
    stored, duplicate, quarantined, sent, received, there, refused, in_windows = row
    laws = {
        "stored + duplicate + quarantined = received": stored + duplicate + quarantined == received,
        "received = sent": received == sent,
        "sent covers what was acknowledged": sent >= record.items,
        "stored is the number of rows": stored == there,
        "the windows have all stored readings": in_windows == stored,
        "nothing is quarantined": quarantined == refused == 0,
    }
    by_partition = connection.execute(
        "SELECT partition, l.stored, count(r.ts) FROM telemetry.ledger l"
        " LEFT JOIN telemetry.connector USING (partition) LEFT JOIN telemetry.reading r USING (connector_key)"
        " GROUP BY partition, l.stored HAVING l.stored <> count(r.ts)"
    ).fetchall()
    broken = [f"ledger: not {law}: {row}, acknowledged {record.items}" for law, holds in laws.items() if not holds]
    doubtful = connection.execute(
        "SELECT reason, detail, convert_from(raw, 'UTF8') FROM telemetry.quarantine"
    ).fetchall()
    return [
        *broken,
        *_violations("quarantined", doubtful),
        *_violations("partition's ledger (partition, stored, there)", by_partition),
    ]


_QUANTITIES = ("power_mw", "voltage_mv", "current_ma", "temperature_mc", "soc_mpct")
_USABLE = f"energy_mwh IS NOT NULL AND flags & {int(REGISTER_UNUSABLE)} = 0"
_EXPORT = "energy_export_mwh"
_EXPORTED = f"{_EXPORT} IS NOT NULL AND flags & {int(Quality.EXPORT_IMPLAUSIBLE)} = 0"
_WINDOWS = {
    "connector_key": "connector_key",
    "bucket": "date_bin('1 minute', ts, 'epoch')",
    "readings": "count(*)",
    "flagged": f"count(*) FILTER (WHERE flags & {~int(Quality.ESTIMATED) & 0x7FFF} <> 0)",
    "first_ts": "min(ts)",
    "last_ts": "max(ts)",
    **{f"{q}_n": f"count({q})" for q in _QUANTITIES},
    **{f"{q}_sum": f"coalesce(sum({q}), 0)::bigint" for q in _QUANTITIES},
    **{f"{q}_min": f"min({q})" for q in _QUANTITIES},
    **{f"{q}_max": f"max({q})" for q in _QUANTITIES},
    "energy_n": f"count(*) FILTER (WHERE {_USABLE})",
    "energy_first_ts": f"min(ts) FILTER (WHERE {_USABLE})",
    "energy_first_mwh": f"(array_agg(energy_mwh ORDER BY ts, energy_mwh) FILTER (WHERE {_USABLE}))[1]",
    "energy_last_ts": f"max(ts) FILTER (WHERE {_USABLE})",
    "energy_last_mwh": f"(array_agg(energy_mwh ORDER BY ts DESC, energy_mwh DESC) FILTER (WHERE {_USABLE}))[1]",
    **{f"{name}_sum": f"coalesce(sum({name}), 0)::bigint" for name in ENERGY_SHARES},
    "energy_export_first_ts": f"min(ts) FILTER (WHERE {_EXPORTED})",
    "energy_export_first_mwh": f"(array_agg({_EXPORT} ORDER BY ts, {_EXPORT}) FILTER (WHERE {_EXPORTED}))[1]",
    "energy_export_last_ts": f"max(ts) FILTER (WHERE {_EXPORTED})",
    "energy_export_last_mwh": f"(array_agg({_EXPORT} ORDER BY ts DESC, {_EXPORT} DESC) FILTER (WHERE {_EXPORTED}))[1]",
}


def windows_follow_from_readings(connection: Connection) -> list[str]:
    """Every column of every window follows from the raw rows, and there are no other windows."""
    columns = ", ".join(f"{name}::text" for name in _WINDOWS)
    recomputed = ", ".join(f"{expression} AS {name}" for name, expression in _WINDOWS.items())
    names = connection.execute("SELECT column_name FROM information_schema.columns"
                               " WHERE (table_schema, table_name) = ('telemetry', 'window_1m')").fetchall()  # fmt: skip
    assert {name for (name,) in names} == {*_WINDOWS, "revision"}, "a column that is not checked"
    connection.execute(
        "CREATE TEMP TABLE recomputed ON COMMIT DROP AS"
        f" SELECT {columns} FROM (SELECT {recomputed} FROM telemetry.reading GROUP BY 1, 2) AS windows"
    )
    connection.execute(f"CREATE TEMP TABLE stored ON COMMIT DROP AS SELECT {columns} FROM telemetry.window_1m")
    wrong = connection.execute("SELECT 'stored', * FROM (TABLE stored EXCEPT ALL TABLE recomputed) AS s"
                               " UNION ALL SELECT 'recomputed', * FROM (TABLE recomputed EXCEPT ALL TABLE stored) AS r"
                               " ORDER BY 2, 3").fetchall()  # fmt: skip
    return _violations("windows (stored and recomputed)", wrong)


_SESSION_ROWS = f"""
SELECT s.session_key, s.energy_uj, s.integrated_uj, s.hold, s.export_mwh, s.readings,
    {_ms("s.started_at")}, {_ms("s.last_at")}, s.end_reason, s.power_max_mw,
    s.register_before_mwh, {_ms("s.register_before_at")}, s.series_mwh,
    CASE WHEN s.register_before_at > s.ended_before_at THEN 0 ELSE coalesce(s.before_uj, 0) END,
    s.connector_key, {_ms("r.ts")}, r.energy_mwh, r.power_mw, r.energy_export_mwh, r.in_session_mwh, {_ms("r.next_ts")}
FROM (
    SELECT *, lag(last_at) OVER timeline AS ended_before_at, lag(integrated_uj) OVER timeline AS before_uj
    FROM telemetry.session WHERE end_reason <> {int(EndReason.WITHDRAWN)}
    WINDOW timeline AS (PARTITION BY connector_key ORDER BY started_at, last_at, session_key)
) s LEFT JOIN (
    SELECT *, lead(ts) OVER timeline AS next_ts FROM telemetry.reading
    WINDOW timeline AS (PARTITION BY connector_key ORDER BY ts, seq NULLS FIRST, part, boot NULLS FIRST)
) r USING (session_key)
ORDER BY s.session_key, r.ts, r.seq NULLS FIRST, r.part, r.boot NULLS FIRST
"""
_HEAD = 15  # columns of the session
_LITTLE_MWH = 100_000  # of a session that has more no later register shows anything
_SINCE = """
SELECT (extract(epoch FROM ts) * 1000)::bigint, session_key, energy_mwh FROM telemetry.reading
WHERE connector_key = %s AND ts BETWEEN to_timestamp(%s / 1000.0) AND to_timestamp(%s / 1000.0) + interval '1 day'
ORDER BY ts, seq NULLS FIRST, part, boot NULLS FIRST
"""
_OF_CLOCKS = HoldReason.ENDED_BEFORE_START | HoldReason.CLOCK_AHEAD  # which its readings alone do not show


def sessions_follow_from_readings(connection: Connection) -> list[str]:
    """Energy, exported energy, doubts, count, first and last time of every session follow from its raw rows; its
    register's part is what these account for."""
    wrong = []
    for head, rows in groupby(_rows(connection, _SESSION_ROWS), key=itemgetter(*range(_HEAD))):
        key, energy_uj, integrated_uj, hold, *stored, end_reason, power_max_mw = head[:10]
        base_mwh, base_ms, series, before, connector_key = head[10:]
        base = None if base_mwh is None else (base_mwh, base_ms)
        meter = Meter(power_max_mw, base, series, before_uj=before)
        inside = [row[_HEAD:] for row in rows if row[_HEAD] is not None]
        for row in inside:
            meter.add(dict(zip(("ts_ms", "energy_mwh", "power_mw", "energy_export_mwh"), row[:4], strict=True)))
        registered_uj = sum(row[4] or 0 for row in inside) * UJ_PER_MWH
        reasons = 0
        if end_reason != EndReason.OPEN:
            end = End(end_reason, inside[-1][5] if end_reason == EndReason.SUPERSEDED else None)
            if meter.energy_uj // UJ_PER_MWH <= _LITTLE_MWH:
                end.later = _later_register(connection, meter, key, connector_key, inside[-1][0])
            reasons = int(meter.reasons(end)) | hold & _OF_CLOCKS
        times = (inside[0][0], inside[-1][0]) if inside else (None, None)
        recomputed = [meter.energy_uj, registered_uj, reasons, meter.export_mwh, len(inside), *times]
        found = [energy_uj, energy_uj - integrated_uj, hold, *stored]
        if found != recomputed:
            wrong.append((key, found, recomputed))
    orphans = connection.execute(
        "SELECT session_key, count(*) FROM telemetry.reading r WHERE session_key IS NOT NULL AND NOT EXISTS"
        " (SELECT FROM telemetry.session s WHERE s.session_key = r.session_key AND s.end_reason <> %s) GROUP BY 1",
        (int(EndReason.WITHDRAWN),),
    ).fetchall()
    return [
        *_violations("sessions (key, stored, recomputed: energy_uj, by register, hold, exported, count, times)", wrong),
        *_violations("readings of a session without a row", orphans),
    ]


def _later_register(
    connection: Connection, meter: Meter, session_key: int, connector_key: int, last_ms: int
) -> tuple[int, int] | None:
    """The register that shows what the meter rose by at the end of a session, and its moment."""
    rows = connection.execute(_SINCE, (connector_key, last_ms, last_ms)).fetchall()
    own = [place for place, row in enumerate(rows) if row[1] == session_key]
    after = rows[own[-1] + 1 :]
    other = next((row[1] for row in after if row[1] is not None), None)
    stop = max((place + 1 for place, row in enumerate(after) if row[1] == other), default=len(after))
    for ts_ms, _, register in after[: stop if other is not None else None]:
        shown = meter.decides({"ts_ms": ts_ms, "energy_mwh": register}, last_ms)
        if shown is not None:
            return ts_ms, shown
    return None


_METERS = f"""
WITH registers AS (
    SELECT connector_key, energy_mwh, energy_mwh - lag(energy_mwh) OVER timeline AS rise_mwh,
        row_number() OVER timeline = count(*) OVER (PARTITION BY connector_key) AS last
    FROM telemetry.reading WHERE energy_mwh IS NOT NULL
    WINDOW timeline AS (PARTITION BY connector_key ORDER BY ts, seq)
), meters AS (
    SELECT connector_key, sum(rise_mwh) FILTER (WHERE NOT last OR rise_mwh < {LEAP_MWH}) AS rise_mwh
    FROM registers GROUP BY 1
), ledger AS (
    SELECT connector_key, sum({" + ".join(f"{name}_sum" for name in ENERGY_SHARES)}) AS accounted_mwh
    FROM telemetry.window_1m GROUP BY 1
)
SELECT connector_key, coalesce(rise_mwh, 0)::bigint, accounted_mwh::bigint
FROM ledger LEFT JOIN meters USING (connector_key) WHERE coalesce(rise_mwh, 0) <> accounted_mwh
"""


def meters_rose_by_what_is_accounted_for(connection: Connection) -> list[str]:
    """What a connector's register rose by is in its sessions, outside or rejected: those of these devices never fall.
    A leap counts with the register after it, which confirms it, so that one that is a connector's last does not."""
    wrong = connection.execute(_METERS.encode()).fetchall()
    return _violations("connectors whose meter rose otherwise (key, rise, accounted for in mWh)", wrong)


_TIMELINES = f"""
SELECT r.connector_key, c.connector_id, {_ms("r.ts")} AS ts_ms, r.seq, r.part, r.boot, {_GIVEN_ID} AS session_id,
    r.session_event, r.status, r.power_mw, r.energy_mwh, r.energy_export_mwh
FROM telemetry.reading r JOIN telemetry.connector c USING (connector_key)
LEFT JOIN telemetry.session s USING (session_key) ORDER BY 1
"""
_COLUMNS = ("connector_id", "ts_ms", "seq", "part", "boot", "session_id", "session_event", "status", "power_mw",
            "energy_mwh", "energy_export_mwh")  # fmt: skip
_DAYS = f"""
SELECT connector_key, {_ms("date_bin('1 day', bucket, 'epoch')")},
    {", ".join(f"sum({name}_sum)::bigint" for name in ENERGY_SHARES)}
FROM telemetry.window_1m GROUP BY 1, 2
"""


def energy_ledger_follows_from_readings(connection: Connection) -> list[str]:
    """What each connector's energy of a day is in sessions, outside and rejected is what the plain reference finds of
    all its raw rows."""
    expected: dict[tuple[int, int], Counter[str]] = {}
    for key, rows in groupby(_rows(connection, _TIMELINES), key=itemgetter(0)):
        connector = Connector(StepParams())
        connector.readings = [(dict(zip(_COLUMNS, row[1:], strict=True)), Quality(0)) for row in rows]
        for found in connector.timeline()[1]:
            day = expected.setdefault((key, found.reading["ts_ms"] // DAY_MS * DAY_MS), Counter())
            day.update({name: getattr(found, name) for name in ENERGY_SHARES})
    stored = {(key, day): shares for key, day, *shares in connection.execute(_DAYS.encode()).fetchall()}
    wanted = {place: [shares[name] for name in ENERGY_SHARES] for place, shares in expected.items()}
    wrong = [
        (*place, stored.get(place), wanted.get(place))
        for place in sorted({*stored, *wanted})
        if stored.get(place) != wanted.get(place)
    ]
    return _violations(f"connectors and days whose ledger of energy is wrong ({', '.join(ENERGY_SHARES)})", wrong)


# These devices give no fault codes.
_STATUSES = """
SELECT connector_key, ts AS since, (row_number() OVER (PARTITION BY connector_key, ts ORDER BY number) - 1)::int, status
FROM (
    SELECT *, row_number() OVER timeline AS number, lag(status) OVER timeline AS before
    FROM telemetry.reading WHERE status <> 0
    WINDOW timeline AS (PARTITION BY connector_key ORDER BY ts, seq NULLS FIRST, part, boot NULLS FIRST)
) AS statement WHERE status IS DISTINCT FROM before
"""
_INTERVALS = "SELECT connector_key, since, place, status FROM telemetry.status_interval"


def statuses_follow_from_readings(connection: Connection) -> list[str]:
    """There is an interval where the status of a connector's readings, in order of time, is another than before."""
    wrong = connection.execute(
        f"SELECT 'stored', * FROM ({_INTERVALS} EXCEPT ALL {_STATUSES}) AS s"
        f" UNION ALL SELECT 'recomputed', * FROM ({_STATUSES} EXCEPT ALL {_INTERVALS}) AS r ORDER BY 2, 3".encode()
    ).fetchall()
    return _violations("status intervals (stored and recomputed)", wrong)


def device_sessions_have_one_row(connection: Connection) -> list[str]:
    """A device's session has one row, in whatever order its readings arrived; these devices use no id again."""
    return _violations(
        "sessions with several rows",
        connection.execute(
            "SELECT connector_key, session_id, count(*) FROM telemetry.session WHERE session_id IS NOT NULL"
            " AND end_reason <> %s GROUP BY 1, 2 HAVING count(*) > 1",
            (int(EndReason.WITHDRAWN),),
        ).fetchall(),
    )


def outbox_is_drained(connection: Connection) -> list[str]:
    """No event is pending. Windows are published by the clock, so theirs do not count."""
    waiting = connection.execute(
        "SELECT id, routing_key FROM telemetry.outbox WHERE routing_key <> %s", (routing_key(TELEMETRY_AGGREGATED),)
    )
    return _violations("events in the outbox", waiting.fetchall())


def completions_were_published(connection: Connection, completed: Sequence[Completed]) -> list[str]:
    """Every completed session was published with its last figures, and no other session was."""
    published = {(event["id"], event["revision"]): event for event in completed}
    wrong, unknown = [], Counter(event["id"] for event in completed)
    rows = connection.execute(
        "SELECT id::text, revision, energy_uj, readings, flagged, session_id, ended_at IS NOT NULL"
        " FROM telemetry.session"
    ).fetchall()
    for id_, revision, energy_uj, readings, flagged, session_id, ended in rows:
        unknown.pop(id_, None)
        if not ended:
            continue
        event = published.get((id_, revision), {})
        figures = {"energy_uj": energy_uj, "readings": readings, "flagged": flagged, "session_id": session_id}
        if {name: event.get(name) for name in figures} != figures:
            wrong.append((id_, revision, figures, event))
    return [
        *_violations("completed sessions that were not published with their last figures", wrong),
        *_violations("published sessions without a row", list(unknown)),
    ]


def _rows(connection: Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a result that is too large to load at once."""
    with connection.cursor(name="laws") as cursor:
        cursor.itersize = _ROWS
        yield from cursor.execute(query.encode())


def _violations(what: str, found: Sequence[Any]) -> list[str]:
    return [f"{what}: {len(found)}, as {list(found[:_SHOWN])}"] if found else []
