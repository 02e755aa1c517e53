-- For reporting: sessions by station and end.

CREATE INDEX ON telemetry.session (connector_key, ended_at) WHERE ended_at IS NOT NULL;
