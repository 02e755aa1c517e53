-- A session that streams has withdrawn: late readings showed that it was none. Of the completion with `revision`.
ALTER TABLE sessions.session ADD COLUMN withdrawn boolean NOT NULL DEFAULT false;
