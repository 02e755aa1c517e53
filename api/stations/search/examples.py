"""Examples of responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

FOUND: Final[dict[str, Any]] = {
    "at": "2026-03-29T09:00:00Z",
    "stations": [
        {
            "station_id": "DE-VS-0001",
            "name": "Rathaus",
            "address": "Alexanderplatz 1",
            "city": "Berlin",
            "latitude": "52.520008",
            "longitude": "13.404954",
            "distance_m": 412.3,
            "open": True,
            "connectors": 2,
            "free": 1,
            "power_w_max": 150_000,
            "price_10_kwh": {"amount": "4.719000", "currency": "EUR"},
        }
    ],
    "next": None,
}
