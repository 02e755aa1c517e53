-- Tariff versions, whom they are for, and the rules that move prices with demand.

CREATE SCHEMA IF NOT EXISTS pricing;

-- OCPI moments are written with their offset, so reading them depends on no setting: this may call itself immutable.
CREATE FUNCTION pricing.moment(written text) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT written::timestamptz $$;

-- One row a published version; the tariff is an OCPI 2.2.1 Tariff (schemas/tariff.py), its numbers exact decimals.
CREATE TABLE pricing.version (
    version_key    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             uuid NOT NULL UNIQUE,
    target_kind    text COLLATE "C" NOT NULL CHECK (target_kind IN ('station', 'group', 'default')),
    target         text COLLATE "C" NOT NULL,  -- the station, upper case, or the group; empty for default
    time_zone      text NOT NULL,  -- IANA
    currency       text NOT NULL,
    tariff         jsonb NOT NULL,
    effective_from timestamptz NOT NULL,
    published_at   timestamptz NOT NULL DEFAULT now(),
    reason         text NOT NULL CHECK (reason IN ('operator', 'demand')),
    published_by   text NOT NULL,
    starts_at      timestamptz GENERATED ALWAYS AS (pricing.moment(tariff ->> 'start_date_time')) STORED,
    ends_at        timestamptz GENERATED ALWAYS AS (pricing.moment(tariff ->> 'end_date_time')) STORED,
    CHECK ((target_kind = 'default') = (target = ''))
);
-- Read backwards it is the order of precedence within a target. What it includes decides without the row.
CREATE INDEX ON pricing.version (target_kind, target, effective_from, version_key) INCLUDE (starts_at, ends_at);
CREATE INDEX ON pricing.version (target_kind, target, version_key);  -- the history of a target
-- A demand rule makes hundreds of versions a day; it starts from the operators' last one.
CREATE INDEX ON pricing.version (target_kind, target, effective_from, version_key) WHERE reason = 'operator';
-- The moments ahead at which a version comes or goes.
CREATE INDEX ON pricing.version (target_kind, target, starts_at) WHERE starts_at IS NOT NULL;
CREATE INDEX ON pricing.version (target_kind, target, ends_at) WHERE ends_at IS NOT NULL;

CREATE FUNCTION pricing.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'a tariff version is never changed: publish another'
        USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END
$$;
CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE ON pricing.version
    FOR EACH ROW EXECUTE FUNCTION pricing.refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON pricing.version
    FOR EACH STATEMENT EXECUTE FUNCTION pricing.refuse_change();

CREATE TABLE pricing.station_group (
    station_id text COLLATE "C" PRIMARY KEY,  -- upper case
    group_name text COLLATE "C" NOT NULL
);
CREATE INDEX ON pricing.station_group (group_name, station_id);

CREATE TABLE pricing.demand_rule (
    target_kind  text COLLATE "C" NOT NULL CHECK (target_kind IN ('station', 'group', 'default')),
    target       text COLLATE "C" NOT NULL,
    rule         jsonb NOT NULL,  -- api.pricing.models.DemandRule
    base_version uuid REFERENCES pricing.version (id),  -- null: whichever the operators have in force
    level        int NOT NULL DEFAULT 0,  -- steps that the price stands above the base's, or below
    level_of     bigint REFERENCES pricing.version,  -- the base that `level` was counted from
    changed_at   timestamptz,  -- when the rule last changed the price
    PRIMARY KEY (target_kind, target),
    CHECK ((target_kind = 'default') = (target = ''))
);

-- What each connector did in the last minute that is known of it. Filled only while there are rules.
CREATE TABLE pricing.connector_activity (
    station_id   text COLLATE "C" NOT NULL,
    connector_id int NOT NULL,
    window_start timestamptz NOT NULL,
    revision     int NOT NULL,
    charging     boolean NOT NULL,
    PRIMARY KEY (station_id, connector_id)
);
CREATE INDEX ON pricing.connector_activity (window_start);

-- The contracts: what other services may ask. Their roles get EXECUTE on these two (kit.service.Contract) and see no
-- table.

-- Question i is (stations[i], moments_ms[i]): an upper-case station and ms since the Unix epoch. A row each that has a
-- version in force then, with its place from 1. Of station, the station's group and default the first that has any
-- version in force decides; of its versions the one that is effective last, of equals the one published last.
CREATE FUNCTION pricing.tariffs_at(stations text[], moments_ms bigint[])
    RETURNS TABLE (place bigint, version_key bigint)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT q.place, found.version_key
FROM (
    SELECT asked.place, asked.station_id COLLATE "C" AS station_id,
           timestamptz 'epoch' + asked.moment_ms * interval '1 millisecond' AS moment
    FROM unnest(stations, moments_ms) WITH ORDINALITY AS asked (station_id, moment_ms, place)
) AS q
CROSS JOIN LATERAL (
    SELECT latest.version_key
    FROM (
        SELECT 1 AS rank, 'station' AS target_kind, q.station_id AS target
        UNION ALL
        SELECT 2, 'group', g.group_name FROM pricing.station_group AS g WHERE g.station_id = q.station_id
        UNION ALL
        SELECT 3, 'default', ''
    ) AS candidate
    CROSS JOIN LATERAL (
        SELECT v.version_key
        FROM pricing.version AS v
        WHERE v.target_kind = candidate.target_kind AND v.target = candidate.target AND v.effective_from <= q.moment
          AND (v.starts_at IS NULL OR v.starts_at <= q.moment) AND (v.ends_at IS NULL OR v.ends_at > q.moment)
        ORDER BY v.effective_from DESC, v.version_key DESC
        LIMIT 1
    ) AS latest
    ORDER BY candidate.rank
    LIMIT 1
) AS found
$$;

-- The documents of versions, those that there are.
CREATE FUNCTION pricing.documents(version_keys bigint[])
    RETURNS TABLE (version_key bigint, id uuid, time_zone text, tariff jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT v.version_key, v.id, v.time_zone, v.tariff
FROM pricing.version AS v
WHERE v.version_key = ANY (version_keys)
$$;

REVOKE EXECUTE ON FUNCTION pricing.tariffs_at(text[], bigint[]), pricing.documents(bigint[]) FROM PUBLIC;
