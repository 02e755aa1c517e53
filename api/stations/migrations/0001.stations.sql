-- Stations and their connectors, as operators register them. A fact that nobody gave is null.

CREATE SCHEMA IF NOT EXISTS stations;

CREATE TABLE stations.station (
    station_id     text COLLATE "C" PRIMARY KEY,  -- upper case
    name           text,
    address        text,
    city           text,
    postal_code    text,
    country        text,     -- ISO 3166-1 alpha-3
    latitude_udeg  int CHECK (latitude_udeg BETWEEN -90000000 AND 90000000),  -- millionths of a degree, WGS 84
    longitude_udeg int CHECK (longitude_udeg BETWEEN -180000000 AND 180000000),
    time_zone      text,     -- IANA
    changed_at     timestamptz NOT NULL,
    CHECK ((latitude_udeg IS NULL) = (longitude_udeg IS NULL))
);

CREATE TABLE stations.connector (
    station_id    text COLLATE "C" NOT NULL REFERENCES stations.station ON DELETE CASCADE,
    connector_id  smallint NOT NULL CHECK (connector_id >= 0),  -- as readings number it; 0 is the station's main meter
    rated_power_w bigint CHECK (rated_power_w > 0),
    standard      text,      -- OCPI ConnectorType
    format        text,      -- OCPI ConnectorFormat
    power_type    text,      -- OCPI PowerType
    evse_id       text COLLATE "C",  -- ISO 15118, upper case; connectors of one EVSE share it
    changed_at    timestamptz NOT NULL,
    PRIMARY KEY (station_id, connector_id)
);
CREATE INDEX ON stations.connector (evse_id, station_id) WHERE evse_id IS NOT NULL;

-- The contracts: what other services may ask. Their roles get the right to these (kit.service.Contract) and see no table.

-- Question i is (stations[i], connectors[i]): an upper-case station and one of its connectors. A row each whose rated
-- power is registered, with its place from 0.
CREATE FUNCTION stations.rated_powers(stations text[], connectors smallint[])
    RETURNS TABLE (place int, rated_power_mw bigint)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT (asked.place - 1)::int, c.rated_power_w * 1000
FROM unnest(stations, connectors) WITH ORDINALITY AS asked (station_id, connector_id, place)
JOIN stations.connector AS c
    ON c.station_id = asked.station_id COLLATE "C" AND c.connector_id = asked.connector_id
WHERE c.rated_power_w IS NOT NULL
$$;
REVOKE EXECUTE ON FUNCTION stations.rated_powers(text[], smallint[]) FROM PUBLIC;

CREATE VIEW stations.station_overview AS
SELECT station_id, name, address, city, postal_code, country, latitude_udeg, longitude_udeg, time_zone
FROM stations.station;

CREATE VIEW stations.connector_overview AS
SELECT station_id, connector_id, rated_power_w, standard, format, power_type, evse_id
FROM stations.connector;
