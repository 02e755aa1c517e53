"""Examples of a response for OpenAPI. Tests validate it against the model."""

from typing import Any, Final

PARKING: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "idle_fee": {"price_per_hour": "6.00", "vat_percent": "19", "currency": "EUR", "depends": False},
    "places": [
        {
            "connector_id": None,
            "bay": "B1",
            "registered": True,
            "occupied": True,
            "since": "2026-03-29T08:12:00Z",
            "charging": False,
            "idle_since": "2026-03-29T09:00:00Z",
            "overstay_from": "2026-03-29T09:10:00Z",
            "reason": "charging",
            "overstays": False,
        }
    ],
}
UNREGISTERED: Final[dict[str, Any]] = {
    "bays": [{"station_id": "DE-VS-0001", "bay": "B9", "occupied": True, "since": "2026-03-29T08:12:00Z"}],
    "next": None,
}
