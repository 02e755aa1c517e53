-- What operators have set, and every change of it. A setting that nobody set has no row here.

CREATE SCHEMA IF NOT EXISTS config;

-- One row. Each change locks it, so that revisions are in the order of their commits.
CREATE TABLE config.revision (
    only_row bool PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL
);
INSERT INTO config.revision (revision) VALUES (0);

CREATE TABLE config.setting (
    name       text COLLATE "C" PRIMARY KEY,
    document   jsonb,           -- {"value": …} or, of a flag, {"rule": …}; null: back at its default
    version    int NOT NULL CHECK (version > 0),  -- of this setting; it goes on after a return to the default
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    reason     text NOT NULL
);

CREATE TABLE config.change (
    revision   bigint PRIMARY KEY,
    name       text COLLATE "C" NOT NULL,
    version    int NOT NULL,
    before     jsonb,
    after      jsonb,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    reason     text NOT NULL,
    UNIQUE (name, version)
);
CREATE INDEX ON config.change (name, revision DESC);

-- The contract: all that is set, at one revision. Every process that follows the configuration reads it.
CREATE VIEW config.snapshot AS
SELECT revision, coalesce(
    (SELECT jsonb_object_agg(name, document || jsonb_build_object('version', version))
     FROM config.setting WHERE document IS NOT NULL), '{}'
) AS settings
FROM config.revision;
