-- The sessions that used a reservation, which are priced again when it becomes known.
CREATE INDEX session_driver_reservation ON billing.session_driver (reservation_id) WHERE reservation_id IS NOT NULL;
