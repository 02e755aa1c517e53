-- Contracts: what is held of a driver (kit/personal_data.py). Nothing keeps a driver from being erased: what waits to be
-- sent goes with the rest.

CREATE FUNCTION notifications.personal_data_export(subject text) RETURNS TABLE (kind text, record jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT 'preferences', to_jsonb(r) FROM notifications.recipient AS r WHERE r.subject = 'driver/' || $1
UNION ALL SELECT * FROM (
    SELECT 'notifications', to_jsonb(n) || jsonb_build_object('deliveries', (
        SELECT coalesce(jsonb_agg(to_jsonb(d) - 'notification_id' ORDER BY d.created_at, d.channel), '[]')
        FROM notifications.delivery AS d WHERE d.notification_id = n.id
    ))
    FROM notifications.notification AS n WHERE n.subject = 'driver/' || $1 ORDER BY n.created_at, n.id
) AS told
UNION ALL SELECT * FROM (
    SELECT 'session_drivers', to_jsonb(s) FROM notifications.session AS s WHERE s.driver_id = $1 ORDER BY s.heard_at, s.id
) AS observed
UNION ALL SELECT * FROM notifications.standard_data_export($1)
$$;

CREATE FUNCTION notifications.personal_data_open(subject text, moment timestamptz) RETURNS TABLE (kind text, what text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT NULL::text, NULL::text WHERE false $$;

CREATE FUNCTION notifications.personal_data_erase(subject text, pseudonym text)
    RETURNS TABLE (kind text, erased bigint, newest_kept timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    own text := 'driver/' || subject;
BEGIN
    DELETE FROM notifications.recipient AS r WHERE r.subject = own;
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'preferences';
    RETURN NEXT;
    DELETE FROM notifications.notification AS n WHERE n.subject = own;
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'notifications';
    RETURN NEXT;
    UPDATE notifications.session AS s SET driver_id = NULL WHERE s.driver_id = $1;
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'session_drivers';
    RETURN NEXT;
    RETURN QUERY
        SELECT s.kind, s.erased, NULL::timestamptz FROM notifications.standard_data_erase($1, pseudonym, '{}') AS s;
END
$$;

REVOKE EXECUTE ON FUNCTION notifications.personal_data_export(text), notifications.personal_data_open(text, timestamptz),
    notifications.personal_data_erase(text, text) FROM PUBLIC;
