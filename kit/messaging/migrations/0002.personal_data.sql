-- Contracts: what is held of a driver (kit/personal_data.py). A letter of a driver becomes the pseudonym's and can still be
-- replayed; one that is no JSON, which no consumer can read, is deleted.

CREATE FUNCTION events.personal_data_export(subject text) RETURNS TABLE (kind text, record jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT 'dead_letters', jsonb_build_object(
    'id', l.id, 'queue', l.queue, 'error', l.error, 'died_at', l.died_at, 'event', events.json_of(l.body))
FROM events.dead_letter AS l WHERE events.event_is_of(l.body, subject)
UNION ALL SELECT * FROM events.standard_data_export(subject)
$$;

CREATE FUNCTION events.personal_data_open(subject text, moment timestamptz) RETURNS TABLE (kind text, what text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT NULL::text, NULL::text WHERE false $$;

CREATE FUNCTION events.personal_data_erase(subject text, pseudonym text)
    RETURNS TABLE (kind text, erased bigint, newest_kept timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    deleted bigint;
BEGIN
    DELETE FROM events.dead_letter AS l
    WHERE events.json_of(l.body) IS NULL
      AND (position(convert_to(to_json(subject)::text, 'UTF8') IN l.body) > 0
           OR position(convert_to(to_json('driver/' || subject)::text, 'UTF8') IN l.body) > 0);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    UPDATE events.dead_letter AS l
    SET body = events.event_for(l.body, subject, pseudonym), error = 'not kept',
        headers = l.headers || '{"error": "not kept"}'
    WHERE events.event_is_of(l.body, subject);
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'dead_letters';
    erased := erased + deleted;
    RETURN NEXT;
    RETURN QUERY SELECT s.kind, s.erased, NULL::timestamptz FROM events.standard_data_erase(subject, pseudonym, '{}') AS s;
END
$$;

REVOKE EXECUTE ON FUNCTION events.personal_data_export(text), events.personal_data_open(text, timestamptz),
    events.personal_data_erase(text, text) FROM PUBLIC;
