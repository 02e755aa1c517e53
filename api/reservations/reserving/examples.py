"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

NEW: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "connector_id": 1,
    "starts_at": "2026-03-29T17:00:00Z",
    "duration_s": 3_600,
}
NEW_OF_PLUG: Final[dict[str, Any]] = {
    "site": "Hamburg Nord",
    "standard": "IEC_62196_T2_COMBO",
    "power_w_min": 150_000,
    "duration_s": 1_800,
}
NEW_BAY: Final[dict[str, Any]] = {"station_id": "DE-VS-0001", "bay": "B1", "duration_s": 3_600, "hold": True}
RESERVATION: Final[dict[str, Any]] = {
    "id": "6d1f0a52-6a2f-4f0b-9a37-0e8f3c6a5d10",
    "driver_id": "D-4711",
    "station_id": "DE-VS-0001",
    "connector_id": 1,
    "bay": None,
    "starts_at": "2026-03-29T17:00:00Z",
    "ends_at": "2026-03-29T18:00:00Z",
    "state": "confirmed",
    "revision": 1,
    "held_until": None,
    "cancel_free_until": "2026-03-29T16:30:00Z",
    "late_at": "2026-03-29T17:15:00Z",
    "reason": None,
    "moved_from": None,
    "session_id": None,
    "charged": False,
    "created_at": "2026-03-29T09:00:00Z",
}
DETAILS: Final[dict[str, Any]] = {
    **RESERVATION,
    "state": "used",
    "revision": 3,
    "session_id": "7d4f0d0e-3f0c-5d5c-9c54-0f5f6a1f2b11",
    "charged": True,
    "idle_fee": {"price_per_hour": "6.00", "vat_percent": "19", "currency": "EUR", "depends": False},
    "stay": {
        "since": "2026-03-29T17:02:00Z",
        "charging": True,
        "idle_since": None,
        "overstay_from": "2026-03-29T18:10:00Z",
        "reason": "reservation",
        "overstays": False,
    },
}
CANCELLED: Final[dict[str, Any]] = {
    **RESERVATION,
    "state": "cancelled",
    "revision": 2,
    "reason": "cancelled by the driver",
}
PAGE: Final[dict[str, Any]] = {"reservations": [RESERVATION], "next": None}
FREE_TIME: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "connector_id": 1,
    "bay": None,
    "starts_at": "2026-03-29T18:10:00.000Z",
    "latest_start": "2026-03-29T19:30:00.000Z",
}
TAKEN: Final[dict[str, Any]] = {
    "type": "about:blank",
    "title": "Conflict",
    "status": 409,
    "detail": "connector 1 of station DE-VS-0001 is taken then; next_free says when to try",
    "correlation_id": "6f0c2a4b8d9e4f61b0a7c3d2e1f00000",
    "next_free": [FREE_TIME],
}
