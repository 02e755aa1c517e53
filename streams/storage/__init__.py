"""The telemetry schema, the fenced commit, and the step's queries of stored rows."""
