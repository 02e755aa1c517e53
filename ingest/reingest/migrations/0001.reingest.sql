-- Beside the standard tables, of which the responses to requests that are repeated are used, the service has none: what was
-- replayed is said in telemetry.quarantine.
COMMENT ON SCHEMA reingest IS 'Responses of the service that replays items of the quarantine';
