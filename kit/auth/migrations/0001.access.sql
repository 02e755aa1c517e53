-- Access tokens. Only a SHA-256 of each is here: 256 random bits need no salt and no slow hash.

CREATE SCHEMA IF NOT EXISTS access;

CREATE TABLE access.token (
    id         uuid PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('device', 'operator')),
    hash       bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    label      text NOT NULL,
    stations   text[],  -- upper case; null: all
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX ON access.token (revoked_at) WHERE revoked_at IS NOT NULL;
