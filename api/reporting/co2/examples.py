"""Examples of requests and responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

_ABOUT: Final[dict[str, Any]] = {
    "source": "Federal Environment Agency, CO2 emissions per kilowatt-hour of electricity, edition of April 2027",
    "from_year": 2026,
    "to_year": None,
    "fallback_name": "average of the EU",
}
_ROWS: Final[dict[str, Any]] = {
    "fallback": [{"year": 2026, "co2e_g_per_kwh": 200.5}],
    "factors": [{"year": 2026, "co2e_g_per_kwh": 330.125, "country": "DEU"}],
}
NEW: Final[dict[str, Any]] = {**_ABOUT, **_ROWS}
VERSION: Final[dict[str, Any]] = {
    **_ABOUT,
    "version": 2,
    "published_at": "2027-05-02T08:00:00Z",
    "published_by": "operator/6f1d2f0e-8a3f-4f0e-9c1e-2b6f6f1f7d11",
}
TABLE: Final[dict[str, Any]] = {**VERSION, **_ROWS}
VERSIONS: Final[dict[str, Any]] = {"versions": [VERSION]}
