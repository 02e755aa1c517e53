"""An example of a response, for OpenAPI. Tests validate it against the model."""

from typing import Any, Final

LEFT_OUT: Final[dict[str, Any]] = {
    "documents": [
        {
            "number": "2026-0000017",
            "kind": "invoice",
            "id": "7f0f7a0c-4f0e-4c1e-9d2d-8a9f0a2b3c4d",
            "session_id": "0e2f3a4b-5c6d-4e7f-8a9b-0c1d2e3f4a5b",
            "reservation_id": None,
            "station_id": "DE-VS-0001",
            "connector_id": 1,
            "missing": ["coordinates", "evse_id"],
        }
    ],
    "next": None,
}
