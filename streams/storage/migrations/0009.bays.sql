-- When parking bays were occupied and free, by the events of their sensors (docs/adr/0020). An interval ends where the
-- bay's next one begins.
CREATE TABLE telemetry.bay_interval (
    connector_key int NOT NULL,               -- of the station's connector 0
    bay           text COLLATE "C" NOT NULL,  -- as the sensor names it
    since         timestamptz NOT NULL,       -- event time
    occupied      boolean NOT NULL,
    revision      bigint NOT NULL,            -- the partition's commit that wrote it
    PRIMARY KEY (connector_key, bay, since)
);
CREATE INDEX ON telemetry.bay_interval USING brin (since);  -- for retention

-- The contract: the intervals of these stations' bays that are not over at from_moment and begin before to_moment.
-- `until` is null where the interval is not over at to_moment. Owner's rights, as telemetry.session_readings.
CREATE FUNCTION telemetry.bay_intervals(stations text[], from_moment timestamptz, to_moment timestamptz)
RETURNS TABLE (station_id text, bay text, since timestamptz, until timestamptz, occupied boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.station_id, i.bay, i.since, CASE WHEN i.until < to_moment THEN i.until END, i.occupied
    FROM telemetry.connector AS c CROSS JOIN LATERAL (
        SELECT b.bay, b.since, b.occupied, lead(b.since) OVER (PARTITION BY b.bay ORDER BY b.since) AS until
        FROM telemetry.bay_interval AS b WHERE b.connector_key = c.connector_key
    ) AS i
    WHERE c.station_id = ANY(stations) AND c.connector_id = 0
      AND i.since < to_moment AND (i.until IS NULL OR i.until > from_moment)
$$;
REVOKE EXECUTE ON FUNCTION telemetry.bay_intervals(text[], timestamptz, timestamptz) FROM PUBLIC;
