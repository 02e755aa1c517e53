-- A token that nobody uses for long is over (VOLTSTREAM_TOKEN_IDLE_DAYS_MAX). For those that are there the time begins
-- now: their last use may not have been recorded.
ALTER TABLE access.token ADD COLUMN idle_from timestamptz NOT NULL DEFAULT now();
