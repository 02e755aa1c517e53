"""The telemetry schema, the fenced commit, and the questions of a step to stored rows."""
