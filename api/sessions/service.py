"""The session queries. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

from api.errors import Ambiguous, BadQuery, NotFound
from api.paging import decode_cursor, encode_cursor
from api.sessions.models import Session, SessionState
from api.sessions.store import SessionCursor, SessionFilter, SessionStore, session_cursor
from kit.clock import format_rfc3339

CANDIDATES_MAX: Final = 20  # of an ambiguous id: enough to choose from; a device that counts from 1 makes thousands

# telemetry.session.end_reason, as streams/ writes it; 0 while open.
END_REASONS: Final = {1: "ended", 2: "freed", 3: "superseded", 4: "timeout"}
_NO_EXPLICIT_END: Final = frozenset({"superseded", "timeout"})

_MWH_UJ: Final = 3_600_000  # microjoules in a milliwatt-hour
_MICRO_WH_UJ: Final = 3_600  # microjoules in a millionth of a watt-hour


class SessionService:
    """The use cases, one method each."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def one(self, name: str, station_id: str | None) -> Session:
        """The session of voltstream's id, or else of the device's. Raises NotFound and Ambiguous."""
        row = await self._by_own_id(name, station_id)
        if row is not None:
            return session_of(row)
        rows = await self._store.by_name(name, station_id, CANDIDATES_MAX + 1)
        if not rows:
            where = f" at station {station_id}" if station_id else ""
            raise NotFound(f"no session {name}{where}, neither as voltstream's id nor as a device's")
        if len(rows) > 1:
            raise _ambiguous(name, rows)
        return session_of(rows[0])

    async def _by_own_id(self, name: str, station_id: str | None) -> Mapping[str, Any] | None:
        try:
            row = await self._store.by_id(UUID(name))
        except ValueError:
            return None
        return row if row is not None and station_id in (None, row["station_id"]) else None

    async def many(self, wanted: SessionFilter, limit: int, cursor: str | None) -> tuple[Sequence[Session], str | None]:
        """A page of sessions, newest start first, and the next page's cursor. Raises BadQuery."""
        if wanted.start and wanted.end and wanted.start >= wanted.end:
            bounds = f"from ({format_rfc3339(wanted.start)}) must be before to ({format_rfc3339(wanted.end)})"
            raise BadQuery(bounds)
        after = decode_cursor(cursor, SessionCursor) if cursor else None
        rows = await self._store.many(wanted, after, limit + 1)
        page = rows[:limit]
        return [session_of(row) for row in page], encode_cursor(session_cursor(page[-1])) if len(rows) > limit else None


def session_of(row: Mapping[str, Any]) -> Session:
    """The answer of a stored session."""
    reason = END_REASONS.get(row["end_reason"])
    return Session.model_validate(
        {
            **{name: row[name] for name in ("id", "station_id", "connector_id", "session_id", "started_at", "last_at")},
            **{name: row[name] for name in ("ended_at", "energy_uj", "readings", "flagged", "revision")},
            "state": SessionState.OPEN if reason is None else SessionState.COMPLETED,
            "end_reason": reason,
            "energy_wh": energy_wh(row["energy_uj"]),
            "energy_source": _energy_source(row),
            "estimated": reason in _NO_EXPLICIT_END or row["integrated_uj"] != 0,
        }
    )


def energy_wh(energy_uj: int) -> float:
    """Wh, exact where the energy is whole thousandths, else rounded half up to the millionth.

    The division is of integers and the double nearest to its decimal, which it prints: up to 1e9 Wh and beyond.
    """
    if energy_uj % _MWH_UJ == 0:
        return energy_uj // _MWH_UJ / 1e3
    return (2 * energy_uj + _MICRO_WH_UJ) // (2 * _MICRO_WH_UJ) / 1e6


def _energy_source(row: Mapping[str, Any]) -> Literal["register", "integrated", "mixed"] | None:
    if row["register_first_mwh"] is None:
        return "integrated" if row["integrated_uj"] else None
    return "mixed" if row["integrated_uj"] else "register"


def _ambiguous(name: str, rows: Sequence[Mapping[str, Any]]) -> Ambiguous:
    candidates: list[dict[str, object]] = [
        {
            "id": str(row["id"]),
            "station_id": row["station_id"],
            "connector_id": row["connector_id"],
            "started_at": format_rfc3339(row["started_at"]),
        }
        for row in rows[:CANDIDATES_MAX]
    ]
    how_many = f"{len(rows)}" if len(rows) <= CANDIDATES_MAX else f"more than {CANDIDATES_MAX}"
    return Ambiguous(
        f"{how_many} sessions have the device's id {name}: add station_id, or ask by the `id` of one of the candidates",
        candidates,
    )
