-- What other services may ask of telemetry in SQL, and nothing else of the schema. Owner's rights: a reader needs none
-- on the tables.

CREATE VIEW telemetry.session_overview AS
SELECT s.session_key, s.id, s.connector_key, c.station_id, c.connector_id, s.session_id, s.started_at, s.last_at,
       s.ended_at, s.end_reason, s.energy_uj, s.integrated_uj, s.register_first_mwh, s.readings, s.flagged, s.revision,
       s.tariff_version, s.currency, s.cost_excl_micros, s.cost_incl_micros,
       s.cost_energy_micros, s.cost_time_micros, s.cost_parking_micros, s.cost_flat_micros
FROM telemetry.session AS s JOIN telemetry.connector AS c USING (connector_key);

-- All stored readings of these sessions, in no particular order. A reading that names a session may be a day older than
-- its start, or than its end newer. OFFSET 0 keeps the planner to one index scan a session.
CREATE FUNCTION telemetry.session_readings(session_keys bigint[])
RETURNS TABLE (session_key bigint, ts timestamptz, boot bigint, seq bigint, energy_mwh bigint, power_mw bigint,
               current_ma int, status smallint, session_event smallint, flags smallint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.session_key, r.ts, r.boot, r.seq, r.energy_mwh, r.power_mw, r.current_ma, r.status, r.session_event, r.flags
    FROM telemetry.session AS s CROSS JOIN LATERAL (
        SELECT * FROM telemetry.reading
        WHERE connector_key = s.connector_key AND session_key = s.session_key
          AND ts >= s.started_at - interval '1 day' AND ts <= coalesce(s.ended_at + interval '1 day', 'infinity')
        OFFSET 0
    ) AS r
    WHERE s.session_key = ANY(session_keys)
$$;
REVOKE EXECUTE ON FUNCTION telemetry.session_readings(bigint[]) FROM PUBLIC;
