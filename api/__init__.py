"""The services telemetry, sessions and pricing, one folder each: routes, service, store, models."""
