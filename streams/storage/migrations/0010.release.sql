-- Readings of a station that was not registered, taken after all: as an event they go the way of every reading, and what
-- is here says when.

ALTER TABLE telemetry.quarantine ADD COLUMN released_at timestamptz;
CREATE INDEX ON telemetry.quarantine (station_id, id) WHERE reason = 'unclaimed' AND released_at IS NULL;

-- The contract: marks these items as released and publishes the event that has their readings, both or neither. False:
-- not all of them wait any more, and nothing was done. Owner's rights, for the telemetry service only reads.
CREATE FUNCTION telemetry.release_unclaimed(items bigint[], event uuid, exchange text, routing_key text, body bytea)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM telemetry.quarantine AS q
    WHERE q.id = ANY(items) AND q.reason = 'unclaimed' AND q.released_at IS NULL ORDER BY q.id FOR UPDATE;
    IF (SELECT count(*) FROM telemetry.quarantine AS q
        WHERE q.id = ANY(items) AND q.reason = 'unclaimed' AND q.released_at IS NULL) <> cardinality(items) THEN
        RETURN false;
    END IF;
    UPDATE telemetry.quarantine AS q SET released_at = now() WHERE q.id = ANY(items);
    INSERT INTO telemetry.outbox (event_id, exchange, routing_key, body)
    VALUES (event, release_unclaimed.exchange, release_unclaimed.routing_key, release_unclaimed.body);
    PERFORM pg_notify('telemetry_outbox', '');
    RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION telemetry.release_unclaimed(bigint[], uuid, text, text, bytea) FROM PUBLIC;
