-- Stations that are expected to speak at an interval of their own (StationFacts.silent_after_s, 0: never silent), of which
-- there are few. The worker asks.
CREATE INDEX ON stations.station (station_id) WHERE details ? 'silent_after_s';
CREATE VIEW stations.silence_overview AS
SELECT station_id, (details ->> 'silent_after_s')::int AS silent_after_s
FROM stations.station WHERE details ? 'silent_after_s';
