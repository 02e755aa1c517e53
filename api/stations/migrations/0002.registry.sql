-- All that OCPI says of a location, and every change of a station.

ALTER TABLE stations.station
    ADD COLUMN revision int NOT NULL DEFAULT 1 CHECK (revision > 0),  -- goes on where a retired station is registered again
    ADD COLUMN site text,          -- stations of one site stand together
    ADD COLUMN "group" text COLLATE "C",  -- pricing's
    ADD COLUMN organisation text,
    ADD COLUMN details jsonb NOT NULL DEFAULT '{}';  -- the other facts of api.stations.registry.models.StationFacts
CREATE INDEX ON stations.station ("group", station_id) WHERE "group" IS NOT NULL;

ALTER TABLE stations.connector
    ADD COLUMN voltage_v_max int CHECK (voltage_v_max > 0),  -- of AC between a phase and neutral, as OCPI has it
    ADD COLUMN current_a_max int CHECK (current_a_max > 0),
    ADD COLUMN tariff_ids text[] NOT NULL DEFAULT '{}';  -- OCPI, as other platforms know them

-- Who changed what: kept when a station is retired. `before` and `after` are whole stations with their connectors.
CREATE TABLE stations.change (
    station_id text COLLATE "C" NOT NULL,
    revision   int NOT NULL CHECK (revision > 0),
    kind       text NOT NULL CHECK (kind IN ('created', 'updated', 'removed')),
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    before     jsonb,
    after      jsonb,
    PRIMARY KEY (station_id, revision)
);
