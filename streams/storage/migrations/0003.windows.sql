-- Windows may be merged some commits after their readings: `stored` of those that are, and closed once both are equal.
ALTER TABLE telemetry.ledger ADD COLUMN in_windows bigint NOT NULL DEFAULT 0;
UPDATE telemetry.ledger SET in_windows = stored;
