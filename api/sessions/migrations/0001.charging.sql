-- The charging schema: what drivers asked for, and which sessions came of it.

CREATE SCHEMA IF NOT EXISTS charging;

-- In which order this service came to know of requests and sessions. Drawn while the connector is locked.
CREATE SEQUENCE charging.arrival;

CREATE TABLE charging.request (
    id                uuid PRIMARY KEY,  -- random: it is what a station may name its session by
    driver_id         text COLLATE "C" NOT NULL,
    station_id        text COLLATE "C" NOT NULL,  -- upper case
    connector_id      smallint NOT NULL,
    reservation_id    text,
    requested_by      text NOT NULL,  -- kind/subject, or kind/token
    requested_at      timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL,  -- unless a session came of it; a stop before that brings it forward
    -- A session that began at the connector in [claims_from, claims_until) may be this request's. Those of one connector
    -- never overlap, so a session has at most one request, whatever came first.
    claims_from       timestamptz NOT NULL,
    claims_until      timestamptz NOT NULL,
    arrival           bigint NOT NULL DEFAULT nextval('charging.arrival'),
    session_id        uuid UNIQUE,  -- voltstream's id of the session that came of it
    completed_at      timestamptz,  -- when that session ended
    stop_requested_at timestamptz,
    stop_requested_by text,
    CHECK (session_id IS NOT NULL OR completed_at IS NULL),
    CHECK ((stop_requested_at IS NULL) = (stop_requested_by IS NULL))
);
CREATE INDEX ON charging.request (driver_id, requested_at, id);
CREATE INDEX ON charging.request (station_id, requested_at, id);
CREATE INDEX ON charging.request (requested_at, id);
CREATE INDEX ON charging.request (station_id, connector_id, claims_until);
-- Few: the running sessions that were asked for.
CREATE INDEX ON charging.request (driver_id) WHERE session_id IS NOT NULL AND completed_at IS NULL;
CREATE INDEX ON charging.request (station_id, connector_id) WHERE session_id IS NOT NULL AND completed_at IS NULL;

-- Every session that was heard of: any may turn out to be a request's, also after another one was taken for it.
CREATE TABLE charging.session (
    id            uuid PRIMARY KEY,  -- voltstream's
    station_id    text COLLATE "C" NOT NULL,
    connector_id  smallint NOT NULL,
    name          text,  -- the device's id of it
    names_request uuid,  -- the request of this connector whose id the name is
    started_at    timestamptz,  -- null: only its completion was heard of so far
    ended_at      timestamptz,
    revision      int NOT NULL DEFAULT 0,  -- of the completion
    arrival       bigint NOT NULL DEFAULT nextval('charging.arrival'),
    heard_at      timestamptz NOT NULL DEFAULT now(),
    assignment    int NOT NULL DEFAULT 0  -- how often it was given to a request or taken from one
);
CREATE INDEX ON charging.session (station_id, connector_id, started_at);
CREATE INDEX ON charging.session (names_request) WHERE names_request IS NOT NULL;
CREATE INDEX ON charging.session (heard_at);

-- Sessions that nobody had asked for and that are to be stopped.
CREATE TABLE charging.stop (
    session_id   uuid PRIMARY KEY,
    requested_at timestamptz NOT NULL,
    requested_by text NOT NULL
);
