-- Reports, what they are computed from beside other services' contracts, and where their content is.

CREATE SCHEMA IF NOT EXISTS reporting;

-- Which connectors a station had from when on: one row a revision of the registry. So the order in which events come
-- changes nothing. Revision 0: registered before this service was there; since when is not known.
CREATE TABLE reporting.registration (
    station_id text COLLATE "C" NOT NULL,
    revision   int NOT NULL,
    since      timestamptz,                 -- null only of revision 0
    connectors smallint[] NOT NULL,         -- empty: removed, or none is registered
    PRIMARY KEY (station_id, revision)
);
-- A row once the stations that were there before this service have been taken over.
CREATE TABLE reporting.seeded (
    one boolean PRIMARY KEY DEFAULT true CHECK (one)
);

-- Outage that does not count (23 CFR 680.116(b)(3)), as operators enter it. Withdrawn ones stay for whoever asks why an
-- earlier report says otherwise.
CREATE TABLE reporting.exclusion (
    id           uuid PRIMARY KEY,
    station_id   text COLLATE "C" NOT NULL,
    connector_id smallint,                  -- null: all of the station's
    since        timestamptz NOT NULL,
    until        timestamptz NOT NULL,
    reason       text NOT NULL,
    note         text NOT NULL,
    made_at      timestamptz NOT NULL,
    made_by      text NOT NULL,
    withdrawn_at timestamptz,
    withdrawn_by text,
    CHECK (since < until)
);
CREATE INDEX ON reporting.exclusion (station_id, since);
CREATE INDEX ON reporting.exclusion (made_at, id);

CREATE TABLE reporting.report (
    id           uuid PRIMARY KEY,
    kind         text NOT NULL,
    state        text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    from_moment  timestamptz NOT NULL,
    to_moment    timestamptz NOT NULL,
    selection    jsonb NOT NULL,            -- which stations, grouped by what
    formats      text[] NOT NULL,
    requested_at timestamptz NOT NULL,
    requested_by text NOT NULL,
    attempts     int NOT NULL DEFAULT 0,
    lost         int NOT NULL DEFAULT 0,    -- attempts whose process died
    leased_until timestamptz,               -- of a running one: then another process may begin it anew
    computed_at  timestamptz,
    finished_at  timestamptz,
    reason       text,                      -- of a failed one
    tables       jsonb                      -- of one that is done: their names, columns and numbers of rows
);
CREATE INDEX ON reporting.report (requested_at DESC, id DESC);
CREATE INDEX ON reporting.report (requested_at) WHERE state IN ('queued', 'running');
CREATE INDEX ON reporting.report (finished_at);  -- for how long they are kept

-- kit/documents/postgres.py
CREATE TABLE reporting.document (
    collection text COLLATE "C",
    key        text COLLATE "C",
    document   jsonb NOT NULL,
    PRIMARY KEY (collection, key)
);
