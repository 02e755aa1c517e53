-- Rows are sent without what they have nothing of.
ALTER TABLE telemetry.window_1m
    ALTER COLUMN power_mw_n SET DEFAULT 0,
    ALTER COLUMN power_mw_sum SET DEFAULT 0,
    ALTER COLUMN voltage_mv_n SET DEFAULT 0,
    ALTER COLUMN voltage_mv_sum SET DEFAULT 0,
    ALTER COLUMN current_ma_n SET DEFAULT 0,
    ALTER COLUMN current_ma_sum SET DEFAULT 0,
    ALTER COLUMN temperature_mc_n SET DEFAULT 0,
    ALTER COLUMN temperature_mc_sum SET DEFAULT 0,
    ALTER COLUMN soc_mpct_n SET DEFAULT 0,
    ALTER COLUMN soc_mpct_sum SET DEFAULT 0,
    ALTER COLUMN energy_n SET DEFAULT 0;

-- Wide columns before narrow ones leave no gaps: 9 bytes of 126 a row. A database that has readings keeps its order of
-- columns; nothing depends on it.
DO $$ BEGIN
    IF EXISTS (SELECT FROM telemetry.storage) THEN
        RETURN;
    END IF;
    DROP TABLE telemetry.reading;
    CREATE TABLE telemetry.reading (
        session_key       bigint,
        ts                timestamptz NOT NULL,
        boot              bigint,
        seq               bigint,
        energy_mwh        bigint,
        power_mw          bigint,
        in_session_mwh    bigint,
        outside_mwh       bigint,
        rejected_mwh      bigint,
        energy_export_mwh bigint,
        connector_key     int NOT NULL,
        voltage_mv        int,
        current_ma        int,
        temperature_mc    int,
        soc_mpct          int,
        payload_hash      int NOT NULL,
        status            smallint NOT NULL,
        session_event     smallint NOT NULL,
        flags             smallint NOT NULL,
        part              smallint NOT NULL DEFAULT 0,
        named             smallint NOT NULL DEFAULT 1,
        extra             text
    );
    CREATE INDEX reading_brin ON telemetry.reading USING brin (connector_key, ts, seq) WITH (pages_per_range = 8);
END $$;
ALTER TABLE telemetry.reading
    ALTER COLUMN session_event SET DEFAULT 0,
    ALTER COLUMN flags SET DEFAULT 0;
