-- Contracts for reporting: sums of windows by connector and hour, and sessions by their end.

CREATE INDEX ON telemetry.session (ended_at) WHERE ended_at IS NOT NULL;

-- Question i is (stations[i], hours[i]): a station and the first moment of an hour. A row for each connector with
-- readings in it, with the place of the question from 0. Of power the sums and counts of its four quarters; of energy
-- the shares of the ledger (schemas/energy.py).
CREATE FUNCTION telemetry.connector_hours(stations text[], hours timestamptz[])
RETURNS TABLE (place int, connector_id smallint, in_session_mwh bigint, outside_mwh bigint, rejected_mwh bigint,
               power_mw_n bigint[], power_mw_sum bigint[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (asked.place - 1)::int, c.connector_id, w.in_session_mwh, w.outside_mwh, w.rejected_mwh, w.power_mw_n,
           w.power_mw_sum
    FROM unnest(stations, hours) WITH ORDINALITY AS asked (station_id, hour, place)
    JOIN telemetry.connector AS c ON c.station_id = asked.station_id COLLATE "C"
    CROSS JOIN LATERAL (
        SELECT count(*) AS windows, sum(in_session_mwh_sum)::bigint AS in_session_mwh,
               sum(outside_mwh_sum)::bigint AS outside_mwh, sum(rejected_mwh_sum)::bigint AS rejected_mwh,
               ARRAY[coalesce(sum(m.power_mw_n) FILTER (WHERE q = 0), 0),
                     coalesce(sum(m.power_mw_n) FILTER (WHERE q = 1), 0),
                     coalesce(sum(m.power_mw_n) FILTER (WHERE q = 2), 0),
                     coalesce(sum(m.power_mw_n) FILTER (WHERE q = 3), 0)]::bigint[] AS power_mw_n,
               ARRAY[coalesce(sum(m.power_mw_sum) FILTER (WHERE q = 0), 0),
                     coalesce(sum(m.power_mw_sum) FILTER (WHERE q = 1), 0),
                     coalesce(sum(m.power_mw_sum) FILTER (WHERE q = 2), 0),
                     coalesce(sum(m.power_mw_sum) FILTER (WHERE q = 3), 0)]::bigint[] AS power_mw_sum
        FROM telemetry.window_1m AS m
        CROSS JOIN LATERAL (SELECT extract(minute FROM m.bucket - asked.hour)::int / 15 AS q) AS quarter
        WHERE m.connector_key = c.connector_key
          AND m.bucket >= asked.hour AND m.bucket < asked.hour + interval '1 hour'
    ) AS w
    WHERE w.windows > 0
$$;
REVOKE EXECUTE ON FUNCTION telemetry.connector_hours(text[], timestamptz[]) FROM PUBLIC;
