-- The telemetry schema, but for the two time-partitioned tables' storage: telemetry.reading and telemetry.window_1m
-- become hypertables or native partitions in streams/storage, after a look at what the server can do.

CREATE SCHEMA IF NOT EXISTS telemetry;

-- What was decided when this database was first prepared, and holds for ever.
CREATE TABLE telemetry.storage (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    layout      text NOT NULL CHECK (layout IN ('community', 'apache', 'plain')),
    partitions  smallint NOT NULL,
    prepared_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE telemetry.connector (
    connector_key int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition     smallint NOT NULL,
    station_id    text COLLATE "C" NOT NULL,  -- upper case
    connector_id  smallint NOT NULL,
    UNIQUE (station_id, connector_id)
);
CREATE INDEX ON telemetry.connector (partition);

CREATE TABLE telemetry.session (
    session_key        bigint PRIMARY KEY,
    id                 uuid NOT NULL UNIQUE,
    connector_key      int NOT NULL REFERENCES telemetry.connector,
    session_id         text,
    started_at         timestamptz NOT NULL,
    last_at            timestamptz NOT NULL,
    ended_at           timestamptz,
    end_reason         smallint NOT NULL DEFAULT 0,
    energy_uj          bigint NOT NULL,
    integrated_uj      bigint NOT NULL,
    register_first_mwh bigint,
    register_last_mwh  bigint,
    readings           int NOT NULL,
    flagged            int NOT NULL,
    revision           int NOT NULL DEFAULT 0
) WITH (fillfactor = 60);  -- an open session is rewritten with every flush: room for the new version in the same page
CREATE INDEX ON telemetry.session (connector_key, started_at);
CREATE INDEX ON telemetry.session (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX ON telemetry.session (started_at, session_key);

CREATE TABLE telemetry.quarantine (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition    smallint NOT NULL,
    received_at  timestamptz NOT NULL,
    station_id   text,
    connector_id int,
    reason       text NOT NULL,
    detail       text NOT NULL,
    raw          bytea NOT NULL
);
CREATE INDEX ON telemetry.quarantine (received_at);
CREATE INDEX ON telemetry.quarantine (reason, id);
CREATE INDEX ON telemetry.quarantine (station_id, id);

-- accepted = sum(ledger_source.items_total); stored + duplicate + quarantined = sum(ledger_source.items_received).
CREATE TABLE telemetry.ledger (
    partition   smallint PRIMARY KEY,
    stored      bigint NOT NULL DEFAULT 0,
    duplicate   bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE telemetry.ledger_source (
    partition      smallint NOT NULL,
    source         text NOT NULL,
    items_total    bigint NOT NULL,
    items_received bigint NOT NULL,
    PRIMARY KEY (partition, source)
);

CREATE TABLE telemetry.stream_offset (
    partition smallint PRIMARY KEY,
    next      bigint NOT NULL DEFAULT 0,  -- the first offset not committed
    epoch     bigint NOT NULL DEFAULT 0,  -- who may commit: raised with every assignment
    commits   bigint NOT NULL DEFAULT 0   -- by it a worker whose connection died in COMMIT knows its own commit again
);
CREATE TABLE telemetry.partition_state (
    partition smallint NOT NULL,
    patch     bigint NOT NULL,  -- stream_offset.commits; a base, then the patches since, applied in this order
    base      boolean NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (partition, patch)
);
ALTER TABLE telemetry.partition_state ALTER COLUMN body SET STORAGE EXTERNAL;  -- compressed already

CREATE TABLE telemetry.reading (
    connector_key  int NOT NULL,
    session_key    bigint,
    ts             timestamptz NOT NULL,
    boot           bigint,
    seq            bigint,
    energy_mwh     bigint,
    power_mw       bigint,
    voltage_mv     int,
    current_ma     int,
    temperature_mc int,
    soc_mpct       int,
    status         smallint NOT NULL,
    session_event  smallint NOT NULL,
    flags          smallint NOT NULL,
    payload_hash   int NOT NULL
);
-- No btree and nothing unique: it would halve the speed of every insert (docs/adr/0004).
CREATE INDEX reading_brin ON telemetry.reading USING brin (connector_key, ts, seq) WITH (pages_per_range = 8);

CREATE TABLE telemetry.window_1m (
    connector_key     int NOT NULL,
    bucket            timestamptz NOT NULL,
    revision          int NOT NULL DEFAULT 1,
    readings          int NOT NULL,
    flagged           int NOT NULL,
    first_ts          timestamptz NOT NULL,
    last_ts           timestamptz NOT NULL,
    power_mw_n        int NOT NULL,
    power_mw_sum      bigint NOT NULL,
    power_mw_min      bigint,
    power_mw_max      bigint,
    voltage_mv_n      int NOT NULL,
    voltage_mv_sum    bigint NOT NULL,
    voltage_mv_min    bigint,
    voltage_mv_max    bigint,
    current_ma_n      int NOT NULL,
    current_ma_sum    bigint NOT NULL,
    current_ma_min    bigint,
    current_ma_max    bigint,
    temperature_mc_n   int NOT NULL,
    temperature_mc_sum bigint NOT NULL,
    temperature_mc_min bigint,
    temperature_mc_max bigint,
    soc_mpct_n        int NOT NULL,
    soc_mpct_sum      bigint NOT NULL,
    soc_mpct_min      bigint,
    soc_mpct_max      bigint,
    energy_n          int NOT NULL,
    energy_first_ts   timestamptz,
    energy_first_mwh  bigint,
    energy_last_ts    timestamptz,
    energy_last_mwh   bigint,
    PRIMARY KEY (connector_key, bucket)
);
