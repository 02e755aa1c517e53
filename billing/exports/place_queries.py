"""SQL of places: what the registry of stations knows of where a charge was, and what an OCPI CDR lacks."""

from typing import Final

LOCATION_READS: Final = ("stations.station_overview", "stations.connector_overview")
"""What exports ask of the contracts of stations."""
# Where a charge was, as the registry of stations knows it: of `charge` (station_id, connector_id, reserved). A
# reservation that names no connector may have any: OCPI says that nobody reads its kind.
PLACE: Final = """
LEFT JOIN stations.station_overview AS s ON s.station_id = charge.station_id
LEFT JOIN LATERAL (
    SELECT f.connector_id, f.standard, f.format, f.power_type, f.evse_id FROM stations.connector_overview AS f
    WHERE f.station_id = charge.station_id
      AND (f.connector_id = charge.connector_id
           OR charge.connector_id IS NULL AND charge.reserved AND f.connector_id > 0)
    ORDER BY f.connector_id LIMIT 1
) AS k ON true
"""
# What a CdrLocation has to have and is not known. A CiString is printable ASCII. A collective invoice is of no station.
MISSING: Final = """
CASE WHEN charge.station_id = '' THEN ARRAY['single_charge'] WHEN s.station_id IS NULL THEN ARRAY['station']
ELSE array_remove(ARRAY[
    CASE WHEN s.station_id !~ '^[ -~]+$' THEN 'station_id' END,
    CASE WHEN s.address IS NULL THEN 'address' END,
    CASE WHEN s.city IS NULL THEN 'city' END,
    CASE WHEN s.country IS NULL THEN 'country' END,
    CASE WHEN s.latitude_udeg IS NULL THEN 'coordinates' END,
    CASE WHEN k.connector_id IS NULL THEN 'connector' END,
    CASE WHEN k.connector_id IS NOT NULL AND k.standard IS NULL THEN 'standard' END,
    CASE WHEN k.connector_id IS NOT NULL AND k.format IS NULL THEN 'format' END,
    CASE WHEN k.connector_id IS NOT NULL AND k.power_type IS NULL THEN 'power_type' END,
    CASE WHEN k.connector_id IS NOT NULL AND charge.connector_id IS NOT NULL AND k.evse_id IS NULL THEN 'evse_id' END
], NULL) END
"""
PLACE_FACTS: Final = f"""
SELECT s.name, s.address, s.city, s.postal_code, s.country, s.latitude_udeg, s.longitude_udeg, k.standard, k.format,
       k.power_type, k.evse_id, {MISSING} AS missing
FROM (
    SELECT station_id COLLATE "C" AS station_id, connector_id, reserved, place
    FROM unnest($1::text[], $2::int[], $3::boolean[])
        WITH ORDINALITY AS asked (station_id, connector_id, reserved, place)
) AS charge {PLACE}
ORDER BY charge.place
"""  # noqa: S608  # our own names
