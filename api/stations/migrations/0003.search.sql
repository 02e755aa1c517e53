-- What a search asks, denormalised so that one statement answers. Rows of `place` change when a station does; the
-- status of connectors changes all the time: no index has a column of it, so that these updates touch none (HOT).

-- A box, in degrees, that has everything within `distance_m` of a point: where that crosses 180 degrees, or has a pole in
-- it, all longitudes.
CREATE FUNCTION stations.around(latitude float8, longitude float8, distance_m float8) RETURNS box
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
SELECT box(point(longitude - wide, latitude - high), point(longitude + wide, latitude + high))
FROM (SELECT least(distance_m / 6371008.8 + 1e-7, pi()) AS radius) AS r,
LATERAL (SELECT degrees(radius) AS high) AS h,
LATERAL (
    SELECT CASE
        WHEN abs(latitude) + high > 89.9 THEN 360
        ELSE degrees(asin(least(1, sin(radius) / cos(radians(latitude))))) + 1e-5
    END AS half
) AS l,
LATERAL (SELECT CASE WHEN abs(longitude) + half > 180 THEN 360 ELSE half END AS wide) AS w
$$;

-- A station that has a position.
CREATE TABLE stations.place (
    station_id     text COLLATE "C" PRIMARY KEY REFERENCES stations.station ON DELETE CASCADE,
    location       point NOT NULL,   -- longitude and latitude, degrees
    x              float8 NOT NULL,  -- the same on the unit sphere: distances are by the chord
    y              float8 NOT NULL,
    z              float8 NOT NULL,
    latitude_udeg  int NOT NULL,
    longitude_udeg int NOT NULL,
    words          text COLLATE "C" NOT NULL,  -- of name, address, city, postal code, site and operator, folded, each after a space
    plugs          bigint NOT NULL,  -- bit n: it has a plug of kind n
    power_w_max    bigint NOT NULL,  -- of its connectors; 0: unknown
    "group"        text COLLATE "C",
    open_hours     tstzmultirange,   -- null: always
    open_hours_to  timestamptz       -- they are computed up to here
);
CREATE INDEX ON stations.place USING gist (location);
CREATE INDEX ON stations.place (open_hours_to) WHERE open_hours_to IS NOT NULL;

CREATE TABLE stations.connector_state (
    station_id     text COLLATE "C" NOT NULL,
    connector_id   smallint NOT NULL,
    registered     boolean NOT NULL DEFAULT false,  -- false: it only spoke
    plug           smallint,     -- kind of its plug
    rated_power_w  bigint,
    evse           smallint,     -- the lowest number of the connectors of its EVSE
    shared         boolean NOT NULL DEFAULT false,  -- its EVSE has another
    status         smallint NOT NULL DEFAULT 0,     -- schemas.reading.Status; 10: silent
    error_code     text,
    since          timestamptz,
    revision       int NOT NULL DEFAULT 0,          -- of its status
    reserved_until timestamptz,  -- no reservation of it ends later; null: there is none
    PRIMARY KEY (station_id, connector_id)
) WITH (fillfactor = 70);

-- The last changes of a connector's status: why it is as it is. Newest first.
CREATE TABLE stations.connector_recent (
    station_id   text COLLATE "C" NOT NULL,
    connector_id smallint NOT NULL,
    changes      jsonb NOT NULL,
    PRIMARY KEY (station_id, connector_id)
) WITH (fillfactor = 70);

-- Reservations, without their drivers. Of one the highest revision counts.
CREATE TABLE stations.reservation (
    reservation_id text COLLATE "C" PRIMARY KEY,
    revision       int NOT NULL,
    station_id     text COLLATE "C" NOT NULL,
    connector_id   smallint,  -- null: of a bay
    bay            text,
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL,
    open           boolean NOT NULL
);
CREATE INDEX ON stations.reservation (station_id, connector_id, ends_at) WHERE open;
CREATE INDEX ON stations.reservation (ends_at);

-- Tariff versions that may be in force now or later, and what 10 kWh cost by them, from when to when.
CREATE TABLE stations.tariff (
    version        uuid PRIMARY KEY,
    target_kind    text COLLATE "C" NOT NULL,
    target         text COLLATE "C" NOT NULL,
    time_zone      text NOT NULL,
    effective_from timestamptz NOT NULL,
    published_at   timestamptz NOT NULL,
    tariff         jsonb NOT NULL
);
CREATE INDEX ON stations.tariff (target_kind, target);
CREATE TABLE stations.price (
    target_kind text COLLATE "C" NOT NULL,
    target      text COLLATE "C" NOT NULL,
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    micros      bigint,  -- with VAT; null: the tariff has no price for it
    currency    text NOT NULL,
    PRIMARY KEY (target_kind, target, starts_at)
);
CREATE TABLE stations.price_target (
    target_kind text COLLATE "C" NOT NULL,
    target      text COLLATE "C" NOT NULL,
    computed_to timestamptz NOT NULL,
    PRIMARY KEY (target_kind, target)
);
CREATE INDEX ON stations.price_target (computed_to);
