"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

from api.reservations.reserving.examples import RESERVATION

NEW_WAITING: Final[dict[str, Any]] = {
    "site": "Hamburg Nord",
    "standard": "IEC_62196_T2_COMBO",
    "power_w_min": 150_000,
    "duration_s": 1_800,
}
WAITING: Final[dict[str, Any]] = {
    **NEW_WAITING,
    "id": "0f6c1b1e-6a55-4a3c-8c1e-7b7a9a1f3d22",
    "driver_id": "D-4711",
    "joined_at": "2026-03-29T09:00:00Z",
    "state": "waiting",
    "position": 2,
    "estimated_wait_s": 1_260,
    "skipped_until": None,
    "offer": None,
}
LINE: Final[dict[str, Any]] = {"waiting": [WAITING]}
ACCEPTED: Final[dict[str, Any]] = {
    **WAITING,
    "state": "accepted",
    "position": None,
    "estimated_wait_s": None,
    "offer": {**RESERVATION, "revision": 2, "starts_at": "2026-03-29T09:21:00Z", "ends_at": "2026-03-29T09:51:00Z"},
}
LEFT: Final[dict[str, Any]] = {**WAITING, "state": "left", "position": None, "estimated_wait_s": None}
