-- Who did what: rows that are added and never changed, sealed into a chain of blocks (docs/adr/0024).
-- All changes are by the functions below: no role but the owner of the schema may write a table of it.

CREATE SCHEMA IF NOT EXISTS audit;

CREATE TABLE audit.entry (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL,  -- by the clock of the process; in a business transaction the database's
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    action         text NOT NULL,  -- request, request.refused, or what was changed: token.issued
    actor          text NOT NULL,  -- kind and subject, or the token's id; anonymous; cli/<account>
    role           text NOT NULL,  -- the kind of token that the actor acted with; empty: none
    token          text NOT NULL CHECK (token IN ('', 'stored', 'signed')),
    token_id       uuid,
    method         text,
    endpoint       text,           -- the route's template
    status         smallint,       -- 499: the client was gone
    correlation_id text NOT NULL,
    address        text NOT NULL,
    duration_us    bigint,
    requests       bigint NOT NULL CHECK (requests > 0),  -- as many alike, refused within a minute
    entity         text,           -- what was changed: token/<id>
    before         jsonb,
    after          jsonb,
    reason         text
);
CREATE INDEX entry_at_idx ON audit.entry (at, id);
CREATE INDEX entry_actor_idx ON audit.entry (actor, at, id);
CREATE INDEX entry_endpoint_idx ON audit.entry (endpoint, at, id);
CREATE INDEX entry_entity_idx ON audit.entry (entity, at, id) WHERE entity IS NOT NULL;

-- A block of the chain: all entries with ids above the block before it and up to last_id.
CREATE TABLE audit.block (
    number       bigint PRIMARY KEY CHECK (number > 0),
    after_id     bigint NOT NULL,
    last_id      bigint NOT NULL CHECK (last_id > after_id),
    entries      int NOT NULL CHECK (entries > 0),
    oldest_at    timestamptz NOT NULL,  -- when the first and the last of them were recorded
    newest_at    timestamptz NOT NULL,
    sealed_at    timestamptz NOT NULL,
    entry_ids    bigint[],          -- null once its entries are past retention
    digests      bytea,             -- SHA-256 of each entry, in that order; likewise
    entries_hash bytea NOT NULL CHECK (octet_length(entries_hash) = 32),
    previous     bytea NOT NULL CHECK (octet_length(previous) = 32),
    hash         bytea NOT NULL CHECK (octet_length(hash) = 32),
    forgotten_at timestamptz        -- when its entries were deleted
);

-- Requests with readings, by token: one row a minute and process.
CREATE TABLE audit.telemetry_minute (
    minute    timestamptz NOT NULL,
    source    text NOT NULL,        -- the process
    token_ids uuid[] NOT NULL,
    requests  bigint[] NOT NULL,    -- of each of them
    others    bigint NOT NULL,      -- requests of tokens beyond those that a process counts by itself
    PRIMARY KEY (minute, source)
);

-- The transaction's number comes first: who waits until all transactions of before are over has then seen every entry
-- with an id of before (kit/audit/chain.py).
CREATE FUNCTION audit.record(jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_current_xact_id();
    INSERT INTO audit.entry (at, action, actor, role, token, token_id, method, endpoint, status, correlation_id, address,
                             duration_us, requests, entity, before, after, reason)
    SELECT coalesce(e.at, clock_timestamp()), e.action, e.actor, e.role, e.token, e.token_id, e.method, e.endpoint, e.status, e.correlation_id,
           e.address, e.duration_us, e.requests, e.entity, nullif(e.before, 'null'), nullif(e.after, 'null'), e.reason
    FROM jsonb_to_recordset($1) AS e (
        at timestamptz, action text, actor text, role text, token text, token_id uuid, method text, endpoint text,
        status smallint, correlation_id text, address text, duration_us bigint, requests bigint, entity text,
        before jsonb, after jsonb, reason text);
END $$;

CREATE FUNCTION audit.count_telemetry(minute timestamptz, source text, token_ids uuid[], requests bigint[], others bigint)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO audit.telemetry_minute VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
$$;

-- False: another process has sealed meanwhile.
CREATE FUNCTION audit.seal(number bigint, after_id bigint, last_id bigint, oldest_at timestamptz, newest_at timestamptz,
                           sealed_at timestamptz, entry_ids bigint[], digests bytea, entries_hash bytea, previous bytea,
                           hash bytea)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head audit.block;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.block', 0));
    SELECT * INTO head FROM audit.block AS b ORDER BY b.number DESC LIMIT 1;
    IF $1 <> coalesce(head.number, 0) + 1 OR $2 <> coalesce(head.last_id, 0)
       OR $10 <> coalesce(head.hash, decode(repeat('00', 32), 'hex')) THEN
        RETURN false;
    END IF;
    INSERT INTO audit.block
    VALUES ($1, $2, $3, cardinality($7), $4, $5, $6, $7, $8, $9, $10, $11, NULL);
    RETURN true;
END $$;

-- Deletes the entries of the oldest blocks, of which all were recorded so many days ago, by this server's clock, and notes
-- that it did. Nothing that is younger than 360 days can be deleted by it.
CREATE FUNCTION audit.forget(days int, blocks_max int, telemetry_days int)
RETURNS TABLE (first_block bigint, last_block bigint, entries bigint, minutes bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upto bigint;
    moment timestamptz := clock_timestamp() - make_interval(days => $1);
BEGIN
    IF $1 < 360 THEN
        RAISE EXCEPTION 'audit entries of the last 360 days are not deleted';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('audit.block', 0));
    DELETE FROM audit.telemetry_minute AS t WHERE t.minute < clock_timestamp() - make_interval(days => $3);
    GET DIAGNOSTICS minutes = ROW_COUNT;
    SELECT coalesce(min(b.number) FILTER (WHERE b.newest_at >= moment), max(b.number) + 1), min(b.number)
    INTO last_block, first_block FROM audit.block AS b WHERE b.forgotten_at IS NULL;
    last_block := least(last_block, first_block + $2) - 1;
    entries := 0;
    IF last_block >= first_block THEN
        SELECT b.last_id INTO upto FROM audit.block AS b WHERE b.number = last_block;
        DELETE FROM audit.entry AS e WHERE e.id <= upto;
        GET DIAGNOSTICS entries = ROW_COUNT;
        UPDATE audit.block AS b SET forgotten_at = clock_timestamp(), entry_ids = NULL, digests = NULL
        WHERE b.number BETWEEN first_block AND last_block;
        PERFORM audit.record(jsonb_build_array(jsonb_build_object(
            'at', clock_timestamp(), 'action', 'audit.forgotten', 'actor', 'retention', 'role', '', 'token', '',
            'correlation_id', '', 'address', '', 'requests', 1, 'entity', 'audit',
            'before', jsonb_build_object('first_block', first_block, 'last_block', last_block, 'entries', entries),
            'reason', 'recorded before ' || to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))));
    ELSE
        first_block := NULL;
        last_block := NULL;
    END IF;
    RETURN NEXT;
END $$;

CREATE FUNCTION audit.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries of the audit are not changed';
END $$;
-- Against mistakes of whoever has the owner's login; a later migration that must change rows says so.
CREATE TRIGGER entry_is_never_changed BEFORE UPDATE OR TRUNCATE ON audit.entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA audit FROM PUBLIC;
