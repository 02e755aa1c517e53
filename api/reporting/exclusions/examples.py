"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

NEW: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "connector_id": 1,
    "from": "2026-03-12T06:00:00Z",
    "to": "2026-03-12T14:30:00Z",
    "reason": "utility_interruption",
    "note": "Notice 4711 of the grid operator",
}
EXCLUSION: Final[dict[str, Any]] = {
    "id": "0b8f5f0e-3f3b-4c53-9a0b-2f6e6c1d2a11",
    **NEW,
    "made_at": "2026-03-13T08:00:00Z",
    "made_by": "operator/6f1d2f0e-8a3f-4f0e-9c1e-2b6f6f1f7d11",
    "withdrawn_at": None,
    "withdrawn_by": None,
}
PAGE: Final[dict[str, Any]] = {"exclusions": [EXCLUSION], "next": None}
