"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

TARIFF: Final[dict[str, Any]] = {
    "country_code": "NL",
    "party_id": "VOL",
    "id": "DAY-NIGHT",
    "currency": "EUR",
    "type": "REGULAR",
    "elements": [
        {
            "price_components": [{"type": "ENERGY", "price": 0.29, "vat": 21, "step_size": 1}],
            "restrictions": {"start_time": "21:00", "end_time": "07:00"},
        },
        {"price_components": [{"type": "ENERGY", "price": 0.39, "vat": 21, "step_size": 1}]},
    ],
    "last_updated": "2026-03-01T09:00:00Z",
}
NEW_VERSION: Final[dict[str, Any]] = {
    "target": {"station_id": "DE-VS-0001"},
    "time_zone": "Europe/Amsterdam",
    "effective_from": "2026-04-01T00:00:00+02:00",
    "tariff": TARIFF,
}
PUBLIC_VERSION: Final[dict[str, Any]] = {
    "id": "1b0c5d3e-4e0f-4c69-9d25-0c4f7a5f4b11",
    "target": {"station_id": "DE-VS-0001"},
    "time_zone": "Europe/Amsterdam",
    "currency": "EUR",
    "effective_from": "2026-03-31T22:00:00.000Z",
    "published_at": "2026-03-29T09:00:00.000Z",
    "reason": "operator",
    "tariff": TARIFF,
}
VERSION: Final[dict[str, Any]] = {
    **PUBLIC_VERSION,
    "published_by": "operator/0d5f0f0e-7a86-4a3b-8c1e-5f2f6f0a9c33",
    "base_version": None,
}
PUBLISHED_VERSION: Final[dict[str, Any]] = {**VERSION, "warnings": []}
VERSION_PAGE: Final[dict[str, Any]] = {"versions": [VERSION], "next": None}
IN_FORCE: Final[dict[str, Any]] = {
    "station_id": "DE-VS-0001",
    "at": "2026-04-02T12:00:00.000Z",
    "version": PUBLIC_VERSION,
    "next": {"at": "2026-05-31T22:00:00.000Z", "version_id": "9f6f3a52-0c0f-4f0c-8d07-54a3b7a3e9d2"},
}
GROUP: Final[dict[str, Any]] = {"group": "airport", "stations": ["DE-VS-0001", "DE-VS-0002"], "next": None}
WITHOUT_TARIFF: Final[dict[str, Any]] = {"stations": ["DE-VS-0003"], "next": None}
DEMAND_RULE: Final[dict[str, Any]] = {
    "base_version": None,
    "raise_above_pct": "80",
    "lower_below_pct": "30",
    "bounds": {"min_factor": "0.8", "max_factor": "1.5", "min_price": None, "max_price": None},
    "step_pct": "5",
    "hold_s": 900,
}
DEMAND_STATE: Final[dict[str, Any]] = {
    "target": {"group": "airport"},
    "rule": DEMAND_RULE,
    "base": "1b0c5d3e-4e0f-4c69-9d25-0c4f7a5f4b11",
    "level": 2,
    "changed_at": "2026-03-29T09:00:00Z",
    "connectors": 40,
    "charging": 33,
}
