-- Factors of CO2e, and what is computed with which of them.

CREATE SCHEMA IF NOT EXISTS reporting;

-- Version 1 ships with the service (api/reporting/co2); the others are operators'. None is ever changed.
CREATE TABLE reporting.co2_version (
    version       smallint PRIMARY KEY,
    source        text NOT NULL,
    from_year     smallint NOT NULL,           -- for hours of this year (UTC) and later
    to_year       smallint,                    -- and up to this one; null: for good
    fallback_name text NOT NULL,
    published_at  timestamptz NOT NULL,
    published_by  text NOT NULL,
    CHECK (from_year <= to_year)
);
CREATE TABLE reporting.co2_factor (
    version    smallint NOT NULL REFERENCES reporting.co2_version,
    country    text COLLATE "C" NOT NULL,      -- ISO 3166-1 alpha-3; empty: the fallback
    year       smallint NOT NULL,
    mg_per_kwh int NOT NULL CHECK (mg_per_kwh >= 0),
    PRIMARY KEY (version, country, year)
);

-- The countries with which hours were computed. A removed station keeps its own.
CREATE TABLE reporting.station_country (
    station_id text COLLATE "C" PRIMARY KEY,
    country    text COLLATE "C" NOT NULL       -- empty: the registry has none
);
-- Stations whose hours of a time were computed with another version or country: they are noted to be computed again, some
-- at a time.
CREATE TABLE reporting.co2_stale (
    station_id text COLLATE "C" PRIMARY KEY,
    since      timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    noted_at   timestamptz NOT NULL            -- first
);
CREATE INDEX ON reporting.co2_stale (noted_at, station_id);
-- How many hours of connectors each UTC day has that were computed with a version.
CREATE TABLE reporting.co2_used (
    day     timestamptz NOT NULL,
    version smallint NOT NULL REFERENCES reporting.co2_version,
    hours   int NOT NULL,
    PRIMARY KEY (day, version)
);
