-- One exchange for the lock and the count: each statement of the function sees what was committed before it.
CREATE FUNCTION reservations.lock_driver(driver text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('reservations/driver/' || driver, 0));
    RETURN (SELECT count(*) FROM reservations.reservation AS r WHERE r.driver_id = driver AND r.due_at IS NOT NULL);
END
$$;

-- Claims of a place are looked up by its key. The constraint's index serves only conditions on ranges, and the planner
-- took it for the time alone: it read all claims of the next weeks, of whatever place.
CREATE INDEX ON reservations.claim (place_key);

CREATE OR REPLACE FUNCTION reservations.claim(
    request uuid, driver text, station text, connector integer, reservation text, from_ms bigint, until_ms bigint
)
    RETURNS TABLE (reservation_id text, refused text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    starts timestamptz := timestamptz 'epoch' + from_ms * interval '1 millisecond';
    until  timestamptz := timestamptz 'epoch' + until_ms * interval '1 millisecond';
    place  reservations.place;
    own    uuid;
    other  record;
    given  uuid := CASE WHEN reservation ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN reservation::uuid END;
BEGIN
    INSERT INTO reservations.place (station_id, connector_id, registered) VALUES (station, connector, false)
        ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT place FROM reservations.place AS p WHERE p.station_id = station AND p.connector_id = connector;
    DELETE FROM reservations.claim AS c WHERE c.holder IN (
        SELECT past.holder FROM reservations.claim AS past
        WHERE past.kind <> 'reservation' AND past.place_key = place.place_key);

    -- The driver's own. One who is earlier than the buffer has it from now on, if it is free until then.
    SELECT r.id INTO own FROM reservations.reservation AS r
    WHERE r.driver_id = driver AND r.due_at IS NOT NULL
      AND (reservation IS NULL OR r.id = given)
      AND EXISTS (SELECT FROM reservations.claim AS c
                  WHERE c.holder = r.id AND c.place_key = place.place_key AND c.during && tstzrange(starts, until))
    ORDER BY r.starts_at LIMIT 1 FOR UPDATE;
    IF own IS NOT NULL THEN
        BEGIN
            UPDATE reservations.claim AS c SET during = tstzrange(starts, upper(c.during))
            WHERE c.holder = own AND lower(c.during) > starts;
            UPDATE reservations.reservation AS r SET request_id = request, request_until = until WHERE r.id = own;
            RETURN QUERY SELECT own::text, NULL::text;
            RETURN;
        EXCEPTION WHEN exclusion_violation THEN
            RETURN QUERY SELECT NULL::text, 'connector ' || connector || ' of station ' || station
                || ' is taken until your reservation begins; come again then';
            RETURN;
        END;
    END IF;
    SELECT r.* INTO other FROM reservations.reservation AS r WHERE r.id = given;
    IF FOUND THEN
        RETURN QUERY SELECT NULL::text, CASE
            WHEN other.driver_id <> driver THEN 'there is no reservation ' || reservation || ' of this driver'
            WHEN other.due_at IS NULL THEN 'reservation ' || reservation || ' is over: it is ' || other.state
            ELSE 'reservation ' || reservation || ' is for '
                 || coalesce('connector ' || other.connector_id, 'bay ' || other.bay) || ' of station '
                 || other.station_id || ' from ' || reservations.written(other.starts_at)
        END;
        RETURN;
    END IF;

    SELECT c.kind, r.id, r.driver_id, r.starts_at, r.ends_at INTO other
    FROM unnest(place.place_key || place.taken_with) AS wanted (key)
    JOIN reservations.claim AS c
        ON c.place_key = wanted.key
       AND c.during && tstzrange(starts, until)
    LEFT JOIN reservations.reservation AS r ON r.id = c.holder
    ORDER BY r.starts_at LIMIT 1;
    IF NOT FOUND THEN
        INSERT INTO reservations.claim (place_key, during, kind, holder)
            SELECT key, tstzrange(starts, until), 'start', request
            FROM (SELECT key FROM unnest(place.place_key || place.taken_with) AS keys (key) ORDER BY key) AS sorted
            ON CONFLICT DO NOTHING;
        IF (SELECT count(*) FROM reservations.claim AS c WHERE c.holder = request)
            = 1 + cardinality(place.taken_with) THEN
            RETURN QUERY SELECT reservation, NULL::text;
            RETURN;
        END IF;
        DELETE FROM reservations.claim AS c WHERE c.holder = request;
    END IF;
    IF other.driver_id = driver AND reservation IS NOT NULL THEN
        RETURN QUERY SELECT NULL::text, 'there is no reservation ' || reservation || ' of this driver, who has connector '
            || connector || ' of station ' || station || ' reserved as ' || other.id || ': give that one, or none';
        RETURN;
    END IF;
    RETURN QUERY SELECT NULL::text, 'connector ' || connector || ' of station ' || station || CASE
        WHEN other.kind = 'reservation' THEN ' is reserved for another driver from '
            || reservations.written(other.starts_at) || ' to ' || reservations.written(other.ends_at)
        ELSE ' has just been taken' END || '; choose another';
END
$$;
