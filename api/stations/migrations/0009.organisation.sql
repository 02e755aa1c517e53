-- Whose each station is, for all who show only what is of one organisation.
CREATE OR REPLACE VIEW stations.station_overview AS
SELECT station_id, name, address, city, postal_code, country, latitude_udeg, longitude_udeg, time_zone, organisation
FROM stations.station;
CREATE INDEX ON stations.station (organisation, station_id) WHERE organisation IS NOT NULL;
