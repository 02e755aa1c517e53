-- Bays that a sensor tells of and the registry does not have are listed by their keys.
CREATE INDEX ON reservations.place (place_key) WHERE NOT registered AND bay IS NOT NULL;
