-- Contract for reporting: the highest power of each of these sessions, by the 1-minute windows that it reaches into. Of
-- its first and its last minute what the connector delivered to another one counts, too. Null where no reading gave one.
-- Made again in 0013, for minutes that were dropped.
CREATE FUNCTION telemetry.session_peaks(sessions uuid[])
RETURNS TABLE (id uuid, power_mw bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.id, w.power_mw
    FROM telemetry.session AS s CROSS JOIN LATERAL (
        SELECT max(m.power_mw_max) AS power_mw FROM telemetry.window_1m AS m
        WHERE m.connector_key = s.connector_key AND m.bucket >= date_trunc('minute', s.started_at)
          AND m.bucket <= coalesce(s.ended_at, s.last_at) AND m.power_mw_n > 0
    ) AS w
    WHERE s.id = ANY(sessions)
$$;
REVOKE EXECUTE ON FUNCTION telemetry.session_peaks(uuid[]) FROM PUBLIC;
