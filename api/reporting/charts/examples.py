"""Examples of responses for OpenAPI. Tests validate them against the models."""

from typing import Any, Final

HEAT_MAP: Final[dict[str, Any]] = {
    "metric": "energy_delivered",
    "title": "Energy delivered by hour of the week",
    "unit": "kWh",
    "definition": "What the meters of connectors rose by, …",
    "source": "1-minute windows of readings (telemetry.connector_hours)",
    "shape": "week",
    "from": "2026-03-01T00:00:00Z",
    "to": "2026-04-01T00:00:00Z",
    "time_zone": "Europe/Berlin",
    "computed_at": "2026-04-02T08:00:00Z",
    "pending_hours": 0,
    "rows": ["Mon"],
    "columns": ["00", "01", "02"],
    "values": [[12.5, 0.0, None]],
    "left_out": 0,
}
