"""The SQL of what events said of sessions, stations and alarms."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from api.notifications.notices.alarm_window import AlarmWindow
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

_ALARMS: Final = """
SELECT place, cause, window_ends_at, in_window FROM notifications.alarm
WHERE (place, cause) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY place, cause FOR UPDATE
"""
_PUT_ALARMS: Final = """
INSERT INTO notifications.alarm (place, cause, window_ends_at, in_window)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::int[]) AS a (p, c, e, n) ORDER BY p, c
ON CONFLICT (place, cause) DO UPDATE SET (window_ends_at, in_window) = (excluded.window_ends_at, excluded.in_window)
"""
# One batch of alarms at a time: two that do not know of each other would both be sent at once.
_LOCK_ALARMS: Final = "SELECT pg_advisory_xact_lock(hashtextextended('voltstream notifications alarms', 0))"
_NEWER_STATUS: Final = """
INSERT INTO notifications.connector_status AS s (station_id, connector_id, revision)
SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]) AS c (s, n, r) ORDER BY s, n
ON CONFLICT (station_id, connector_id) DO UPDATE SET revision = excluded.revision WHERE s.revision < excluded.revision
RETURNING station_id, connector_id
"""
_PUT_STATION: Final = """
INSERT INTO notifications.station AS s (station_id, revision, site, name) VALUES ($1, $2, $3, $4)
ON CONFLICT (station_id) DO UPDATE SET (revision, site, name) = ($2, $3, $4) WHERE s.revision < $2
"""
_STATIONS: Final = "SELECT station_id, site, name FROM notifications.station WHERE station_id = ANY ($1::text[])"
# Rows are locked in the same order everywhere: two batches cannot wait for each other.
_SESSIONS: Final = """
INSERT INTO notifications.session AS s (id, driver_id, assignment, started, completed, heard_at)
SELECT id, driver_id, assignment, started::jsonb, completed::jsonb, $1
FROM unnest($2::uuid[], $3::text[], $4::int[], $5::text[], $6::text[])
    AS news (id, driver_id, assignment, started, completed) ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    driver_id = CASE WHEN s.assignment < excluded.assignment THEN excluded.driver_id ELSE s.driver_id END,
    assignment = greatest(s.assignment, excluded.assignment), started = coalesce(s.started, excluded.started),
    completed = coalesce(s.completed, excluded.completed), heard_at = excluded.heard_at
RETURNING id, driver_id, assignment, started, completed
"""
_FORGET: Final = (
    "DELETE FROM notifications.session WHERE heard_at < $1",
    "DELETE FROM notifications.alarm WHERE window_ends_at < $1",
)


async def alarm_windows(
    connection: Transaction, alarms: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], AlarmWindow]:
    """The windows of these (place, cause), which nobody else changes until the transaction ends."""
    await connection.execute(_LOCK_ALARMS)
    rows = await connection.fetch(_ALARMS, *zip(*alarms, strict=True))
    return {(row["place"], row["cause"]): AlarmWindow(row["window_ends_at"], row["in_window"]) for row in rows}


async def put_alarm_windows(connection: Transaction, windows: Mapping[tuple[str, str], AlarmWindow]) -> None:
    """Store them."""
    rows = [(*key, window.ends_at, window.collected) for key, window in windows.items()]
    await connection.execute(_PUT_ALARMS, *zip(*rows, strict=True))


async def newer_statuses(connection: Transaction, changes: Mapping[tuple[str, int], int]) -> set[tuple[str, int]]:
    """Record these revisions by (station, connector). Those that are newer than what was recorded."""
    rows = [(*key, revision) for key, revision in changes.items()]
    found = await connection.fetch(_NEWER_STATUS, *zip(*rows, strict=True))
    return {(row["station_id"], row["connector_id"]) for row in found}


async def put_station(
    connection: Transaction, station_id: str, revision: int, site: str | None, name: str | None
) -> None:
    """Record where a station stands, if that is the newest word."""
    await connection.execute(_PUT_STATION, station_id, revision, site, name)


async def stations(connection: Transaction, station_ids: Iterable[str]) -> dict[str, asyncpg.Record]:
    """Site and name of these stations, as far as they are known."""
    return {row["station_id"]: row for row in await connection.fetch(_STATIONS, list(station_ids))}


@dataclass(frozen=True, slots=True)
class SessionNews:
    """What an event says of a session, or what is known of it."""

    id: UUID
    driver_id: str | None = None
    assignment: int = 0  # revision of the driver
    started: Mapping[str, Any] | None = None
    completed: Mapping[str, Any] | None = None


async def merge_sessions(connection: Transaction, news: Sequence[SessionNews], now: datetime) -> list[SessionNews]:
    """Add to what is known of these sessions, each once: first words stay, and of drivers the highest revision. What is
    known of them now, in the same order."""
    rows = await connection.fetch(
        _SESSIONS,
        now,
        [one.id for one in news],
        [one.driver_id for one in news],
        [one.assignment for one in news],
        [one.started and _json(one.started) for one in news],
        [one.completed and _json(one.completed) for one in news],
    )
    known = {
        row["id"]: SessionNews(
            row["id"], row["driver_id"], row["assignment"], _decoded(row["started"]), _decoded(row["completed"])
        )
        for row in rows
    }
    return [known[one.id] for one in news]


async def forget(database: Database, before: datetime) -> None:
    """Delete what events said before that moment."""
    for statement in _FORGET:
        await database.execute(statement, before)


def _json(document: Mapping[Any, Any]) -> str:
    return msgspec.json.encode(document).decode()


def _decoded(text: str | None) -> Mapping[str, Any] | None:
    return None if text is None else msgspec.json.decode(text)
