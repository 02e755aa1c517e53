-- Without TimescaleDB: native partitions of seven days (see WEEK_MS in streams/storage/tables.py), made before they are needed.
-- The functions run with their owner's rights: who writes readings need not be allowed to make tables.

CREATE OR REPLACE FUNCTION telemetry.partition_by_week(parent text, moment text, storage text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE telemetry.%I RENAME TO %I', parent, parent || '_model');
    EXECUTE format('CREATE TABLE telemetry.%I (LIKE telemetry.%I INCLUDING ALL) PARTITION BY RANGE (%I)',
                   parent, parent || '_model', moment);
    EXECUTE format('DROP TABLE telemetry.%I', parent || '_model');
    EXECUTE format('COMMENT ON TABLE telemetry.%I IS %L', parent, storage);  -- read by ensure_weeks
END $$;

-- Week n is [epoch + n * 7 days, epoch + (n + 1) * 7 days) in UTC.
CREATE OR REPLACE FUNCTION telemetry.week_start(week int) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT to_timestamp(week::bigint * 604800) $$;

CREATE OR REPLACE FUNCTION telemetry.week_table(parent text, week int) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT parent || '_' || to_char(telemetry.week_start(week) AT TIME ZONE 'UTC', 'YYYYMMDD')
$$;

-- Make what is missing. Attaching takes no lock that stops writers, unlike CREATE TABLE … PARTITION OF.
CREATE OR REPLACE FUNCTION telemetry.ensure_weeks(weeks int[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
    week int;
    child text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['reading', 'window_1m'] LOOP
        FOREACH week IN ARRAY weeks LOOP
            child := telemetry.week_table(parent, week);
            CONTINUE WHEN to_regclass(format('telemetry.%I', child)) IS NOT NULL;
            PERFORM pg_advisory_xact_lock(hashtext('telemetry.ensure_weeks'));
            -- Not to_regclass: it may answer from its cache, which waiting for this lock does not renew.
            CONTINUE WHEN EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                  WHERE n.nspname = 'telemetry' AND c.relname = child);
            EXECUTE format('CREATE TABLE telemetry.%I (LIKE telemetry.%I INCLUDING ALL) %s',
                           child, parent, obj_description(format('telemetry.%I', parent)::regclass));
            EXECUTE format('ALTER TABLE telemetry.%I ATTACH PARTITION telemetry.%I FOR VALUES FROM (%L) TO (%L)',
                           parent, child, telemetry.week_start(week), telemetry.week_start(week + 1));
        END LOOP;
    END LOOP;
END $$;

-- Tell the index about pages written since: until then every query has to read them all.
CREATE OR REPLACE FUNCTION telemetry.summarize_weeks(weeks int[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    index regclass;
BEGIN
    FOR index IN
        SELECT i.indexrelid FROM unnest(weeks) AS week
        JOIN pg_index i ON i.indrelid = to_regclass(format('telemetry.%I', telemetry.week_table('reading', week)))
        JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam AND a.amname = 'brin'
    LOOP
        PERFORM brin_summarize_new_values(index);
    END LOOP;
END $$;

-- Drop the weeks of raw readings that end at or before the moment.
CREATE OR REPLACE FUNCTION telemetry.drop_readings(before timestamptz) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child text;
    dropped int := 0;
BEGIN
    FOR child IN
        SELECT c.relname FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
        WHERE h.inhparent = 'telemetry.reading'::regclass
          AND right(c.relname, 8)::date::timestamp AT TIME ZONE 'UTC' + interval '7 days' <= before
    LOOP
        EXECUTE format('DROP TABLE telemetry.%I', child);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- The weeks that have a piece of this table.
CREATE OR REPLACE FUNCTION telemetry.weeks_of(parent text) RETURNS SETOF int
LANGUAGE sql STABLE AS $$
    SELECT (extract(epoch FROM right(c.relname, 8)::date::timestamp AT TIME ZONE 'UTC') / 604800)::int
    FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
    WHERE h.inhparent = format('telemetry.%I', parent)::regclass
$$;

-- Keep the windows of a minute as they are until the transaction ends. The parent, because drop_windows locks it: who
-- writes has locked it before a week's table, and would wait for that while this waits for the parent.
CREATE OR REPLACE FUNCTION telemetry.lock_windows() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE ONLY telemetry.window_1m IN EXCLUSIVE MODE;
END $$;

CREATE OR REPLACE FUNCTION telemetry.drop_windows(week int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('DROP TABLE telemetry.%I', telemetry.week_table('window_1m', week));
END $$;

-- Drop the rows of a week that telemetry.lake_cut lets go, `expected` of them, and keep the others. `moment`: the column
-- by which they are of a week. Behind the border these change no more (docs/adr/0022), so that they are counted before
-- the lock; through the parent, because who drops a week locks that before the week's table, too. Writers of all weeks
-- wait while what stays is copied: the parent is locked first, as in lock_windows.
CREATE OR REPLACE FUNCTION telemetry.drop_moved(parent text, moment text, week int, expected bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child text := telemetry.week_table(parent, week);
    kept bigint;
    moved bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM telemetry.%1$I AS r JOIN telemetry.lake_cut AS k USING (connector_key) '
                   'WHERE r.%2$I >= %3$L AND r.%2$I < %4$L AND r.%2$I < k.until',
                   parent, moment, telemetry.week_start(week), telemetry.week_start(week + 1)) INTO moved;
    IF moved <> expected THEN
        RAISE EXCEPTION 'week % has % rows to be moved, the files have %', week, moved, expected
            USING ERRCODE = 'serialization_failure';
    END IF;
    EXECUTE format('LOCK TABLE ONLY telemetry.%I IN EXCLUSIVE MODE', parent);
    EXECUTE format('CREATE TABLE telemetry.%I (LIKE telemetry.%I INCLUDING ALL) %s',
                   child || '_kept', parent, obj_description(format('telemetry.%I', parent)::regclass));
    EXECUTE format('INSERT INTO telemetry.%I SELECT r.* FROM telemetry.%I AS r LEFT JOIN telemetry.lake_cut AS k '
                   'USING (connector_key) WHERE k.until IS NULL OR r.%I >= k.until', child || '_kept', child, moment);
    GET DIAGNOSTICS kept = ROW_COUNT;
    EXECUTE format('DROP TABLE telemetry.%I', child);
    IF kept = 0 THEN
        EXECUTE format('DROP TABLE telemetry.%I', child || '_kept');
        RETURN;
    END IF;
    EXECUTE format('ALTER TABLE telemetry.%I RENAME TO %I', child || '_kept', child);
    EXECUTE format('ALTER TABLE telemetry.%I ATTACH PARTITION telemetry.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, child, telemetry.week_start(week), telemetry.week_start(week + 1));
END $$;
