"""Telemetry's tables as the stream fills them: sessions with their readings, which billing reads by the contract."""

from typing import Any
from uuid import UUID

import psycopg

from billing.rating import MeterBefore, StoredReading
from billing.readings_source import StoredReadings
from kit.clock import from_ms, parse_rfc3339, to_ms
from schemas.events import SessionCompleted
from schemas.reading import Status
from schemas.session import END_REASON_NAMES, EndReason

WEEK_MS = 7 * 86_400_000
REASONS: dict[str, EndReason] = {name: EndReason(reason) for reason, name in END_REASON_NAMES.items()}
UJ_PER_MWH = 3_600_000

_CONNECTOR = """
INSERT INTO telemetry.connector (partition, station_id, connector_id) VALUES (0, %s, %s)
ON CONFLICT (station_id, connector_id) DO UPDATE SET partition = 0 RETURNING connector_key
"""
_SESSION = """
INSERT INTO telemetry.session (session_key, id, connector_key, session_id, started_at, last_at, ended_at, end_reason,
    energy_uj, integrated_uj, readings, flagged, void, revision, tariff_version)
VALUES ((SELECT coalesce(max(session_key), 0) + 1 FROM telemetry.session), %(id)s, %(connector_key)s, %(session_id)s,
    %(started_at)s, %(ended_at)s, %(ended_at)s, %(end_reason)s, %(energy_uj)s, 0, %(readings)s, %(flagged)s, %(void)s,
    %(revision)s, %(tariff_version)s)
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, ended_at = excluded.ended_at,
    last_at = excluded.last_at, end_reason = excluded.end_reason, energy_uj = excluded.energy_uj,
    readings = excluded.readings, flagged = excluded.flagged, void = excluded.void, revision = excluded.revision,
    tariff_version = excluded.tariff_version
RETURNING session_key
"""
_READING = """
INSERT INTO telemetry.reading (connector_key, session_key, ts, seq, energy_mwh, power_mw, current_ma, status, part,
    boot, session_event, flags, payload_hash)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, %s, 0)
"""
_BEFORE = """
UPDATE telemetry.session SET power_max_mw = %s, register_before_mwh = %s, register_before_at = %s, series_mwh = %s
WHERE session_key = %s
"""
ANYTHING = MeterBefore(power_max_mw=2_000_000_000)
"""A connector that delivers whatever a test says."""


def plain_readings(payload: SessionCompleted) -> StoredReadings:
    """Two readings, charging all the time: the energy and the times of the payload follow from them."""
    start_ms, end_ms = (to_ms(parse_rfc3339(text)) for text in (payload.started_at, payload.ended_at))
    first = StoredReading(start_ms, 0, 0, None, None, Status.CHARGING)
    readings = [first]
    if end_ms > start_ms or payload.energy_uj >= UJ_PER_MWH:
        readings.append(StoredReading(end_ms, 1, payload.energy_uj // UJ_PER_MWH, None, None, Status.CHARGING))
    return StoredReadings(readings, [0] * len(readings), ANYTHING)


class Telemetry:
    """The tables, filled by SQL."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def revision(self, session_id: UUID) -> int | None:
        """The stored revision of a session; None: it is unknown."""
        rows = self._run("SELECT revision FROM telemetry.session WHERE id = %s", session_id)
        return rows[0][0] if rows else None

    def complete(self, payload: SessionCompleted, stored: StoredReadings | None = None) -> None:
        """Store the session as of this event; `stored`: its readings, else plain ones."""
        stored = plain_readings(payload) if stored is None else stored
        with self._connection.transaction():
            row = self._connection.execute(_CONNECTOR, (payload.station_id, payload.connector_id)).fetchone()
            assert row is not None
            values: dict[str, Any] = {
                "id": payload.id,
                "connector_key": row[0],
                "session_id": payload.session_id,
                "started_at": payload.started_at,
                "ended_at": payload.ended_at,
                "end_reason": REASONS[payload.end_reason],
                "energy_uj": payload.energy_uj,
                "readings": payload.readings,
                "flagged": payload.flagged,
                "void": int(payload.void),
                "revision": payload.revision,
                "tariff_version": None if payload.pricing is None else payload.pricing.version,
            }
            self._connection.execute(_SESSION, values)
            self.set_readings(payload.id, stored)

    def set_readings(self, session_id: UUID, stored: StoredReadings) -> None:
        """Replace its readings, and what they are judged by; the session's row stays otherwise."""
        with self._connection.transaction():
            keys = "SELECT session_key, connector_key FROM telemetry.session WHERE id = %s"
            row = self._connection.execute(keys, (session_id,)).fetchone()
            assert row is not None
            session_key, connector_key = row
            before = stored.before
            moment = None if before.register_ms is None else from_ms(before.register_ms)
            judged = (before.power_max_mw, before.register_mwh, moment, before.series_mwh)
            self._connection.execute(_BEFORE, (*judged, session_key))
            self._connection.execute("DELETE FROM telemetry.reading WHERE session_key = %s", (session_key,))
            weeks = sorted({reading.ts_ms // WEEK_MS for reading in stored.readings})
            self._connection.execute("SELECT telemetry.ensure_weeks(%s)", (weeks,))
            rows = [
                (
                    *(connector_key, session_key, from_ms(r.ts_ms), r.seq, r.energy_mwh, r.power_mw, r.current_ma),
                    *(r.status, r.part, r.boot, flags),
                )
                for r, flags in zip(stored.readings, stored.flags, strict=True)
            ]
            self._connection.cursor().executemany(_READING, rows)

    def readings(self, session_id: UUID) -> int:
        """How many readings of a session are stored."""
        query = "SELECT count(*) FROM telemetry.reading JOIN telemetry.session USING (session_key) WHERE id = %s"
        return int(self._run(query, session_id)[0][0])

    def reopen(self, session_id: UUID) -> None:
        """A reading after its time-out has opened the session again, under the same revision."""
        self._run("UPDATE telemetry.session SET end_reason = 0, ended_at = NULL WHERE id = %s RETURNING 1", session_id)

    def forget(self, session_id: UUID) -> None:
        """The session was never there."""
        self.set_readings(session_id, StoredReadings((), (), ANYTHING))
        self._run("DELETE FROM telemetry.session WHERE id = %s RETURNING 1", session_id)

    def _run(self, query: str, *args: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.encode(), args).fetchall()
