-- Drivers' requests to charge, and the sessions that came of them.

CREATE SCHEMA IF NOT EXISTS sessions;

-- The order in which this service learns of requests and sessions. Drawn while the connector is locked.
CREATE SEQUENCE sessions.arrival;

CREATE TABLE sessions.request (
    id                uuid PRIMARY KEY,  -- random: a station may name its session by it
    driver_id         text COLLATE "C" NOT NULL,
    station_id        text COLLATE "C" NOT NULL,  -- upper case
    connector_id      smallint NOT NULL,
    reservation_id    text,
    requested_by      text NOT NULL,  -- kind/subject, or kind/token
    requested_at      timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL,  -- unless a session came of it; a stop before that makes it earlier
    -- A session that began at the connector in [claims_from, claims_until) may be this request's. These intervals never
    -- overlap at a connector, so a session has at most one request, whichever came first.
    claims_from       timestamptz NOT NULL,
    claims_until      timestamptz NOT NULL,
    arrival           bigint NOT NULL DEFAULT nextval('sessions.arrival'),
    session_id        uuid UNIQUE,  -- voltstream's id of the session that came of it
    completed_at      timestamptz,  -- when that session ended
    stop_requested_at timestamptz,
    stop_requested_by text,
    CHECK (session_id IS NOT NULL OR completed_at IS NULL),
    CHECK ((stop_requested_at IS NULL) = (stop_requested_by IS NULL))
);
CREATE INDEX ON sessions.request (driver_id, requested_at, id);
CREATE INDEX ON sessions.request (station_id, requested_at, id);
CREATE INDEX ON sessions.request (requested_at, id);
CREATE INDEX ON sessions.request (station_id, connector_id, claims_until);
-- Few: the running sessions that were requested.
CREATE INDEX ON sessions.request (driver_id) WHERE session_id IS NOT NULL AND completed_at IS NULL;
CREATE INDEX ON sessions.request (station_id, connector_id) WHERE session_id IS NOT NULL AND completed_at IS NULL;

-- Every session of which an event came: any may turn out to be a request's, also after another was assigned to it.
CREATE TABLE sessions.session (
    id            uuid PRIMARY KEY,  -- voltstream's
    station_id    text COLLATE "C" NOT NULL,
    connector_id  smallint NOT NULL,
    name          text,  -- the device's id of it
    names_request uuid,  -- the request of this connector whose id the name is
    started_at    timestamptz,  -- null: only its completion came so far
    ended_at      timestamptz,
    revision      int NOT NULL DEFAULT 0,  -- of the completion
    arrival       bigint NOT NULL DEFAULT nextval('sessions.arrival'),
    heard_at      timestamptz NOT NULL DEFAULT now(),
    assignment    int NOT NULL DEFAULT 0  -- how often it was assigned to a request or withdrawn from one
);
CREATE INDEX ON sessions.session (station_id, connector_id, started_at);
CREATE INDEX ON sessions.session (names_request) WHERE names_request IS NOT NULL;
CREATE INDEX ON sessions.session (heard_at);

-- Sessions without a request that are to be stopped.
CREATE TABLE sessions.stop (
    session_id   uuid PRIMARY KEY,
    requested_at timestamptz NOT NULL,
    requested_by text NOT NULL
);
