-- Reservations that are over and whose driver is known, by age: after a time they are nobody's.
CREATE INDEX reservation_of_driver ON reservations.reservation (ends_at)
    WHERE due_at IS NULL AND driver_id NOT LIKE 'erased-________-____-____-____-____________';

-- Contracts: what is held of a driver (kit/personal_data.py).

CREATE FUNCTION reservations.personal_data_export(subject text) RETURNS TABLE (kind text, record jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT * FROM (
    SELECT 'reservations', to_jsonb(r) - '{place_key,due_at}'::text[] FROM reservations.reservation AS r
    WHERE r.driver_id = subject ORDER BY r.starts_at, r.id
) AS reserved
UNION ALL SELECT * FROM (
    SELECT 'waiting_list', to_jsonb(w) FROM reservations.waiting AS w WHERE w.driver_id = subject ORDER BY w.number
) AS waited
UNION ALL SELECT * FROM (
    SELECT 'session_drivers', to_jsonb(d) || jsonb_build_object('session', to_jsonb(s) - 'place_key')
    FROM reservations.session_driver AS d LEFT JOIN reservations.session AS s ON s.id = d.session_id
    WHERE d.driver_id = subject ORDER BY d.observed_at, d.session_id
) AS of_sessions
UNION ALL SELECT * FROM reservations.standard_data_export(subject)
$$;

-- Under the lock that the making of a driver's reservations takes.
CREATE FUNCTION reservations.personal_data_open(subject text, moment timestamptz) RETURNS TABLE (kind text, what text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM reservations.lock_driver(subject);
    RETURN QUERY
        SELECT 'reservations', 'reservation ' || r.id || ' is ' || r.state FROM reservations.reservation AS r
        WHERE r.driver_id = subject AND r.due_at IS NOT NULL ORDER BY r.starts_at, r.id;
    RETURN QUERY
        SELECT 'waiting_list', 'entry ' || w.id || ' of the waiting list of ' || w.site || ' is ' || w.state
        FROM reservations.waiting AS w
        WHERE w.driver_id = subject AND w.state IN ('waiting', 'offered') ORDER BY w.number;
END
$$;

CREATE FUNCTION reservations.personal_data_erase(subject text, pseudonym text)
    RETURNS TABLE (kind text, erased bigint, newest_kept timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    UPDATE reservations.reservation AS r
    SET driver_id = pseudonym,
        created_by = CASE r.created_by WHEN 'driver/' || subject THEN 'driver/' || pseudonym ELSE r.created_by END
    WHERE r.driver_id = subject AND r.due_at IS NULL;
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'reservations';
    RETURN NEXT;
    UPDATE reservations.waiting AS w SET driver_id = pseudonym
    WHERE w.driver_id = subject AND w.state NOT IN ('waiting', 'offered');
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'waiting_list';
    RETURN NEXT;
    UPDATE reservations.session_driver AS d SET driver_id = NULL WHERE d.driver_id = subject;
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'session_drivers';
    RETURN NEXT;
    RETURN QUERY
        SELECT s.kind, s.erased, NULL::timestamptz FROM reservations.standard_data_erase(subject, pseudonym, '{}') AS s;
END
$$;

REVOKE EXECUTE ON FUNCTION reservations.personal_data_export(text), reservations.personal_data_open(text, timestamptz),
    reservations.personal_data_erase(text, text) FROM PUBLIC;
