"""Examples of files and responses for OpenAPI. Tests validate them."""

from typing import Any, Final

CSV: Final = (
    "station_id,name,city,country,connector_id,standard,rated_power_w\n"
    "DE-VS-0001,Rathaus,Berlin,DEU,1,IEC_62196_T2_COMBO,150000\n"
    "DE-VS-0001,,,,2,CHADEMO,50000\n"
)
LOCATIONS: Final[list[dict[str, Any]]] = [
    {
        "country_code": "DE",
        "party_id": "VLT",
        "id": "DE-VS-0001",
        "publish": True,
        "name": "Rathaus",
        "address": "Alexanderplatz 1",
        "city": "Berlin",
        "postal_code": "10178",
        "country": "DEU",
        "coordinates": {"latitude": "52.520008", "longitude": "13.404954"},
        "time_zone": "Europe/Berlin",
        "evses": [
            {
                "uid": "DE*VLT*E1*1",
                "evse_id": "DE*VLT*E1*1",
                "status": "AVAILABLE",
                "connectors": [
                    {
                        "id": "1",
                        "standard": "IEC_62196_T2_COMBO",
                        "format": "CABLE",
                        "power_type": "DC",
                        "max_voltage": 920,
                        "max_amperage": 500,
                        "max_electric_power": 150_000,
                        "last_updated": "2026-03-29T09:00:00Z",
                    }
                ],
                "last_updated": "2026-03-29T09:00:00Z",
            }
        ],
        "last_updated": "2026-03-29T09:00:00Z",
    }
]
RESULT: Final[dict[str, Any]] = {
    "dry_run": True,
    "written": False,
    "created": 1,
    "changed": 0,
    "unchanged": 3,
    "refused": 1,
    "stations": [
        {"line": 2, "station_id": "DE-VS-0001", "outcome": "created", "changes": [], "reason": None, "not_taken": []},
        {
            "line": 9,
            "station_id": "DE-VS-0005",
            "outcome": "refused",
            "changes": [],
            "reason": "country: is no ISO 3166-1 alpha-3 code; for DE write DEU",
            "not_taken": [],
        },
    ],
}
