-- For reporting: sessions by their end.

CREATE INDEX ON telemetry.session (ended_at) WHERE ended_at IS NOT NULL;
