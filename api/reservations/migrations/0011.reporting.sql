-- Contracts for reporting, without the drivers.

CREATE VIEW reservations.reservation_overview AS
SELECT station_id, connector_id, starts_at, state FROM reservations.reservation;

-- Who waited, and the place that was offered to them last, if any. Entries that are over are kept for 30 days.
CREATE VIEW reservations.waiting_overview AS
SELECT w.joined_at, w.state, r.station_id, r.connector_id, r.created_at AS offered_at
FROM reservations.waiting AS w LEFT JOIN reservations.reservation AS r ON r.id = w.reservation_id;
CREATE INDEX ON reservations.reservation (station_id, created_at);
