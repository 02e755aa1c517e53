"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

_OPERATOR: Final[dict[str, Any]] = {"name": "Voltstream Charging", "website": "https://example.com", "logo": None}
PLACE: Final[dict[str, Any]] = {
    "name": "Rathaus",
    "address": "Alexanderplatz 1",
    "city": "Berlin",
    "postal_code": "10178",
    "country": "DEU",
    "latitude": "52.520008",
    "longitude": "13.404954",
    "time_zone": "Europe/Berlin",
    "site": "Alexanderplatz",
    "group": "city",
    "organisation": "Berlin",
}
STATION_FACTS: Final[dict[str, Any]] = {
    **PLACE,
    "operator": _OPERATOR,
    "suboperator": None,
    "owner": None,
    "site_power_w_max": 400_000,
    "silent_after_s": 3_600,
    "opening_hours": {
        "twentyfourseven": False,
        "regular_hours": [{"weekday": 1, "period_begin": "06:00", "period_end": "22:00"}],
        "exceptional_openings": [],
        "exceptional_closings": [{"period_begin": "2026-12-25T00:00:00Z", "period_end": "2026-12-26T00:00:00Z"}],
    },
    "charging_when_closed": True,
    "parking_type": "PARKING_GARAGE",
    "facilities": ["CAFE"],
    "directions": [{"language": "de", "text": "Einfahrt von der Karl-Liebknecht-Straße"}],
    "images": [],
    "related_locations": [
        {"latitude": "52.520100", "longitude": "13.404900", "name": {"language": "de", "text": "Einfahrt"}}
    ],
    "energy_mix": {
        "is_green_energy": True,
        "energy_sources": [{"source": "WIND", "percentage": 100.0}],
        "environ_impact": [],
        "supplier_name": "Nordwind",
        "energy_product_name": None,
    },
    "publish_allowed_to": [],
    "bays": [
        {
            "bay": "P1",
            "connectors": [1],
            "restrictions": ["EV_ONLY"],
            "length_cm": 520,
            "width_cm": 260,
            "height_cm_max": 210,
            "time_limit_s": 14_400,
        }
    ],
}
CONNECTOR_FACTS: Final[dict[str, Any]] = {
    "rated_power_w": 150_000,
    "standard": "IEC_62196_T2_COMBO",
    "format": "CABLE",
    "power_type": "DC",
    "evse_id": "DE*VLT*E1*1",
    "voltage_v_max": 920,
    "current_a_max": 500,
    "tariff_ids": ["VLT-DC"],
}
CONNECTOR: Final[dict[str, Any]] = {
    **CONNECTOR_FACTS,
    "station_id": "DE-VS-0001",
    "connector_id": 1,
    "changed_at": "2026-03-29T09:00:00Z",
}
DOCUMENT: Final[dict[str, Any]] = {**STATION_FACTS, "connectors": [{**CONNECTOR_FACTS, "connector_id": 1}]}
NEW_STATION: Final[dict[str, Any]] = {**DOCUMENT, "station_id": "DE-VS-0001"}
_KEY: Final[dict[str, Any]] = {"station_id": "DE-VS-0001", "revision": 1, "changed_at": "2026-03-29T09:00:00Z"}
SUMMARY: Final[dict[str, Any]] = {**PLACE, **_KEY}
STATION: Final[dict[str, Any]] = {**STATION_FACTS, **_KEY, "connectors": [CONNECTOR]}
PAGE: Final[dict[str, Any]] = {"stations": [SUMMARY], "next": None}
HISTORY: Final[dict[str, Any]] = {
    "changes": [
        {
            "revision": 1,
            "kind": "created",
            "changed_at": "2026-03-29T09:00:00Z",
            "changed_by": "operator/ops@example.com",
            "before": None,
            "after": STATION,
        }
    ],
    "next": None,
}
