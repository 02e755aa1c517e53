-- What pricing knows of stations comes from their events; of one station the highest revision counts.

ALTER TABLE pricing.station_group
    ADD COLUMN revision int NOT NULL DEFAULT 0,
    ADD COLUMN registered boolean NOT NULL DEFAULT true,  -- false: retired; its revision is kept, so that no older event counts
    ALTER COLUMN group_name DROP NOT NULL;

-- Reservations of connectors, which count as demand while they last. Of one the highest revision counts.
CREATE TABLE pricing.booking (
    reservation_id text COLLATE "C" PRIMARY KEY,
    revision       int NOT NULL,
    station_id     text COLLATE "C" NOT NULL,
    connector_id   int,      -- null: of a bay, which is no demand for power
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL,
    open           boolean NOT NULL  -- false: cancelled, expired, used
);
CREATE INDEX ON pricing.booking (station_id, connector_id, ends_at) WHERE open;
CREATE INDEX ON pricing.booking (ends_at);
