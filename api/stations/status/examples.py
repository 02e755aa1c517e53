"""Examples of responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

STATUS: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "at": "2026-03-29T09:00:00Z",
    "registered": True,
    "received": {"readings": 8_640, "newest_ts": "2026-03-29T08:59:52Z", "counted_at": "2026-03-29T08:59:52.3Z"},
    "connectors": [
        {
            "connector_id": 1,
            "registered": True,
            "evse_id": "DE*VLT*E1*1",
            "status": "Faulted",
            "reported": "Faulted",
            "free": False,
            "error_code": "GroundFailure",
            "since": "2026-03-29T08:41:00Z",
            "silent_since": None,
            "reserved_until": None,
            "occupied_by": None,
            "why": [
                {
                    "revision": 2,
                    "status": "Faulted",
                    "previous": "Available",
                    "error_code": "GroundFailure",
                    "since": "2026-03-29T08:41:00Z",
                }
            ],
        }
    ],
}
