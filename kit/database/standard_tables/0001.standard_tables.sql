-- What every service's schema has, before its own tables: events on their way out, events handled before, answers
-- given before.

CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE IF NOT EXISTS {schema}.outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id    uuid NOT NULL,
    exchange    text NOT NULL,
    routing_key text NOT NULL,
    body        bytea NOT NULL,  -- the envelope as JSON
    headers     jsonb,           -- of the message, where they are not the envelope's own: text to text
    created_at  timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE {schema}.outbox ADD COLUMN IF NOT EXISTS headers jsonb;

CREATE TABLE IF NOT EXISTS {schema}.events_processed (
    queue        text NOT NULL,
    event_id     uuid NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, event_id)
);
CREATE INDEX IF NOT EXISTS events_processed_processed_at_idx ON {schema}.events_processed (processed_at);

CREATE TABLE IF NOT EXISTS {schema}.idempotency (
    principal    text NOT NULL,
    key          text COLLATE "C" NOT NULL,
    request_hash bytea NOT NULL,  -- SHA-256 of method, path, query and body
    status       smallint,        -- NULL only inside the transaction of the first request
    body         bytea,
    media_type   text,
    location     text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, key)
);
CREATE INDEX IF NOT EXISTS idempotency_created_at_idx ON {schema}.idempotency (created_at);
