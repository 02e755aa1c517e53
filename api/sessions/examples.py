"""Examples of responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

SESSION: Final[dict[str, Any]] = {
    "id": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
    "request_id": "3b241101-e2bb-4255-8caf-4136c566a962",
    "driver_id": "D-4711",
    "reservation_id": None,
    "station_id": "DE-VS-0001",
    "connector_id": 1,
    "session_id": "TX-4711",
    "state": "completed",
    "requested_at": "2026-03-29T07:40:41.250Z",
    "stop_requested_at": "2026-03-29T09:12:12.900Z",
    "started_at": "2026-03-29T07:41:00Z",
    "last_at": "2026-03-29T09:12:30Z",
    "ended_at": "2026-03-29T09:12:30Z",
    "end_reason": "ended",
    "energy_wh": 16482.25,
    "energy_uj": 59336100000000,
    "energy_source": "register",
    "estimated": False,
    "readings": 1098,
    "flagged": 2,
    "revision": 1,
    "currency": "EUR",
    "cost_excl_vat": "8.241125",
    "cost_incl_vat": "9.806939",
    "cost_parts": {"energy": "6.592900", "time": "0.000000", "parking": "1.148225", "flat": "0.500000"},
    "tariff_version": "c0a8f5d2-6a1b-4e0e-8f3a-5b7d9e2f4c61",
}
WAITING: Final[dict[str, Any]] = {
    "id": None,
    "request_id": "9f8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d",
    "driver_id": "D-4711",
    "reservation_id": "R-17",
    "station_id": "DE-VS-0001",
    "connector_id": 2,
    "session_id": None,
    "state": "requested",
    "requested_at": "2026-03-29T10:02:00.120Z",
    "stop_requested_at": None,
    "started_at": None,
    "last_at": None,
    "ended_at": None,
    "end_reason": None,
    "energy_wh": 0.0,
    "energy_uj": 0,
    "energy_source": None,
    "estimated": False,
    "readings": 0,
    "flagged": 0,
    "revision": 0,
    "currency": None,
    "cost_excl_vat": None,
    "cost_incl_vat": None,
    "cost_parts": None,
    "tariff_version": None,
}
SESSIONS: Final[dict[str, Any]] = {
    "completed": {"value": SESSION},
    "not started": {"value": WAITING},
}
REQUESTED: Final[dict[str, Any]] = {
    "request_id": "9f8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d",
    "state": "requested",
    "station_id": "DE-VS-0001",
    "connector_id": 2,
    "driver_id": "D-4711",
    "reservation_id": "R-17",
    "requested_at": "2026-03-29T10:02:00.120Z",
    "expires_at": "2026-03-29T10:17:00.120Z",
}
STOPPED: Final[dict[str, Any]] = {
    "id": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
    "request_id": "3b241101-e2bb-4255-8caf-4136c566a962",
    "state": "open",
    "stop_requested_at": "2026-03-29T09:12:12.900Z",
}
PAGE: Final[dict[str, Any]] = {"sessions": [SESSION], "next": None}
CANDIDATES: Final[dict[str, Any]] = {
    "type": "about:blank",
    "title": "Conflict",
    "status": 409,
    "detail": "2 sessions have the device's id 17: add station_id, or ask by the `id` of one of the candidates",
    "correlation_id": "6f0c2a4b8d9e4f61b0a7c3d2e1f00000",
    "candidates": [
        {
            "id": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
            "station_id": "DE-VS-0001",
            "connector_id": 1,
            "started_at": "2026-03-29T07:41:00.000Z",
        },
        {
            "id": "b1e6a3c2-95b4-5a0e-8f77-3d1b2c4d5e6f",
            "station_id": "DE-VS-0002",
            "connector_id": 1,
            "started_at": "2026-03-28T17:02:11.000Z",
        },
    ],
}
READINGS: Final[dict[str, Any]] = {
    "ts_ms": [1774770060000, 1774770075000],
    "boot": [None, None],
    "seq": [1, 2],
    "energy_mwh": [1000000, 1045833],
    "power_mw": [11000000, 11000000],
    "current_ma": [None, None],
    "status": [3, 3],
    "session_event": [1, 2],
    "flags": [0, 0],
    "end_ms": None,
}
