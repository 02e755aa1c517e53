-- One timeline per connector and the ledger of energy (docs/adr/0014).
ALTER TABLE telemetry.reading
    ADD COLUMN part              smallint NOT NULL DEFAULT 0,  -- without seq: its place among the readings of its ts
    -- 1: it gives the name of its session, as readings from before this column are taken to
    ADD COLUMN named             smallint NOT NULL DEFAULT 1,
    ADD COLUMN in_session_mwh    bigint,  -- what its register accounts for; null: nothing
    ADD COLUMN outside_mwh       bigint,
    ADD COLUMN rejected_mwh      bigint,
    ADD COLUMN energy_export_mwh bigint,  -- register of the energy fed back
    ADD COLUMN extra             text;    -- JSON: what has no column, and a session id that is not its session's

ALTER TABLE telemetry.window_1m
    ADD COLUMN in_session_mwh_sum bigint NOT NULL DEFAULT 0,
    ADD COLUMN outside_mwh_sum    bigint NOT NULL DEFAULT 0,
    ADD COLUMN rejected_mwh_sum   bigint NOT NULL DEFAULT 0;

ALTER TABLE telemetry.session
    ADD COLUMN explicit            smallint NOT NULL DEFAULT 0,  -- 1: begun by Started
    ADD COLUMN hold                smallint NOT NULL DEFAULT 0,  -- schemas.session.HoldReason
    ADD COLUMN void                smallint NOT NULL DEFAULT 0,  -- 1: below the operator's thresholds
    ADD COLUMN export_mwh          bigint NOT NULL DEFAULT 0,
    ADD COLUMN power_max_mw        bigint NOT NULL DEFAULT 1200000000,  -- by which its registers were judged
    ADD COLUMN register_before_mwh bigint,  -- the connector's last accepted register before it
    ADD COLUMN register_before_at  timestamptz,
    ADD COLUMN series_mwh          bigint,  -- the first register of the session before it
    ADD COLUMN register_after_mwh  bigint,  -- the connector's last accepted register at its end
    ADD COLUMN register_after_at   timestamptz;
UPDATE telemetry.session SET register_after_mwh = register_last_mwh, register_after_at = last_at
WHERE register_last_mwh IS NOT NULL;

DROP VIEW telemetry.session_overview;
CREATE VIEW telemetry.session_overview AS
SELECT s.session_key, s.id, s.connector_key, c.station_id, c.connector_id, s.session_id, s.started_at, s.last_at,
       s.ended_at, s.end_reason, s.energy_uj, s.integrated_uj, s.export_mwh, s.register_first_mwh, s.readings, s.flagged,
       s.hold, s.void, s.revision, s.tariff_version, s.currency, s.cost_excl_micros, s.cost_incl_micros,
       s.cost_energy_micros, s.cost_time_micros, s.cost_parking_micros, s.cost_flat_micros,
       s.power_max_mw, s.register_before_mwh, s.register_before_at, s.series_mwh
FROM telemetry.session AS s JOIN telemetry.connector AS c USING (connector_key);

-- All stored readings of these sessions, in no particular order. OFFSET 0 keeps the planner to one index scan a session.
DROP FUNCTION telemetry.session_readings(bigint[]);
CREATE FUNCTION telemetry.session_readings(session_keys bigint[])
RETURNS TABLE (session_key bigint, ts timestamptz, boot bigint, seq bigint, energy_mwh bigint, power_mw bigint,
               current_ma int, status smallint, session_event smallint, flags smallint, part smallint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.session_key, r.ts, r.boot, r.seq, r.energy_mwh, r.power_mw, r.current_ma, r.status, r.session_event, r.flags,
           r.part
    FROM telemetry.session AS s CROSS JOIN LATERAL (
        SELECT * FROM telemetry.reading
        WHERE connector_key = s.connector_key AND session_key = s.session_key
          AND ts >= s.started_at - interval '1 day' AND ts <= coalesce(s.ended_at + interval '1 day', 'infinity')
        OFFSET 0
    ) AS r
    WHERE s.session_key = ANY(session_keys)
$$;
REVOKE EXECUTE ON FUNCTION telemetry.session_readings(bigint[]) FROM PUBLIC;
