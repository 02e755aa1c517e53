-- The register of exported energy in windows (vehicle to grid), as energy_first and energy_last; null: no reading has it.
ALTER TABLE telemetry.window_1m
    ADD COLUMN energy_export_first_ts  timestamptz,
    ADD COLUMN energy_export_first_mwh bigint,
    ADD COLUMN energy_export_last_ts   timestamptz,
    ADD COLUMN energy_export_last_mwh  bigint;
