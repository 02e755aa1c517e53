"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

STATION_FACTS: Final[dict[str, Any]] = {
    "name": "Rathaus",
    "address": "Alexanderplatz 1",
    "city": "Berlin",
    "postal_code": "10178",
    "country": "DEU",
    "latitude": "52.520008",
    "longitude": "13.404954",
    "time_zone": "Europe/Berlin",
}
CONNECTOR_FACTS: Final[dict[str, Any]] = {
    "rated_power_w": 150_000,
    "standard": "IEC_62196_T2_COMBO",
    "format": "CABLE",
    "power_type": "DC",
    "evse_id": "DE*VLT*E1*1",
}
CONNECTOR: Final[dict[str, Any]] = {
    **CONNECTOR_FACTS,
    "station_id": "DE-VS-0001",
    "connector_id": 1,
    "changed_at": "2026-03-29T09:00:00Z",
}
SUMMARY: Final[dict[str, Any]] = {
    **STATION_FACTS,
    "station_id": "DE-VS-0001",
    "changed_at": "2026-03-29T09:00:00Z",
}
STATION: Final[dict[str, Any]] = {**SUMMARY, "connectors": [CONNECTOR]}
PAGE: Final[dict[str, Any]] = {"stations": [SUMMARY], "next": None}
