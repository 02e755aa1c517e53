"""Examples of the answers for OpenAPI. Tests hold them to the models."""

from typing import Any, Final

SESSION: Final[dict[str, Any]] = {
    "id": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
    "station_id": "DE-VS-0001",
    "connector_id": 1,
    "session_id": "TX-4711",
    "state": "completed",
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
