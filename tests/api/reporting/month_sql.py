"""The SQL that writes what happened in a month, as the services would."""

ADD_CONNECTOR = """
INSERT INTO telemetry.connector (connector_key, partition, station_id, connector_id) OVERRIDING SYSTEM VALUE
VALUES (%s, 0, %s, %s)
"""
ADD_STATUS = """
INSERT INTO telemetry.status_interval (connector_key, since, place, status, revision) VALUES (%s, %s, 0, %s, 1)
"""
BEGIN_SILENCE = "INSERT INTO telemetry.silence (station_id, since, revision) VALUES (%s, %s, 1)"
END_SILENCE = "UPDATE telemetry.silence SET until = %s WHERE station_id = %s AND since = %s"
INSERT_READING = """
INSERT INTO telemetry.reading (connector_key, ts, power_mw, in_session_mwh, outside_mwh, seq, payload_hash, status)
VALUES (%s, %s, %s, %s, %s, %s, 0, 0)
"""
# The stream keeps in memory what it revises; this writer finds it again, of a month's 2 M readings.
WRITERS_INDEXES = """
CREATE INDEX ON telemetry.reading (connector_key, ts);
CREATE INDEX ON telemetry.reading (connector_key, seq)
"""
REVISE = "UPDATE telemetry.reading SET in_session_mwh = %s WHERE connector_key = %s AND seq = %s"
MERGE_WINDOWS = """
WITH gone AS (DELETE FROM telemetry.window_1m WHERE connector_key = %(key)s AND bucket = ANY(%(minutes)s))
, made AS (
    SELECT connector_key, date_trunc('minute', ts) AS bucket, count(*) AS readings, min(ts) AS first_ts,
        max(ts) AS last_ts, count(power_mw) AS n, coalesce(sum(power_mw), 0) AS p,
        coalesce(sum(in_session_mwh), 0) AS i, coalesce(sum(outside_mwh), 0) AS o
    FROM telemetry.reading WHERE connector_key = %(key)s AND date_trunc('minute', ts) = ANY(%(minutes)s)
        AND ts >= (SELECT min(m) FROM unnest(%(minutes)s) AS of_all (m))
        AND ts < (SELECT max(m) + interval '1 minute' FROM unnest(%(minutes)s) AS of_all (m))
    GROUP BY 1, 2
)
INSERT INTO telemetry.window_1m (connector_key, bucket, readings, flagged, first_ts, last_ts, power_mw_n, power_mw_sum,
    in_session_mwh_sum, outside_mwh_sum)
SELECT connector_key, bucket, readings, 0, first_ts, last_ts, n, p, i, o FROM made
ON CONFLICT (connector_key, bucket) DO UPDATE SET readings = excluded.readings, power_mw_n = excluded.power_mw_n,
    power_mw_sum = excluded.power_mw_sum, in_session_mwh_sum = excluded.in_session_mwh_sum,
    outside_mwh_sum = excluded.outside_mwh_sum
"""
PUT_SESSION = """
INSERT INTO telemetry.session (session_key, id, connector_key, started_at, last_at, ended_at, end_reason, energy_uj,
    integrated_uj, readings, flagged, export_mwh, void, revision)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 0, 1, 0, %s, %s, %s)
ON CONFLICT (session_key) DO UPDATE SET (ended_at, end_reason, void, revision) =
    (excluded.ended_at, excluded.end_reason, excluded.void, excluded.revision)
"""
ADD_CDR = """
INSERT INTO billing.cdr (id, kind, subject_id, version, current, revision, status, station_id, connector_id, started_at,
    ended_at, end_reason, estimated, energy_uj, readings, flagged, consumption, currency, demand_margin_micros,
    created_at)
VALUES (%s, %s, %s, %s, false, 1, 'invoiced', %s, %s, %s, %s, 'ended', false, 0, 1, 0, '[]', %s, %s, now())
"""
INVOICE = """
INSERT INTO billing.invoice (id, kind, year, sequence, number, cdr_id, subject_id, session_id, version, status,
    station_id, currency, minor_digits, total_excl_micros, total_incl_micros, payable_excl_minor, payable_minor,
    rounding, credits, issued_at, changed_at, demand_margin_micros)
"""
ADD_INVOICE = f"""{INVOICE} VALUES (%(id)s, 'invoice', 2026, %(sequence)s, '', %(cdr_id)s, %(session)s, %(session)s,
    1, 'cancelled', %(station)s, %(currency)s, 2, %(excl)s, %(incl)s, 0, 0, '', NULL, %(issued_at)s, now(), %(margin)s)
"""
ADD_STATEMENT = f"""{INVOICE} VALUES (%(id)s, 'invoice', 2026, %(sequence)s, '', %(cdr_id)s, %(id)s, NULL, 1,
    'open', '', %(currency)s, 2, %(excl)s, %(incl)s, 0, 0, '', NULL, %(issued_at)s, now(), %(margin)s);
"""
CREDIT = f"""{INVOICE} SELECT %(id)s, 'credit_note', 2026, %(sequence)s, '', cdr_id, subject_id, session_id, 1,
    'settled', station_id, currency, 2, %(excl)s, %(incl)s, 0, 0, '', id, %(issued_at)s, now(), %(margin)s
FROM billing.invoice WHERE session_id = %(session)s AND kind = 'invoice' ORDER BY sequence LIMIT 1
"""
MAKE_COLLECTIVE = """
INSERT INTO billing.statement (invoice_id, customer_id, month, currency, part)
VALUES (%s, gen_random_uuid(), '2026-03-01', %s, 1)
"""
ADD_ITEM = (
    "INSERT INTO billing.statement_item (invoice_id, line, cdr_id, label, taken_back) VALUES (%s, %s, %s, '', false)"
)
ADD_LINE = """
INSERT INTO billing.invoice_line (invoice_id, line, dimension, volume, billed, excl_micros, incl_micros)
VALUES (%s, %s, %s, 0, 0, %s, %s)
"""
PUT_RESERVATION = """
WITH at AS (
    INSERT INTO reservations.place (place_key, station_id, connector_id, bay, registered) OVERRIDING SYSTEM VALUE
    VALUES (%(place)s, %(station)s || '/' || %(place)s, %(connector)s, %(bay)s, true) ON CONFLICT DO NOTHING
), put AS (
    INSERT INTO reservations.reservation (id, driver_id, place_key, station_id, connector_id, bay, starts_at, ends_at,
        state, revision, created_at, created_by, due_at)
    VALUES (%(id)s, 'd', %(place)s, %(station)s, %(connector)s, %(bay)s, %(starts_at)s,
        %(starts_at)s + interval '1 hour', %(state)s, %(revision)s, %(created_at)s, 'test', %(due_at)s)
    ON CONFLICT (id) DO UPDATE SET (station_id, state, revision, due_at) =
        (excluded.station_id, excluded.state, excluded.revision, excluded.due_at)
)
INSERT INTO reservations.waiting (id, site, driver_id, standard, power_w_min, duration_s, joined_at, state,
    reservation_id)
SELECT %(id)s, %(id)s::text, 'd', 'x', 0, 0, %(joined_at)s, %(waits)s, %(id)s
WHERE %(joined_at)s::timestamptz IS NOT NULL
ON CONFLICT (id) DO UPDATE SET state = excluded.state
"""
PUT_STATION = """
INSERT INTO stations.station (station_id, country, changed_at) VALUES (%s, %s, %s)
ON CONFLICT (station_id) DO UPDATE SET (country, changed_at) = (excluded.country, excluded.changed_at)
"""
NOTHING = "SELECT %s::int"
