-- What the standard tables hold of a driver, for the functions by which a service exports and erases personal data
-- (kit/personal_data.py). Those call these, with their owner's rights.

-- The JSON document of a body; null where it is none.
CREATE FUNCTION {schema}.json_of(body bytea) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN convert_from(body, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR statement_too_complex THEN
    RETURN NULL;
END
$$;

-- Whether a body has the text as a word: as a string of JSON, after `driver/`, within a label.
CREATE FUNCTION {schema}.mentions(body bytea, word text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    quoted  text := to_json(word)::text;
    written text := substr(quoted, 2, length(quoted) - 2);
BEGIN
    IF position(convert_to(written, 'UTF8') IN body) = 0 THEN
        RETURN false;
    END IF;
    RETURN convert_from(body, 'UTF8') ~ (
        '(^|[^[:alnum:]]|\\[nrtbf])' || regexp_replace(written, '([^[:alnum:]])', '\\\1', 'g') || '([^[:alnum:]]|$)');
EXCEPTION WHEN data_exception THEN
    RETURN true;  -- no text, and the bytes are in it
END
$$;

-- Whether an event (schemas/events.py) is about the driver. Payloads have a driver's id in `driver_id`, and whoever acts or
-- is told as `driver/<id>`, always at their top.
CREATE FUNCTION {schema}.event_is_of(body bytea, subject text) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT {schema}.mentions(body, subject) AND EXISTS (
    SELECT FROM jsonb_each(
        CASE WHEN jsonb_typeof({schema}.json_of(body) -> 'payload') = 'object' THEN {schema}.json_of(body) -> 'payload' END
    ) AS member
    WHERE member.key = 'driver_id' AND member.value = to_jsonb(subject) OR member.value = to_jsonb('driver/' || subject)
)
$$;

-- The same event of the pseudonym. Its `error`, which may quote an address, is left out.
CREATE FUNCTION {schema}.event_for(body bytea, subject text, pseudonym text) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT convert_to((document || jsonb_build_object('payload', (
    SELECT jsonb_object_agg(member.key, CASE
        WHEN member.key = 'driver_id' AND member.value = to_jsonb(subject) THEN to_jsonb(pseudonym)
        WHEN member.value = to_jsonb('driver/' || subject) THEN to_jsonb('driver/' || pseudonym)
        WHEN member.key = 'error' THEN 'null'::jsonb
        ELSE member.value
    END) FROM jsonb_each(document -> 'payload') AS member
)))::text, 'UTF8')
FROM {schema}.json_of(body) AS document
$$;

CREATE FUNCTION {schema}.standard_data_export(subject text) RETURNS TABLE (kind text, record jsonb)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT 'responses', jsonb_build_object(
    'key', i.key, 'created_at', i.created_at, 'status', i.status, 'location', i.location, 'body', {schema}.json_of(i.body))
FROM {schema}.idempotency AS i WHERE i.principal = 'driver/' || subject
UNION ALL
SELECT 'events', {schema}.json_of(o.body) FROM {schema}.outbox AS o WHERE {schema}.event_is_of(o.body, subject)
$$;

-- `words`: more texts by which a response is known to be about the driver. What another asked for stays answered, so that
-- no repetition does it twice; what was answered is gone.
CREATE FUNCTION {schema}.standard_data_erase(subject text, pseudonym text, words text[])
    RETURNS TABLE (kind text, erased bigint)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    own    bigint;
    others bigint;
BEGIN
    DELETE FROM {schema}.idempotency AS i WHERE i.principal = 'driver/' || subject;
    GET DIAGNOSTICS own = ROW_COUNT;
    UPDATE {schema}.idempotency AS i
    SET status = 410, media_type = 'application/problem+json', location = NULL, body = convert_to(
        '{"type":"about:blank","title":"Gone","status":410,"detail":"this was done; the response was erased with the data '
        'of the person that it was about","correlation_id":""}', 'UTF8')
    WHERE i.status IS NOT NULL AND i.status <> 410 AND EXISTS (
        SELECT FROM unnest(subject || words) AS w (word) WHERE {schema}.mentions(i.body, w.word)
    );
    GET DIAGNOSTICS others = ROW_COUNT;
    kind := 'responses';
    erased := own + others;
    RETURN NEXT;
    UPDATE {schema}.outbox AS o SET body = {schema}.event_for(o.body, subject, pseudonym)
    WHERE {schema}.event_is_of(o.body, subject);
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'events';
    RETURN NEXT;
END
$$;
