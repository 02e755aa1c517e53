-- The organisation that a station belongs to, for which flags may be on or off. Of stations that are known already it is
-- known with their next event.

ALTER TABLE pricing.station_group ADD COLUMN organisation text;
