-- What the reservation has cost that a session used, as it was when the session was priced: the tariff's minimum and
-- maximum price are of both together (docs/adr/0009). NULL: it used none that costs anything.
ALTER TABLE billing.cdr ADD COLUMN reserved_excl_micros bigint, ADD COLUMN reserved_incl_micros bigint,
    ADD CHECK ((reserved_excl_micros IS NULL) = (reserved_incl_micros IS NULL));
CREATE INDEX cdr_reservation ON billing.cdr (reservation_id) WHERE reservation_id IS NOT NULL AND current;
