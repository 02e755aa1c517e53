-- A revocation of signed tokens may be deleted once all tokens that it is about have expired (VOLTSTREAM_JWT_LIFETIME_DAYS_MAX).
-- So a process no longer knows from the number of rows whether there are others: it compares a hash of their ids.

ALTER TABLE access.signed_token_revocation ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY;
