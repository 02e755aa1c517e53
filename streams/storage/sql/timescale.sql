-- With TimescaleDB, whatever its licence: hypertables, whose chunks make themselves. Same functions as in plain.sql.

CREATE OR REPLACE FUNCTION telemetry.ensure_weeks(weeks int[]) RETURNS void
LANGUAGE sql AS $$ SELECT $$;

CREATE OR REPLACE FUNCTION telemetry.summarize_weeks(weeks int[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {extension_schema}, pg_temp AS $$
DECLARE
    index regclass;
BEGIN
    FOR index IN
        SELECT i.indexrelid FROM unnest(weeks) AS week
        CROSS JOIN LATERAL show_chunks(
            'telemetry.reading', newer_than => to_timestamp((week::bigint - 1) * 604800),
            older_than => to_timestamp((week::bigint + 2) * 604800)
        ) AS chunk
        JOIN pg_index i ON i.indrelid = chunk
        JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam AND a.amname = 'brin'
    LOOP
        PERFORM brin_summarize_new_values(index);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION telemetry.drop_readings(before timestamptz) RETURNS int
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, {extension_schema}, pg_temp AS $$
    SELECT count(*)::int FROM drop_chunks('telemetry.reading', older_than => before)
$$;

CREATE OR REPLACE FUNCTION telemetry.weeks_of(parent text) RETURNS SETOF int
LANGUAGE sql STABLE AS $$
    SELECT DISTINCT floor(extract(epoch FROM range_start) / 604800)::int FROM timescaledb_information.chunks
    WHERE hypertable_schema = 'telemetry' AND hypertable_name = parent
$$;

CREATE OR REPLACE FUNCTION telemetry.lock_windows() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {extension_schema}, pg_temp AS $$
BEGIN
    LOCK TABLE ONLY telemetry.window_1m IN EXCLUSIVE MODE;
END $$;

CREATE OR REPLACE FUNCTION telemetry.drop_windows(week int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {extension_schema}, pg_temp AS $$
BEGIN
    PERFORM drop_chunks('telemetry.window_1m', older_than => to_timestamp((week::bigint + 1) * 604800),
                        newer_than => to_timestamp(week::bigint * 604800));
END $$;

-- A chunk cannot be exchanged as a partition can: what is kept is put aside and stored again. Counted before the lock,
-- as in plain.sql.
CREATE OR REPLACE FUNCTION telemetry.drop_moved(parent text, moment text, week int, expected bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {extension_schema}, pg_temp AS $$
DECLARE
    since timestamptz := to_timestamp(week::bigint * 604800);
    week_end timestamptz := to_timestamp((week::bigint + 1) * 604800);
    moved bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM telemetry.%1$I AS r JOIN telemetry.lake_cut AS k USING (connector_key) '
                   'WHERE r.%2$I >= %3$L AND r.%2$I < %4$L AND r.%2$I < k.until',
                   parent, moment, since, week_end) INTO moved;
    IF moved <> expected THEN
        RAISE EXCEPTION 'week % has % rows to be moved, the files have %', week, moved, expected
            USING ERRCODE = 'serialization_failure';
    END IF;
    EXECUTE format('LOCK TABLE telemetry.%I IN EXCLUSIVE MODE', parent);
    EXECUTE format('CREATE TEMP TABLE kept_rows ON COMMIT DROP AS '
                   'SELECT r.* FROM telemetry.%1$I AS r LEFT JOIN telemetry.lake_cut AS k USING (connector_key) '
                   'WHERE r.%2$I >= %3$L AND r.%2$I < %4$L AND (k.until IS NULL OR r.%2$I >= k.until)',
                   parent, moment, since, week_end);
    PERFORM drop_chunks(format('telemetry.%I', parent)::regclass, older_than => week_end, newer_than => since);
    EXECUTE format('INSERT INTO telemetry.%I SELECT * FROM kept_rows', parent);
    DROP TABLE kept_rows;
END $$;
