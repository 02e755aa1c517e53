-- Reservations of connectors and parking bays. What is taken is a claim; no two claims of one place overlap.

CREATE SCHEMA IF NOT EXISTS reservations;

-- The registry's stations, by its events: of each the highest revision.
CREATE TABLE reservations.station (
    station_id text COLLATE "C" PRIMARY KEY,  -- upper case
    revision   int NOT NULL,
    site       text COLLATE "C",  -- stations of one site stand together
    removed    boolean NOT NULL
);
CREATE INDEX ON reservations.station (site) WHERE site IS NOT NULL AND NOT removed;

-- A connector or a parking bay. Never deleted: what is no longer registered may be registered again.
CREATE TABLE reservations.place (
    place_key       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id      text COLLATE "C" NOT NULL,
    connector_id    smallint,
    bay             text COLLATE "C",
    registered      boolean NOT NULL,  -- false: only seen in a start request or in a session, or removed
    standard        text,  -- of a connector: OCPI ConnectorType
    rated_power_w   int,
    restrictions    text[] NOT NULL DEFAULT '{}',  -- of a bay
    -- What is taken with it: with a bay its connectors; with a connector the bay, if only one reaches it.
    taken_with      bigint[] NOT NULL DEFAULT '{}',
    status          text,  -- of a connector: the newest
    status_revision int NOT NULL DEFAULT -1,
    idle_since      timestamptz,  -- a vehicle stands there and does not charge
    CHECK ((connector_id IS NULL) <> (bay IS NULL)),
    UNIQUE (station_id, connector_id),
    UNIQUE (station_id, bay)
);

-- Who holds a place when: a reservation with its buffer times, a request to start, or a session for as long as it is
-- expected to last. Rows go when what they are for is over.
CREATE TABLE reservations.claim (
    place_key bigint NOT NULL REFERENCES reservations.place,
    during    tstzrange NOT NULL CHECK (NOT isempty(during) AND NOT lower_inf(during) AND NOT upper_inf(during)),
    kind      text NOT NULL CHECK (kind IN ('reservation', 'start', 'session')),
    holder    uuid NOT NULL,  -- the reservation, the request or the session
    -- The embedded server has no btree_gist: equality of two keys is overlap of two ranges of one key each.
    CONSTRAINT no_overlap EXCLUDE USING gist (int8range(place_key, place_key, '[]') WITH &&, during WITH &&)
);
CREATE INDEX ON reservations.claim (holder);

CREATE TABLE reservations.reservation (
    id            uuid PRIMARY KEY,
    driver_id     text COLLATE "C" NOT NULL,
    place_key     bigint NOT NULL REFERENCES reservations.place,
    station_id    text COLLATE "C" NOT NULL,  -- of the place
    connector_id  smallint,
    bay           text COLLATE "C",
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL,
    state         text NOT NULL
                  CHECK (state IN ('held', 'confirmed', 'active', 'used', 'expired', 'no-show', 'cancelled')),
    revision      int NOT NULL,
    held_until    timestamptz,
    reason        text,
    moved_from    text,
    request_id    uuid,  -- the driver's request to start there
    request_until timestamptz,
    session_id    uuid,  -- that used it
    charged       boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL,
    created_by    text NOT NULL,
    due_at        timestamptz,  -- when the clock may change it next; null: it is over
    CHECK (starts_at < ends_at),
    CHECK ((due_at IS NULL) = (state IN ('used', 'expired', 'no-show', 'cancelled')))
);
CREATE INDEX ON reservations.reservation (driver_id, starts_at, id);
CREATE INDEX ON reservations.reservation (station_id, starts_at, id);
CREATE INDEX ON reservations.reservation (starts_at, id);
CREATE INDEX ON reservations.reservation (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ON reservations.reservation (driver_id) WHERE due_at IS NOT NULL;

-- Sessions of which an event came. Kept for some days after their end, so that a late event finds them.
CREATE TABLE reservations.session (
    id           uuid PRIMARY KEY,
    station_id   text COLLATE "C" NOT NULL,
    connector_id smallint NOT NULL,
    place_key    bigint NOT NULL REFERENCES reservations.place,
    started_at   timestamptz,  -- null: only its completion came so far
    ended_at     timestamptz,
    revision     int NOT NULL DEFAULT 0,  -- of the completion
    observed_at  timestamptz NOT NULL
);
CREATE INDEX ON reservations.session (place_key) WHERE ended_at IS NULL;
CREATE INDEX ON reservations.session (observed_at) WHERE ended_at IS NOT NULL;

CREATE FUNCTION reservations.written(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') $$;

-- The contract: a driver's request to start at a connector claims it until it expires (ms since the Unix epoch). The
-- caller has made sure that no other request and no session is open there: claims of those are past and go.
-- `reservation_id`: the driver's reservation that the session will be of; else the given one, if it is not known here.
-- `refused`: why not, for the driver; nothing is claimed then.
CREATE FUNCTION reservations.claim(
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
BEGIN
    INSERT INTO reservations.place (station_id, connector_id, registered) VALUES (station, connector, false)
        ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT place FROM reservations.place AS p WHERE p.station_id = station AND p.connector_id = connector;
    DELETE FROM reservations.claim AS c WHERE c.holder IN (
        SELECT past.holder FROM reservations.claim AS past
        WHERE past.kind <> 'reservation' AND int8range(past.place_key, past.place_key, '[]') && int8range(place.place_key, place.place_key, '[]'));

    -- The driver's own. One who is earlier than the buffer has it from now on, if it is free until then.
    SELECT r.id INTO own FROM reservations.reservation AS r
    WHERE r.driver_id = driver AND r.due_at IS NOT NULL
      AND (reservation IS NULL OR r.id::text = lower(reservation))
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
    SELECT r.* INTO other FROM reservations.reservation AS r WHERE r.id::text = lower(reservation);
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
        ON int8range(c.place_key, c.place_key, '[]') && int8range(wanted.key, wanted.key, '[]')
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
REVOKE EXECUTE ON FUNCTION reservations.claim(uuid, text, text, integer, text, bigint, bigint) FROM PUBLIC;

-- Drivers who wait for a connector at a site, in the order of their numbers.
CREATE TABLE reservations.waiting (
    id             uuid PRIMARY KEY,
    number         bigint GENERATED ALWAYS AS IDENTITY,  -- drawn while the site is locked
    site           text COLLATE "C" NOT NULL,
    driver_id      text COLLATE "C" NOT NULL,
    standard       text NOT NULL,
    power_w_min    int NOT NULL,
    duration_s     int NOT NULL,
    joined_at      timestamptz NOT NULL,
    state          text NOT NULL CHECK (state IN ('waiting', 'offered', 'accepted', 'lapsed', 'left')),
    skipped_until  timestamptz,  -- others are served first until then
    reservation_id uuid REFERENCES reservations.reservation,  -- that is offered, or was accepted or lapsed
    CHECK ((reservation_id IS NULL) = (state IN ('waiting', 'left')))
);
CREATE UNIQUE INDEX ON reservations.waiting (site, driver_id) WHERE state IN ('waiting', 'offered');
CREATE INDEX ON reservations.waiting (site, number) WHERE state IN ('waiting', 'offered');
CREATE INDEX ON reservations.waiting (driver_id, number);
CREATE INDEX ON reservations.waiting (reservation_id) WHERE reservation_id IS NOT NULL;
