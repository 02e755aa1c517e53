"""What a token may send beyond the number of its requests: readings, refused items, new stations, new weeks."""

from ingest.limits.telemetry import TelemetryBounds, TelemetryLimits

__all__ = ["TelemetryBounds", "TelemetryLimits"]
