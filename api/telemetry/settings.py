"""Settings of the telemetry queries."""

from schemas.settings import Lake

GROUP = Lake
