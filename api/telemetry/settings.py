"""Settings of the telemetry service."""

from schemas.settings import Lake


class TelemetrySettings(Lake):
    """Where readings are that were moved."""


GROUP = TelemetrySettings
