-- Erasures that were done, and what is held of drivers in the schemas that no service owns: access and audit.

CREATE SCHEMA IF NOT EXISTS privacy;

-- Subjects are kept as HMAC-SHA256 with this key: whoever has a driver's id and the database can tell that it was erased,
-- and nobody learns the id from it.
CREATE TABLE privacy.hashing_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    key bytea NOT NULL CHECK (octet_length(key) = 32)
);
INSERT INTO privacy.hashing_key (key) VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

-- The last erasure of each subject that erased anything: to ask again changes nothing, and gets the same answer.
CREATE TABLE privacy.erasure (
    subject_hash bytea PRIMARY KEY CHECK (octet_length(subject_hash) = 32),
    erased_at    timestamptz NOT NULL,
    erased       jsonb NOT NULL  -- {kind: records}
);

-- Entries about a driver's tokens, by the driver, which no entry's actor is.
CREATE INDEX entry_token_subject_idx ON audit.entry ((coalesce(after, before) ->> 'subject')) WHERE action LIKE 'token.%';

-- Entries about a customer, by the drivers whom it pays for.
CREATE INDEX entry_customer_before_idx ON audit.entry USING gin ((before -> 'driver_ids')) WHERE action LIKE 'customer.%';
CREATE INDEX entry_customer_after_idx ON audit.entry USING gin ((after -> 'driver_ids')) WHERE action LIKE 'customer.%';

CREATE FUNCTION privacy.entries_of(subject text) RETURNS SETOF audit.entry
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT * FROM audit.entry AS e WHERE e.actor = 'driver/' || subject
UNION SELECT * FROM audit.entry AS e WHERE e.entity = 'signed-tokens-of/' || subject
UNION SELECT * FROM audit.entry AS e
WHERE e.action LIKE 'token.%' AND coalesce(e.after, e.before) ->> 'subject' = subject
    AND coalesce(e.after, e.before) ->> 'kind' = 'driver'
UNION SELECT * FROM audit.entry AS e WHERE e.action LIKE 'customer.%' AND e.before -> 'driver_ids' ? subject
UNION SELECT * FROM audit.entry AS e WHERE e.action LIKE 'customer.%' AND e.after -> 'driver_ids' ? subject
$$;

CREATE FUNCTION privacy.personal_data_export(subject text) RETURNS TABLE (kind text, record jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT * FROM (
    SELECT 'tokens', to_jsonb(t) - '{hash,previous_hash}'::text[] FROM access.token AS t WHERE t.subject = $1
    ORDER BY t.created_at, t.id
) AS issued
UNION ALL SELECT * FROM (
    SELECT 'token_revocations', to_jsonb(r) FROM access.signed_token_revocation AS r WHERE r.subject = $1
    ORDER BY r.revoked_at
) AS revoked
UNION ALL SELECT * FROM (
    SELECT 'audit_entries', to_jsonb(e) FROM privacy.entries_of($1) AS e ORDER BY e.id
) AS audited
UNION ALL SELECT * FROM privacy.standard_data_export($1)
$$;

CREATE FUNCTION privacy.personal_data_open(subject text, moment timestamptz) RETURNS TABLE (kind text, what text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT NULL::text, NULL::text WHERE false $$;

CREATE FUNCTION privacy.personal_data_erase(subject text, pseudonym text)
    RETURNS TABLE (kind text, erased bigint, newest_kept timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    DELETE FROM access.token AS t WHERE t.subject = $1;
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'tokens';
    RETURN NEXT;
    erased := 0;
    SELECT max(r.revoked_at) INTO newest_kept FROM access.signed_token_revocation AS r WHERE r.subject = $1;
    kind := 'token_revocations';
    RETURN NEXT;
    SELECT max(e.recorded_at) INTO newest_kept FROM privacy.entries_of($1) AS e;
    kind := 'audit_entries';
    RETURN NEXT;
    RETURN QUERY SELECT s.kind, s.erased, NULL::timestamptz FROM privacy.standard_data_erase($1, pseudonym, '{}') AS s;
END
$$;

REVOKE EXECUTE ON FUNCTION privacy.personal_data_export(text), privacy.personal_data_open(text, timestamptz),
    privacy.personal_data_erase(text, text) FROM PUBLIC;
