-- Items of the quarantine that are read again (docs/adr/0023): each row says when, by whom and by which request, and stays.
-- Readings of stations that were not registered were the first that could be; what is known of them has the same name now.

ALTER TABLE telemetry.quarantine RENAME COLUMN released_at TO replayed_at;
ALTER TABLE telemetry.quarantine ADD COLUMN replayed_by text, ADD COLUMN replay_correlation_id text;
CREATE INDEX ON telemetry.quarantine (id) WHERE replayed_at IS NULL;

-- Of `quarantined`, the items that were taken again since; each of them is in `accepted` once more.
ALTER TABLE telemetry.ledger ADD COLUMN replayed bigint NOT NULL DEFAULT 0;

-- The contract: items that wait, by id, locked until the caller's transaction ends; those that another one has are left
-- out. A parameter that is NULL excludes nothing. At least one item, and no more than items_max and bytes_max.
CREATE FUNCTION telemetry.lock_quarantined(
    only_ids bigint[], only_reason text, only_station text, since timestamptz, until timestamptz, above bigint,
    items_max int, bytes_max bigint
) RETURNS TABLE (id bigint, reason text, received_at timestamptz, raw bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Put together, so that each set of conditions is planned for the index that it has.
    RETURN QUERY EXECUTE
        'WITH locked AS MATERIALIZED ('
        'SELECT q.id, octet_length(q.raw) AS bytes FROM telemetry.quarantine AS q WHERE q.replayed_at IS NULL AND q.id > $6'
        || CASE WHEN only_ids IS NULL THEN '' ELSE ' AND q.id = ANY($1)' END
        || CASE WHEN only_reason IS NULL THEN '' ELSE ' AND q.reason = $2' END
        || CASE WHEN only_station IS NULL THEN '' ELSE ' AND q.station_id = $3' END
        || CASE WHEN since IS NULL THEN '' ELSE ' AND q.received_at >= $4' END
        || CASE WHEN until IS NULL THEN '' ELSE ' AND q.received_at < $5' END
        || ' ORDER BY q.id LIMIT $7 FOR UPDATE SKIP LOCKED'
        '), chosen AS ('
        'SELECT l.id, sum(l.bytes) OVER (ORDER BY l.id) - l.bytes AS before FROM locked AS l'
        ') SELECT q.id, q.reason, q.received_at, q.raw FROM chosen AS c JOIN telemetry.quarantine AS q USING (id) '
        'WHERE c.before < $8 ORDER BY q.id'
        USING only_ids, only_reason, only_station, since, until, above, items_max, bytes_max;
END
$$;

-- The contract: marks these items, which the caller's transaction has locked, as read again. `counted`: what each counts for
-- in the ledger, which is more than 1 for a frame that was kept whole.
CREATE FUNCTION telemetry.mark_replayed(marked bigint[], counted int[], who text, correlation text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed bigint;
BEGIN
    UPDATE telemetry.quarantine AS q SET replayed_at = now(), replayed_by = who, replay_correlation_id = correlation
    WHERE q.id = ANY(marked) AND q.replayed_at IS NULL;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> cardinality(marked) THEN
        RAISE EXCEPTION 'of % items % waited', cardinality(marked), changed;
    END IF;
    PERFORM FROM telemetry.ledger AS l ORDER BY l.partition FOR NO KEY UPDATE;  -- in one order, whoever does it
    UPDATE telemetry.ledger AS l SET replayed = l.replayed + s.items
    FROM (
        SELECT q.partition, sum(m.items) AS items FROM unnest(marked, counted) AS m (id, items)
        JOIN telemetry.quarantine AS q USING (id) GROUP BY q.partition
    ) AS s
    WHERE l.partition = s.partition;
END
$$;

CREATE OR REPLACE FUNCTION telemetry.release_unclaimed(
    items bigint[], event uuid, exchange text, routing_key text, body bytea
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM telemetry.quarantine AS q
    WHERE q.id = ANY(items) AND q.reason = 'unclaimed' AND q.replayed_at IS NULL ORDER BY q.id FOR UPDATE;
    IF (SELECT count(*) FROM telemetry.quarantine AS q
        WHERE q.id = ANY(items) AND q.reason = 'unclaimed' AND q.replayed_at IS NULL) <> cardinality(items) THEN
        RETURN false;
    END IF;
    INSERT INTO telemetry.outbox (event_id, exchange, routing_key, body)
    VALUES (event, release_unclaimed.exchange, release_unclaimed.routing_key, release_unclaimed.body);
    PERFORM pg_notify('telemetry_outbox', '');
    PERFORM telemetry.mark_replayed(items, array_fill(1, ARRAY[cardinality(items)]), NULL, NULL);
    RETURN true;
END
$$;

REVOKE EXECUTE ON FUNCTION
    telemetry.lock_quarantined(bigint[], text, text, timestamptz, timestamptz, bigint, int, bigint),
    telemetry.mark_replayed(bigint[], int[], text, text)
FROM PUBLIC;
