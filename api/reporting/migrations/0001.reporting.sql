-- Roll-ups by hour and by UTC day. All of it but `station` and `subject` can be computed again from what other services
-- publish.

CREATE SCHEMA IF NOT EXISTS reporting;

-- The registry's stations, by its events: of each the highest revision.
CREATE TABLE reporting.station (
    station_id   text COLLATE "C" PRIMARY KEY,  -- upper case
    revision     int NOT NULL,
    grouped      int NOT NULL DEFAULT 0,        -- the revision by which its figures are grouped
    site         text COLLATE "C" NOT NULL,     -- empty: none, as in the next two
    "group"      text COLLATE "C" NOT NULL,
    organisation text COLLATE "C" NOT NULL,
    connectors   smallint[] NOT NULL,
    plugs        text[] NOT NULL                -- of these: OCPI ConnectorType; empty: not known
);
CREATE INDEX ON reporting.station (station_id) WHERE grouped < revision;

-- What has figures: a connector, and what figures of connectors are summed for. The name of a connector is
-- `STATION/connector`; that of the total is empty, as is that of the stations without a site (group, …).
CREATE TABLE reporting.series (
    series_key   int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text COLLATE "C" NOT NULL
                 CHECK (kind IN ('connector', 'station', 'site', 'group', 'organisation', 'plug', 'total')),
    name         text COLLATE "C" NOT NULL,
    UNIQUE (kind, name)
);
CREATE TABLE reporting.connector (
    connector_key int PRIMARY KEY REFERENCES reporting.series,
    station_id    text COLLATE "C" NOT NULL,    -- empty: documents of no station
    connector_id  smallint NOT NULL,            -- -1: the station, not one of its connectors
    UNIQUE (station_id, connector_id)
);
-- As stations are registered now: their past goes with them.
CREATE TABLE reporting.member (
    connector_key int NOT NULL REFERENCES reporting.connector,
    series_key    int NOT NULL REFERENCES reporting.series,
    PRIMARY KEY (connector_key, series_key)
);

-- Sums of one facet (api/reporting/rollups/facets.py) in one hour. Of connectors they are computed from what others
-- publish; of another series they are the sum over its members. Without a row all are 0.
CREATE TABLE reporting.hour (
    hour       timestamptz NOT NULL,
    series_key int NOT NULL,
    facet      smallint NOT NULL,
    ends_as    smallint,                        -- of a connector's statuses: the one at the end of the hour
    version    smallint,                        -- of a connector's CO2: that of the factors
    currency   text COLLATE "C" NOT NULL,       -- empty: not money
    sums       bigint[] NOT NULL,
    PRIMARY KEY (facet, series_key, hour, currency)
);
-- Hours merged to UTC days, of all series but connectors.
CREATE TABLE reporting.day (
    day        timestamptz NOT NULL,            -- its first moment
    series_key int NOT NULL,
    facet      smallint NOT NULL,
    currency   text COLLATE "C" NOT NULL,
    sums       bigint[] NOT NULL,
    PRIMARY KEY (facet, series_key, day, currency)
);

-- What is to be computed again. The mark rises with each note: one that comes while the hour is computed stays.
CREATE SEQUENCE reporting.mark;
CREATE TABLE reporting.dirty_hour (
    hour       timestamptz NOT NULL,
    station_id text COLLATE "C" NOT NULL,
    facets     int NOT NULL,                    -- bit n: facet n
    mark       bigint NOT NULL,
    noted_at   timestamptz NOT NULL,            -- first
    PRIMARY KEY (hour, station_id)
);
-- Time passes without an event: hours before `next` have been noted for having ended, hours before `kept_from` are
-- dropped and never computed again.
CREATE TABLE reporting.progress (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    id         uuid NOT NULL DEFAULT gen_random_uuid(),  -- of this database: answers are kept by it
    next       timestamptz,
    kept_from  timestamptz NOT NULL
);
INSERT INTO reporting.progress (kept_from) VALUES ('epoch');
-- Of each UTC day the mark of its last change: an answer is kept as long as its days have theirs.
CREATE TABLE reporting.changed (
    day  timestamptz PRIMARY KEY,
    mark bigint NOT NULL
);

-- In which hour of which station a session or a reservation was last seen to count, so that the hour which it leaves is
-- computed again.
CREATE TABLE reporting.subject (
    subject_id uuid NOT NULL,
    facet      smallint NOT NULL,
    revision   int NOT NULL,
    station_id text COLLATE "C" NOT NULL,
    hour       timestamptz NOT NULL,
    noted_at   timestamptz NOT NULL,
    PRIMARY KEY (subject_id, facet)
);
CREATE INDEX ON reporting.subject (noted_at);  -- for retention
