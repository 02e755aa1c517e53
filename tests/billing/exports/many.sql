-- Invoices of one tariff, as many as asked for.
WITH tariff AS (
    INSERT INTO billing.tariff_version (version, tariff)
    VALUES ('11111111-1111-4111-8111-111111111111', '{"currency": "EUR", "elements": [{"price_components": [{"type": "ENERGY", "price": 1, "step_size": 1}]}]}') RETURNING version
), cdr AS (
    INSERT INTO billing.cdr (id, kind, subject_id, version, current, revision, status, station_id, connector_id, started_at, ended_at,
        end_reason, estimated, energy_uj, readings, flagged, tariff_version, consumption, currency, created_at)
    SELECT gen_random_uuid(), 'session', gen_random_uuid(), 1, true, 1, 'invoiced', 'NL-' || n %% 1000, 1,
        '2026-03-01'::timestamptz + n * interval '1 s', '2026-03-01'::timestamptz + n * interval '2 s', 'ended', false,
        36000000000000 + n, 100, 0, version,
        '[{"element": 0, "dimension": "ENERGY", "volume": 10000000, "since": "2026-03-01T00:00:00.000Z", "last": true}'
        ']', 'EUR', now()
    FROM generate_series(1, %(many)s) AS n, tariff RETURNING id, subject_id, station_id, energy_uj
), document AS (
    INSERT INTO billing.invoice (id, kind, year, sequence, number, cdr_id, subject_id, session_id, version, status,
        driver_id, station_id, currency, minor_digits, total_excl_micros, total_incl_micros, payable_excl_minor,
        payable_minor, rounding, issued_at, changed_at)
    SELECT gen_random_uuid(), 'invoice', 2026, n, '2026-' || lpad(n::text, 7, '0'), id, subject_id, subject_id, 1,
        'open', 'driver ' || n %% 5000, station_id, 'EUR', 2, 3456789 + n, 4182715 + n, 346, 418, 'half up',
        '2026-03-01'::timestamptz + n * interval '1 s', now()
    FROM (SELECT *, energy_uj - 36000000000000 AS n FROM cdr) AS cdr RETURNING id, total_excl_micros, total_incl_micros
), line AS (
    INSERT INTO billing.invoice_line SELECT id, 1, 'ENERGY', 0, 10000000, 10000000, 345600, 210000, total_excl_micros,
        total_incl_micros FROM document RETURNING 1
) SELECT count(*) FROM line
