ALTER TABLE sessions.session RENAME COLUMN heard_at TO observed_at;
