"""Responses made from stored sessions and requests. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from api.sessions.models import Session, SessionState
from api.sessions.request_store import StoredRequest
from kit.clock import format_rfc3339
from kit.web.errors import Ambiguous
from schemas.session import END_REASON_NAMES, EXPLICIT_ENDS, hold_names

CANDIDATES_MAX: Final = 20  # of an ambiguous id: enough to choose from; a device that counts from 1 makes thousands

_MWH_UJ: Final = 3_600_000  # microjoules in a milliwatt-hour
_MICRO_WH_UJ: Final = 3_600  # microjoules in a millionth of a watt-hour
_MICRO: Final = 1_000_000

Row = Mapping[str, Any]
"""A row of telemetry.session_overview."""


def session_of(row: Row, request: StoredRequest | None) -> Session:
    """The response for a session that has started, with the request that it came of."""
    reason = END_REASON_NAMES.get(row["end_reason"])
    return Session.model_validate(
        {
            **{name: row[name] for name in ("id", "station_id", "connector_id", "session_id", "started_at", "last_at")},
            **{name: row[name] for name in ("ended_at", "energy_uj", "readings", "flagged", "revision")},
            "state": SessionState.OPEN if reason is None else _ended_state(row),
            "held": list(hold_names(row["hold"])),
            "energy_export_wh": row["export_mwh"] / 1_000,
            "rated_power_w": row["power_max_mw"] / 1_000,
            "end_reason": reason,
            "energy_wh": energy_wh(row["energy_uj"]),
            "energy_source": _energy_source(row),
            "estimated": (reason is not None and row["end_reason"] not in EXPLICIT_ENDS) or row["integrated_uj"] != 0,
            "currency": row["currency"],
            "cost_excl_vat": decimal_of(row["cost_excl_micros"]),
            "cost_incl_vat": decimal_of(row["cost_incl_micros"]),
            "cost_parts": None
            if row["cost_excl_micros"] is None
            else {part: decimal_of(row[f"cost_{part}_micros"]) for part in ("energy", "time", "parking", "flat")},
            "tariff_version": row["tariff_version"],
            **({} if request is None else _request_fields(request)),
        }
    )


def _ended_state(row: Row) -> SessionState:
    if row["hold"]:
        return SessionState.HELD
    return SessionState.VOID if row["void"] else SessionState.COMPLETED


def request_of(request: StoredRequest, now: datetime) -> Session:
    """The response for a request without a stored session."""
    return Session.model_validate(
        {
            "id": request.session_id,
            "station_id": request.station_id,
            "connector_id": request.connector_id,
            "session_id": None,
            "state": state_of(request, now),
            **dict.fromkeys(("started_at", "last_at", "end_reason", "energy_source")),
            "ended_at": request.completed_at,
            "energy_wh": 0.0,
            "estimated": False,
            **dict.fromkeys(("energy_uj", "readings", "flagged", "revision"), 0),
            **_request_fields(request),
        }
    )


def _request_fields(request: StoredRequest) -> dict[str, Any]:
    names = ("driver_id", "reservation_id", "requested_at", "stop_requested_at")
    return {"request_id": request.id, **{name: getattr(request, name) for name in names}}


def state_of(request: StoredRequest, now: datetime) -> SessionState:
    """State of a request."""
    if request.session_id is None:
        return SessionState.REQUESTED if now < request.expires_at else SessionState.EXPIRED
    return SessionState.OPEN if request.completed_at is None else SessionState.COMPLETED


def energy_wh(energy_uj: int) -> float:
    """Wh, exact where the energy is whole thousandths, else rounded half up to the millionth.

    The integer division is exact, and the nearest double prints the decimal: up to 1e9 Wh and beyond.
    """
    if energy_uj % _MWH_UJ == 0:
        return energy_uj // _MWH_UJ / 1e3
    return (2 * energy_uj + _MICRO_WH_UJ) // (2 * _MICRO_WH_UJ) / 1e6


def decimal_of(micros: int | None) -> str | None:
    """Millionths as a decimal number: 12340000 is "12.340000"."""
    if micros is None:
        return None
    whole, millionths = divmod(abs(micros), _MICRO)
    return f"{'-' if micros < 0 else ''}{whole}.{millionths:06d}"


def ambiguous(name: str, found: Sequence[tuple[UUID | None, str, int, datetime | None]]) -> Ambiguous:
    """The error for several sessions of one name: (id, station, connector, start) of each, newest first."""
    candidates: list[dict[str, object]] = [
        {
            "id": str(id_),
            "station_id": station_id,
            "connector_id": connector_id,
            "started_at": None if started_at is None else format_rfc3339(started_at),
        }
        for id_, station_id, connector_id, started_at in found[:CANDIDATES_MAX]
    ]
    how_many = f"{len(found)}" if len(found) <= CANDIDATES_MAX else f"more than {CANDIDATES_MAX}"
    return Ambiguous(
        f"{how_many} sessions have the device's id {name}: add station_id, or ask by the `id` of one of the candidates",
        candidates,
    )


def _energy_source(row: Row) -> Literal["register", "integrated", "mixed"] | None:
    if row["register_first_mwh"] is None:
        return "integrated" if row["integrated_uj"] else None
    return "mixed" if row["integrated_uj"] else "register"
