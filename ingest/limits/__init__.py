"""What a token may send beyond the number of its requests: readings, refused items, new stations, new weeks."""

from ingest.limits.telemetry import RequestCosts, TelemetryBounds, TelemetryLimits

__all__ = ["RequestCosts", "TelemetryBounds", "TelemetryLimits"]
