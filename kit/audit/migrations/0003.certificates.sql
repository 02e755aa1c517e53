-- Devices that are known by a client certificate have no token. Rows that are there fit the narrower rule of before.
ALTER TABLE audit.entry
    DROP CONSTRAINT entry_token_check,
    ADD CONSTRAINT entry_token_check CHECK (token IN ('', 'stored', 'signed', 'certificate')) NOT VALID;
