-- A template that is reset to the built-in one keeps its row without a text: versions go on, so that nobody overwrites
-- it with what they read before.
ALTER TABLE notifications.template ALTER COLUMN title DROP NOT NULL, ALTER COLUMN body DROP NOT NULL;
