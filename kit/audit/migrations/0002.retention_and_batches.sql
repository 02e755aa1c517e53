-- Retention that refuses arguments that say nothing and deletes in bounded steps; batches of a process that are written
-- once however often they are sent; indexes for what auditors ask.

-- Not checked for rows that are there: one that somebody added is a finding of `voltstream audit verify`.
ALTER TABLE audit.entry ADD CONSTRAINT entry_id_check CHECK (id > 0) NOT VALID;

CREATE INDEX entry_action_idx ON audit.entry (action, at, id);
CREATE INDEX entry_status_idx ON audit.entry (status, at, id) WHERE status IS NOT NULL;
CREATE INDEX entry_correlation_idx ON audit.entry (correlation_id, at, id);
CREATE INDEX block_kept_idx ON audit.block (number) WHERE forgotten_at IS NULL;

-- The last batch of entries of each process. Whether a batch was written is known after an answer that was lost, too.
CREATE TABLE audit.batch (
    source     text PRIMARY KEY,      -- the process
    number     bigint NOT NULL,
    written_at timestamptz NOT NULL
);

-- False: it was written before.
CREATE FUNCTION audit.record_batch(source text, number bigint, entries jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.batch AS b VALUES ($1, $2, clock_timestamp())
    ON CONFLICT ON CONSTRAINT batch_pkey DO UPDATE SET number = excluded.number, written_at = excluded.written_at
    WHERE b.number < excluded.number;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM audit.record($3);
    RETURN true;
END $$;

-- Deletes the entries of up to so many of the oldest blocks, of which all were recorded and sealed so many days ago, by
-- this server's clock, and adds an entry that it did; and up to 1,000 minutes of counted telemetry. Call it until it
-- deletes neither. Nothing that is younger than 360 days can be deleted by it.
-- A block is judged by when it was sealed too: a clock that was wrong for a while makes no entry old.
CREATE OR REPLACE FUNCTION audit.forget(days int, blocks_max int, telemetry_days int)
RETURNS TABLE (first_block bigint, last_block bigint, entries bigint, minutes bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    upto bigint;
    now_ timestamptz;
    moment timestamptz;
BEGIN
    IF $1 IS NULL OR $1 < 360 THEN
        RAISE EXCEPTION 'audit entries of the last 360 days are not deleted';
    END IF;
    IF $2 IS NULL OR $2 < 1 OR $3 IS NULL OR $3 < 1 THEN
        RAISE EXCEPTION 'audit.forget: give a number of blocks and of days, 1 or more';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.block', 0));
    now_ := clock_timestamp();
    moment := now_ - make_interval(days => $1);
    DELETE FROM audit.batch AS b WHERE b.written_at < now_ - interval '30 days';
    DELETE FROM audit.telemetry_minute AS t
    USING (SELECT m.minute, m.source FROM audit.telemetry_minute AS m
           WHERE m.minute < now_ - make_interval(days => $3) ORDER BY m.minute, m.source LIMIT 1000) AS old
    WHERE (t.minute, t.source) = (old.minute, old.source);
    GET DIAGNOSTICS minutes = ROW_COUNT;
    SELECT min(b.number),
           coalesce(min(b.number) FILTER (WHERE greatest(b.newest_at, b.sealed_at) >= moment) - 1, max(b.number))
    INTO first_block, last_block
    FROM (SELECT o.number, o.newest_at, o.sealed_at FROM audit.block AS o
          WHERE o.forgotten_at IS NULL ORDER BY o.number LIMIT $2) AS b;
    entries := 0;
    IF last_block >= first_block THEN
        SELECT b.last_id INTO upto FROM audit.block AS b WHERE b.number = last_block;
        DELETE FROM audit.entry AS e WHERE e.id <= upto;
        GET DIAGNOSTICS entries = ROW_COUNT;
        UPDATE audit.block AS b SET forgotten_at = now_, entry_ids = NULL, digests = NULL
        WHERE b.number BETWEEN first_block AND last_block;
        -- By this entry, sealed like any other, a check of the chain tells retention from whoever deletes.
        PERFORM pg_current_xact_id();
        INSERT INTO audit.entry (at, recorded_at, action, actor, role, token, correlation_id, address, requests, entity,
                                 before, reason)
        VALUES (now_, now_, 'audit.forgotten', 'retention', '', '', '', '', 1, 'audit',
                jsonb_build_object('first_block', first_block, 'last_block', last_block, 'entries', entries),
                'recorded before ' || to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
    ELSE
        first_block := NULL;
        last_block := NULL;
    END IF;
    RETURN NEXT;
END $$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA audit FROM PUBLIC;
