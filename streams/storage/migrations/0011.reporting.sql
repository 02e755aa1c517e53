-- Contracts for reporting: sums of windows by connector and hour, and sessions by station and end.

CREATE INDEX ON telemetry.session (connector_key, ended_at) WHERE ended_at IS NOT NULL;

-- Question i is (stations[i], hours[i]): a station and the first moment of an hour. A row for each connector with
-- readings in it, with the place of the question from 0. Of power the sums and counts of its four quarters; of energy
-- the shares of the ledger (schemas/energy.py).
CREATE FUNCTION telemetry.connector_hours(stations text[], hours timestamptz[])
RETURNS TABLE (place int, connector_id smallint, in_session_mwh bigint, outside_mwh bigint, power_mw_n bigint[],
               power_mw_sum bigint[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (asked.place - 1)::int, c.connector_id, w.in_session_mwh, w.outside_mwh,
           ARRAY[w.n1, w.n2 - w.n1, w.n3 - w.n2, w.n - w.n3], ARRAY[w.p1, w.p2 - w.p1, w.p3 - w.p2, w.p - w.p3]
    FROM unnest(stations, hours) WITH ORDINALITY AS asked (station_id, hour, place)
    JOIN telemetry.connector AS c ON c.station_id = asked.station_id COLLATE "C"
    CROSS JOIN LATERAL (
        SELECT hour + interval '15 minutes' AS q1, hour + interval '30 minutes' AS q2,
               hour + interval '45 minutes' AS q3, hour + interval '1 hour' AS until
    ) AS quarter
    CROSS JOIN LATERAL (  -- up to the end of each quarter; a sum of nothing is null
        SELECT count(*) AS windows, sum(in_session_mwh_sum)::bigint AS in_session_mwh,
               sum(outside_mwh_sum)::bigint AS outside_mwh,
               coalesce(sum(m.power_mw_n) FILTER (WHERE m.bucket < q1), 0) AS n1,
               coalesce(sum(m.power_mw_n) FILTER (WHERE m.bucket < q2), 0) AS n2,
               coalesce(sum(m.power_mw_n) FILTER (WHERE m.bucket < q3), 0) AS n3,
               sum(m.power_mw_n) AS n,
               coalesce(sum(m.power_mw_sum) FILTER (WHERE m.bucket < q1), 0)::bigint AS p1,
               coalesce(sum(m.power_mw_sum) FILTER (WHERE m.bucket < q2), 0)::bigint AS p2,
               coalesce(sum(m.power_mw_sum) FILTER (WHERE m.bucket < q3), 0)::bigint AS p3,
               sum(m.power_mw_sum)::bigint AS p
        FROM telemetry.window_1m AS m
        WHERE m.connector_key = c.connector_key AND m.bucket >= asked.hour AND m.bucket < until
    ) AS w
    WHERE w.windows > 0
$$;
REVOKE EXECUTE ON FUNCTION telemetry.connector_hours(text[], timestamptz[]) FROM PUBLIC;
