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
