-- Three more roles; scopes, expiry, last use, and a secret that is valid for a while beside the one that replaces it.

ALTER TABLE access.token
    ADD COLUMN scopes text[] CHECK (cardinality(scopes) BETWEEN 1 AND 100),  -- null: all of the role
    ADD COLUMN expires_at timestamptz,  -- null: never
    ADD COLUMN last_used_at timestamptz,  -- to the minute; null: not since this was recorded
    ADD COLUMN previous_hash bytea UNIQUE CHECK (octet_length(previous_hash) = 32),
    ADD COLUMN previous_expires_at timestamptz,
    ADD CONSTRAINT token_previous_check CHECK ((previous_hash IS NULL) = (previous_expires_at IS NULL)),
    DROP CONSTRAINT token_kind_check,
    ADD CONSTRAINT token_kind_check
        CHECK (kind IN ('admin', 'operator', 'finance', 'support', 'auditor', 'driver', 'device'));

-- Signed tokens that are not accepted though they have not expired: one by its id, or all of a subject that were issued
-- before a moment. Rows are only added: a process reads them again when there are more than it knows of.
CREATE TABLE access.signed_token_revocation (
    jti           text CHECK (char_length(jti) BETWEEN 1 AND 256),
    subject       text CHECK (char_length(subject) BETWEEN 1 AND 64),
    issued_before timestamptz,
    revoked_at    timestamptz NOT NULL DEFAULT now(),
    CHECK ((jti IS NULL) <> (subject IS NULL)),
    CHECK ((subject IS NULL) = (issued_before IS NULL))
);
