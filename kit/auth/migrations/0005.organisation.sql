-- A token for the stations of one organisation, as the registry of stations names it.
ALTER TABLE access.token
    ADD COLUMN organisation text CHECK (char_length(organisation) BETWEEN 1 AND 64);  -- null: any
