-- What the sensors of bays say, who stands where since when, and when that was told.

ALTER TABLE reservations.place
    ADD COLUMN time_limit_s       int,          -- of a bay
    ADD COLUMN occupied           boolean,      -- of a bay: its sensor's newest word; null: it has none
    ADD COLUMN occupied_since     timestamptz,  -- when the sensor began to say so
    ADD COLUMN occupied_revision  bigint NOT NULL DEFAULT -1,
    ADD COLUMN plugged_since      timestamptz,  -- of a connector: a vehicle is plugged in
    ADD COLUMN not_charging_since timestamptz;  -- of a connector, with or without a vehicle

-- Whose sessions are, as far as anybody asked to start them.
CREATE TABLE reservations.session_driver (
    session_id  uuid PRIMARY KEY,
    driver_id   text COLLATE "C",  -- null: the assignment was withdrawn
    revision    int NOT NULL,      -- of the assignment
    observed_at timestamptz NOT NULL
);
CREATE INDEX ON reservations.session_driver (observed_at);

CREATE INDEX ON reservations.session (place_key, started_at);
CREATE INDEX ON reservations.reservation (session_id) WHERE session_id IS NOT NULL;

-- When the vehicle at a place overstays. Kept when it is gone: `told_at` says of which overstay there was an event.
CREATE TABLE reservations.stay (
    place_key  bigint PRIMARY KEY REFERENCES reservations.place,
    station_id text COLLATE "C" NOT NULL,  -- of the place
    due_at     timestamptz,                -- when it overstays; null: never, or it was told
    told_at    timestamptz
);
CREATE INDEX ON reservations.stay (due_at) WHERE due_at IS NOT NULL;
