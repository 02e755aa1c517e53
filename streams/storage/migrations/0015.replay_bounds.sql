-- A replay ends: with the items that are there when it begins. What it takes may be set apart again, in new rows, which are
-- for the next one. And it may be asked for some stations only, or only what would become of items, which locks nothing.

DROP FUNCTION telemetry.lock_quarantined(bigint[], text, text, timestamptz, timestamptz, bigint, int, bigint);

-- The contract: items that wait, by id, in (above, up_to]. A parameter that is NULL excludes nothing. At least one item, and no
-- more than items_max and bytes_max. `locked`: until the caller's transaction ends; those that another one has are left out.
-- `only_stations` excludes what no station is known of, such as frames that were kept whole.
CREATE FUNCTION telemetry.items_to_replay(
    only_ids bigint[], only_reason text, only_stations text[], since timestamptz, until timestamptz,
    above bigint, up_to bigint, items_max int, bytes_max bigint, locked boolean
) RETURNS TABLE (id bigint, reason text, received_at timestamptz, raw bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Put together, so that each set of conditions is planned for the index that it has.
    RETURN QUERY EXECUTE
        'WITH found AS MATERIALIZED ('
        'SELECT q.id, octet_length(q.raw) AS bytes FROM telemetry.quarantine AS q '
        'WHERE q.replayed_at IS NULL AND q.id > $6 AND q.id <= $7'
        || CASE WHEN only_ids IS NULL THEN '' ELSE ' AND q.id = ANY($1)' END
        || CASE WHEN only_reason IS NULL THEN '' ELSE ' AND q.reason = $2' END
        || CASE WHEN only_stations IS NULL THEN '' ELSE ' AND q.station_id = ANY($3)' END
        || CASE WHEN since IS NULL THEN '' ELSE ' AND q.received_at >= $4' END
        || CASE WHEN until IS NULL THEN '' ELSE ' AND q.received_at < $5' END
        || ' ORDER BY q.id LIMIT $8'
        || CASE WHEN locked THEN ' FOR UPDATE SKIP LOCKED' ELSE '' END
        || '), chosen AS ('
        'SELECT f.id, sum(f.bytes) OVER (ORDER BY f.id) - f.bytes AS before FROM found AS f'
        ') SELECT q.id, q.reason, q.received_at, q.raw FROM chosen AS c JOIN telemetry.quarantine AS q USING (id) '
        'WHERE c.before < $9 ORDER BY q.id'
        USING only_ids, only_reason, only_stations, since, until, above, up_to, items_max, bytes_max;
END
$$;

-- The contract: the newest item; 0 where there is none.
CREATE FUNCTION telemetry.last_quarantined() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(max(id), 0) FROM telemetry.quarantine
$$;

REVOKE EXECUTE ON FUNCTION
    telemetry.items_to_replay(bigint[], text, text[], timestamptz, timestamptz, bigint, bigint, int, bigint, boolean),
    telemetry.last_quarantined()
FROM PUBLIC;

-- Items that were released before 0013 are marked, and were never counted: each counts for one. Exact where nothing was
-- replayed since, and elsewhere never too many.
UPDATE telemetry.ledger AS l SET replayed = greatest(l.replayed, marked.items)
FROM (SELECT partition, count(*) AS items FROM telemetry.quarantine WHERE replayed_at IS NOT NULL GROUP BY partition) AS marked
WHERE l.partition = marked.partition;
