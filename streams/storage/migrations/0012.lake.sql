-- The lake: readings that were moved to Parquet files (docs/adr/0022).

-- Readings older than this are refused, so that nothing before it changes any more. Raised by a move, and part of the
-- fence of every commit.
ALTER TABLE telemetry.stream_offset ADD COLUMN border_ms bigint NOT NULL DEFAULT -9223372036854775808;

-- The files that count: one that is not here is no part of the lake. Written in the transaction that drops its rows.
CREATE TABLE telemetry.lake_file (
    path                text PRIMARY KEY,  -- below VOLTSTREAM_LAKE_URL
    kind                text NOT NULL,     -- the table that its rows are from
    day                 date NOT NULL,     -- UTC, the first of its rows
    partition           smallint NOT NULL,
    rows                bigint NOT NULL,
    bytes               bigint NOT NULL,
    content_hash        bytea NOT NULL,    -- of all values, column by column
    first_ts            timestamptz NOT NULL,
    last_ts             timestamptz NOT NULL,
    first_connector_key int NOT NULL,
    last_connector_key  int NOT NULL,
    moved_at            timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON telemetry.lake_file (kind, partition, last_ts);

-- Until when the readings of a connector may be moved: no pass over its timeline begins before. Of the last move.
CREATE TABLE telemetry.lake_cut (
    connector_key int PRIMARY KEY,
    partition     smallint NOT NULL,
    until         timestamptz NOT NULL
);

-- Weeks that were moved, but for what a pass may still read.
CREATE TABLE telemetry.lake_week (
    week     int PRIMARY KEY,  -- as in telemetry.week_start
    moved_at timestamptz NOT NULL DEFAULT now()
);

-- How the last attempts went.
CREATE TABLE telemetry.lake_status (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    attempted_at timestamptz,
    moved_at     timestamptz,
    fault        text  -- of the last attempt; null: none
);
INSERT INTO telemetry.lake_status DEFAULT VALUES;

-- The contract: the files in which readings of these sessions may be, besides those of telemetry.session_readings. To be
-- asked in the same snapshot as that. A file has rows of many connectors: choose by connector_key and session_key.
CREATE FUNCTION telemetry.session_lake_files(session_keys bigint[])
RETURNS TABLE (session_key bigint, connector_key int, path text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.session_key, s.connector_key, f.path
    FROM telemetry.session AS s JOIN telemetry.connector AS c USING (connector_key)
    JOIN telemetry.lake_file AS f ON f.kind = 'reading' AND f.partition = c.partition
        AND f.last_ts >= s.started_at - interval '1 day'
        AND f.first_ts <= coalesce(s.ended_at + interval '1 day', 'infinity')
        AND s.connector_key BETWEEN f.first_connector_key AND f.last_connector_key
    WHERE s.session_key = ANY(session_keys)
$$;
REVOKE EXECUTE ON FUNCTION telemetry.session_lake_files(bigint[]) FROM PUBLIC;

-- Coarse windows of minutes that were dropped: a row as the minutes came to, without `revision`. A column that window_1m
-- gets is to be added here too.
CREATE TABLE telemetry.window_15m_kept (LIKE telemetry.window_1m INCLUDING DEFAULTS);
ALTER TABLE telemetry.window_15m_kept DROP COLUMN revision, ADD PRIMARY KEY (connector_key, bucket);
CREATE INDEX ON telemetry.window_15m_kept USING brin (bucket);
CREATE TABLE telemetry.window_1h_kept (LIKE telemetry.window_15m_kept INCLUDING ALL);
CREATE TABLE telemetry.window_1d_kept (LIKE telemetry.window_15m_kept INCLUDING ALL);

-- Since when there are windows of a width; those of a day are there as long as any.
CREATE TABLE telemetry.window_retained (
    width    text PRIMARY KEY CHECK (width IN ('1m', '15m', '1h')),
    since_ms bigint NOT NULL DEFAULT 0
);
INSERT INTO telemetry.window_retained (width) VALUES ('1m'), ('15m'), ('1h');

-- Contract for reporting: the highest power of each of these sessions, by the windows of a minute that it reaches into,
-- or of a quarter where minutes were dropped. Of its first and its last one what the connector delivered to another one
-- counts, too. Null where no reading gave one.
CREATE FUNCTION telemetry.session_peaks(sessions uuid[])
RETURNS TABLE (id uuid, power_mw bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.id, w.power_mw
    FROM telemetry.session AS s CROSS JOIN LATERAL (
        SELECT max(m.power_mw_max) AS power_mw FROM (
            SELECT power_mw_max FROM telemetry.window_1m
            WHERE connector_key = s.connector_key AND bucket >= date_trunc('minute', s.started_at)
              AND bucket <= coalesce(s.ended_at, s.last_at) AND power_mw_n > 0
            UNION ALL
            SELECT power_mw_max FROM telemetry.window_15m_kept
            WHERE connector_key = s.connector_key AND bucket >= date_bin('15 minutes', s.started_at, 'epoch')
              AND bucket <= coalesce(s.ended_at, s.last_at) AND power_mw_n > 0
        ) AS m
    ) AS w
    WHERE s.id = ANY(sessions)
$$;
REVOKE EXECUTE ON FUNCTION telemetry.session_peaks(uuid[]) FROM PUBLIC;

-- Contract for reporting: sums of windows by connector and hour. Question i is (stations[i], hours[i]): a station and the
-- first moment of an hour. A row for each connector with readings in it, with the place of the question from 0. Of power
-- the sums and counts of its four quarters; of energy what is of sessions and what is outside of any.
CREATE FUNCTION telemetry.connector_hours(stations text[], hours timestamptz[])
RETURNS TABLE (place int, connector_id smallint, in_session_mwh bigint, outside_mwh bigint, power_mw_n bigint[],
               power_mw_sum bigint[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (asked.place - 1)::int, c.connector_id, w.in_session_mwh, w.outside_mwh,
           ARRAY[w.n1, w.n2 - w.n1, w.n3 - w.n2, w.n - w.n3], ARRAY[w.p1, w.p2 - w.p1, w.p3 - w.p2, w.p - w.p3]
    FROM unnest(stations, hours) WITH ORDINALITY AS asked (station_id, hour, place)
    JOIN telemetry.connector AS c ON c.station_id = asked.station_id COLLATE "C"
    CROSS JOIN LATERAL (
        SELECT hour + interval '15 minutes' AS q1, hour + interval '30 minutes' AS q2,
               hour + interval '45 minutes' AS q3, hour + interval '1 hour' AS until
    ) AS quarter
    CROSS JOIN LATERAL (  -- up to the end of each quarter; a sum of nothing is null
        SELECT count(*) AS windows, sum(in_session_mwh_sum)::bigint AS in_session_mwh,
               sum(outside_mwh_sum)::bigint AS outside_mwh,
               coalesce(sum(m.power_mw_n) FILTER (WHERE m.bucket < q1), 0) AS n1,
               coalesce(sum(m.power_mw_n) FILTER (WHERE m.bucket < q2), 0) AS n2,
               coalesce(sum(m.power_mw_n) FILTER (WHERE m.bucket < q3), 0) AS n3,
               sum(m.power_mw_n) AS n,
               coalesce(sum(m.power_mw_sum) FILTER (WHERE m.bucket < q1), 0)::bigint AS p1,
               coalesce(sum(m.power_mw_sum) FILTER (WHERE m.bucket < q2), 0)::bigint AS p2,
               coalesce(sum(m.power_mw_sum) FILTER (WHERE m.bucket < q3), 0)::bigint AS p3,
               sum(m.power_mw_sum)::bigint AS p
        FROM (
            SELECT bucket, in_session_mwh_sum, outside_mwh_sum, power_mw_n, power_mw_sum
            FROM telemetry.window_1m
            WHERE connector_key = c.connector_key AND bucket >= asked.hour AND bucket < until
            UNION ALL
            SELECT bucket, in_session_mwh_sum, outside_mwh_sum, power_mw_n, power_mw_sum
            FROM telemetry.window_15m_kept
            WHERE connector_key = c.connector_key AND bucket >= asked.hour AND bucket < until
        ) AS m
    ) AS w
    WHERE w.windows > 0
$$;
REVOKE EXECUTE ON FUNCTION telemetry.connector_hours(text[], timestamptz[]) FROM PUBLIC;
