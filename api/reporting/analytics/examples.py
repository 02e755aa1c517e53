"""Examples of responses, for the API description."""

from typing import Any, Final

_DESCRIPTION: Final[dict[str, Any]] = {
    "metric": "occupancy",
    "unit": "1",
    "definition": "Share of the time in which connectors were occupied: …",
    "source": "status intervals and silences (telemetry.status_intervals)",
    "grouped_by": "quotient of sums",
}
METRICS: Final[dict[str, Any]] = {"metrics": [_DESCRIPTION]}
ANALYTICS: Final[dict[str, Any]] = {
    **_DESCRIPTION,
    "by": "day",
    "grouping": "site",
    "time_zone": "Europe/Berlin",
    "from": "2026-03-01T23:00:00Z",
    "to": "2026-03-02T23:00:00Z",
    "as_of": "2026-03-03T08:00:00Z",
    "pending_hours": 0,
    "figures": [
        {
            "group": "Airport",
            "start": "2026-03-01T23:00:00Z",
            "end": "2026-03-02T23:00:00Z",
            "currency": None,
            "value": 0.25,
            "sums": {"occupied_ms": 86_400_000, "known_ms": 345_600_000},
        }
    ],
    "next": None,
}
