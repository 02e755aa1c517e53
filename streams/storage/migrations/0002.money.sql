-- What a session costs. All null where its station had no tariff when it began (docs/adr/0009).

ALTER TABLE telemetry.session
    ADD COLUMN tariff_key          bigint,  -- pricing's version, pinned when the session opened
    ADD COLUMN tariff_version      uuid,    -- its public id
    ADD COLUMN currency            text,
    ADD COLUMN cost_excl_micros    bigint,  -- millionths of the currency, as if the session ended with its newest reading
    ADD COLUMN cost_incl_micros    bigint,
    ADD COLUMN cost_energy_micros  bigint,  -- the parts of cost_excl_micros, before min_price and max_price
    ADD COLUMN cost_time_micros    bigint,
    ADD COLUMN cost_parking_micros bigint,
    ADD COLUMN cost_flat_micros    bigint,
    ADD COLUMN consumption         text;    -- of a completed session: JSON, schemas.events.Consumption
