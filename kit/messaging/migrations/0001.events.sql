-- What no consumer could handle, and its way back to the queue that failed.

CREATE SCHEMA IF NOT EXISTS events;

CREATE TABLE events.dead_letter (
    id          uuid PRIMARY KEY,  -- the same however often the letter is delivered
    queue       text NOT NULL,     -- whose consumer gave the event up
    event_id    text,
    exchange    text NOT NULL,     -- how it was published
    routing_key text NOT NULL,
    headers     jsonb NOT NULL,    -- of the letter: text to text
    body        bytea NOT NULL,
    error       text NOT NULL,
    attempts    int NOT NULL,
    died_at     timestamptz NOT NULL DEFAULT now(),
    -- Then it is in the outbox until its queue has it, and here to be known again if it is delivered once more.
    replayed_at timestamptz
);
CREATE INDEX ON events.dead_letter (queue, died_at, id) WHERE replayed_at IS NULL;
CREATE INDEX ON events.dead_letter (died_at, id);
CREATE INDEX ON events.dead_letter (replayed_at) WHERE replayed_at IS NOT NULL;

CREATE INDEX ON events.outbox (event_id);
