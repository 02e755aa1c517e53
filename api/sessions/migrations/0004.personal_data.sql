-- Requests whose driver is known, by age: after a time they are nobody's.
CREATE INDEX request_of_driver ON sessions.request (requested_at)
    WHERE driver_id NOT LIKE 'erased-________-____-____-____-____________';
CREATE INDEX ON sessions.stop (requested_at);

-- Contracts: what is held of a driver (kit/personal_data.py).

CREATE FUNCTION sessions.personal_data_export(subject text) RETURNS TABLE (kind text, record jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT 'charging_requests', to_jsonb(r) - '{claims_from,claims_until,arrival}'::text[] || jsonb_build_object(
            'session', to_jsonb(o) - '{session_key,connector_key,readings,flagged,register_first_mwh,register_before_mwh,
                                       register_before_at,series_mwh,power_max_mw}'::text[])
        FROM sessions.request AS r LEFT JOIN telemetry.session_overview AS o ON o.id = r.session_id
        WHERE r.driver_id = subject ORDER BY r.requested_at, r.id;
    RETURN QUERY SELECT s.kind, s.record FROM sessions.standard_data_export(subject) AS s;
END
$$;

CREATE FUNCTION sessions.personal_data_open(subject text, moment timestamptz) RETURNS TABLE (kind text, what text)
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT 'charging_requests', CASE
    WHEN r.session_id IS NULL THEN 'request ' || r.id || ' to start at station ' || r.station_id || ' waits for its session'
    ELSE 'session ' || r.session_id || ' at station ' || r.station_id || ' is not over' END
FROM sessions.request AS r
WHERE r.driver_id = subject AND CASE WHEN r.session_id IS NULL THEN r.expires_at > moment ELSE r.completed_at IS NULL END
ORDER BY r.requested_at, r.id
$$;

CREATE FUNCTION sessions.personal_data_erase(subject text, pseudonym text)
    RETURNS TABLE (kind text, erased bigint, newest_kept timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    own text := 'driver/' || subject;
BEGIN
    UPDATE sessions.stop AS s SET requested_by = 'driver/' || pseudonym WHERE s.requested_by = own;
    UPDATE sessions.request AS r
    SET driver_id = pseudonym,
        requested_by = CASE r.requested_by WHEN own THEN 'driver/' || pseudonym ELSE r.requested_by END,
        stop_requested_by = CASE r.stop_requested_by WHEN own THEN 'driver/' || pseudonym ELSE r.stop_requested_by END
    WHERE r.driver_id = subject;
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'charging_requests';
    RETURN NEXT;
    RETURN QUERY SELECT s.kind, s.erased, NULL::timestamptz FROM sessions.standard_data_erase(subject, pseudonym, '{}') AS s;
END
$$;

REVOKE EXECUTE ON FUNCTION sessions.personal_data_export(text), sessions.personal_data_open(text, timestamptz),
    sessions.personal_data_erase(text, text) FROM PUBLIC;
