-- What connectors said of themselves, as intervals of one status and fault, and when stations were not heard
-- (docs/adr/0019).

-- An interval ends where its connector's next one begins. Of several that begin at one moment all but the last have no
-- length.
CREATE TABLE telemetry.status_interval (
    connector_key     int NOT NULL,
    since             timestamptz NOT NULL,  -- event time
    place             int NOT NULL,          -- among those of this moment
    status            smallint NOT NULL,     -- schemas.reading.Status
    error_code        text,
    vendor_error_code text,
    revision          bigint NOT NULL,       -- the partition's commit that wrote it
    PRIMARY KEY (connector_key, since, place)
);
CREATE INDEX ON telemetry.status_interval USING brin (since);  -- for retention

CREATE TABLE telemetry.silence (
    station_id text COLLATE "C" NOT NULL,
    since      timestamptz NOT NULL,  -- when it was last heard, by arrival
    until      timestamptz,           -- when it was heard again; null: not yet
    revision   bigint NOT NULL,
    PRIMARY KEY (station_id, since)
);

-- The intervals of these connectors that are not over at from_moment and begin before to_moment, silences (status -1)
-- among them. `until` is null where the interval is not over at to_moment. Of the caller's rights: for the schema's own
-- roles.
CREATE FUNCTION telemetry.status_intervals_of(keys int[], from_moment timestamptz, to_moment timestamptz)
RETURNS TABLE (connector_key int, since timestamptz, place int, until timestamptz, status smallint, error_code text,
               vendor_error_code text)
LANGUAGE sql STABLE AS $$
WITH wanted AS (
    SELECT c.connector_key, c.station_id, coalesce((
        SELECT max(i.since) FROM telemetry.status_interval AS i
        WHERE i.connector_key = c.connector_key AND i.since <= from_moment
    ), '-infinity') AS first
    FROM telemetry.connector AS c WHERE c.connector_key = ANY(keys)
), silence AS (
    SELECT w.connector_key, s.since, s.until FROM wanted AS w JOIN telemetry.silence AS s USING (station_id)
    WHERE s.since < to_moment AND (s.until IS NULL OR s.until > from_moment)
), point AS (
    SELECT i.connector_key, i.since AS at, i.place, i.status, i.error_code, i.vendor_error_code, 0 AS silence
    FROM wanted AS w JOIN telemetry.status_interval AS i
        ON i.connector_key = w.connector_key AND i.since >= w.first AND i.since < to_moment
    UNION ALL SELECT s.connector_key, s.since, 2147483647, NULL, NULL, NULL, 1 FROM silence AS s
    UNION ALL SELECT s.connector_key, s.until, -1, NULL, NULL, NULL, -1 FROM silence AS s WHERE s.until < to_moment
), counted AS (
    SELECT p.*, count(p.status) OVER o AS said, sum(p.silence) OVER o AS silent FROM point AS p
    WINDOW o AS (PARTITION BY p.connector_key ORDER BY p.at, p.place ROWS UNBOUNDED PRECEDING)
), shown AS (
    SELECT n.connector_key, n.at, n.place,
           CASE WHEN n.silent > 0 THEN -1 ELSE coalesce(first_value(n.status) OVER o, 0) END::smallint AS status,
           CASE WHEN n.silent <= 0 THEN first_value(n.error_code) OVER o END AS error_code,
           CASE WHEN n.silent <= 0 THEN first_value(n.vendor_error_code) OVER o END AS vendor_error_code
    FROM counted AS n WINDOW o AS (PARTITION BY n.connector_key, n.said ORDER BY n.at, n.place)
), compared AS (
    SELECT s.*, (s.status, s.error_code, s.vendor_error_code) IS DISTINCT FROM
                (lag(s.status) OVER o, lag(s.error_code) OVER o, lag(s.vendor_error_code) OVER o) AS begins
    FROM shown AS s WINDOW o AS (PARTITION BY s.connector_key ORDER BY s.at, s.place)
), ended AS (
    SELECT c.*, lead(c.at) OVER (PARTITION BY c.connector_key ORDER BY c.at, c.place) AS until
    FROM compared AS c WHERE c.begins
)
SELECT e.connector_key, e.at, e.place, e.until, e.status, e.error_code, e.vendor_error_code
FROM ended AS e WHERE e.status <> 0 AND (e.until IS NULL OR e.until > from_moment)
$$;

-- The contracts. Owner's rights, as telemetry.session_readings.
CREATE FUNCTION telemetry.status_intervals(stations text[], from_moment timestamptz, to_moment timestamptz)
RETURNS TABLE (station_id text, connector_id smallint, since timestamptz, place int, until timestamptz, status smallint,
               error_code text, vendor_error_code text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.station_id, c.connector_id, i.since, i.place, i.until, i.status, i.error_code, i.vendor_error_code
    FROM telemetry.status_intervals_of(
        ARRAY(SELECT connector_key FROM telemetry.connector WHERE station_id = ANY(stations)), from_moment, to_moment
    ) AS i JOIN telemetry.connector AS c USING (connector_key)
$$;
REVOKE EXECUTE ON FUNCTION telemetry.status_intervals(text[], timestamptz, timestamptz) FROM PUBLIC;

CREATE VIEW telemetry.connector_status AS
SELECT c.station_id, c.connector_id,
       CASE WHEN silent.is_open THEN -1 ELSE coalesce(i.status, 0) END::smallint AS status,
       CASE WHEN NOT silent.is_open THEN i.error_code END AS error_code,
       CASE WHEN NOT silent.is_open THEN i.vendor_error_code END AS vendor_error_code,
       CASE WHEN silent.is_open THEN s.since ELSE coalesce(i.since, s.until) END AS since,
       greatest(i.revision, s.revision) AS revision
FROM telemetry.connector AS c
LEFT JOIN LATERAL (
    SELECT * FROM telemetry.status_interval WHERE connector_key = c.connector_key
    ORDER BY since DESC, place DESC LIMIT 1
) AS i ON true
LEFT JOIN LATERAL (
    SELECT * FROM telemetry.silence WHERE station_id = c.station_id ORDER BY since DESC LIMIT 1
) AS s ON true
CROSS JOIN LATERAL (SELECT s.since IS NOT NULL AND s.until IS NULL AS is_open) AS silent
WHERE i.since IS NOT NULL OR s.since IS NOT NULL;
