-- Two more kinds: finance, and drivers, whose token says which driver it speaks for.

ALTER TABLE access.token
    ADD COLUMN subject text,  -- the driver's id; null for every other kind
    DROP CONSTRAINT token_kind_check,
    ADD CONSTRAINT token_kind_check CHECK (kind IN ('device', 'operator', 'finance', 'driver')),
    ADD CONSTRAINT token_subject_check CHECK ((kind = 'driver') = (subject IS NOT NULL)),
    ADD CONSTRAINT token_subject_length_check CHECK (char_length(subject) BETWEEN 1 AND 64);
