-- What each station sent, by telemetry.received.v1, where that is published.
CREATE TABLE stations.heard (
    station_id text COLLATE "C" PRIMARY KEY,
    newest_ts  timestamptz NOT NULL,
    readings   bigint NOT NULL,       -- stored since the events are published
    counted_at timestamptz NOT NULL   -- the newest event
) WITH (fillfactor = 70);             -- a row changes with every flush that has its station: HOT
