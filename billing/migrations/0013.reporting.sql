-- Contract for reporting: what documents have charged for each charge.

CREATE INDEX cdr_ended ON billing.cdr (ended_at, station_id) WHERE kind <> 'statement';
CREATE INDEX statement_cdr_ended ON billing.cdr (ended_at) WHERE kind = 'statement';
CREATE INDEX statement_item_cdr ON billing.statement_item (cdr_id);
-- A collective invoice with its credit notes: they are of no station.
CREATE INDEX invoice_collective ON billing.invoice ((coalesce(credits, id))) WHERE station_id = '';

-- A row for each charge of each invoice, and of each credit note (below 0). Together the rows of a document are its
-- total. A credited part of a collective invoice that is given back is of no charge: its station is empty.
CREATE VIEW billing.documented_charges AS
SELECT i.id AS document_id, i.kind, i.issued_at, c.station_id, c.connector_id, c.started_at, c.ended_at,
       c.tariff_version, i.currency, i.total_excl_micros AS excl_micros, i.total_incl_micros AS incl_micros
FROM billing.cdr AS c
JOIN billing.invoice AS i ON i.subject_id = c.subject_id AND i.cdr_id = c.id
WHERE c.kind <> 'statement'
UNION ALL
SELECT i.id, i.kind, i.issued_at, c.station_id, c.connector_id, c.started_at, c.ended_at, c.tariff_version, i.currency,
       t.excl_micros, t.incl_micros
FROM billing.cdr AS c
JOIN billing.statement_item AS s ON s.cdr_id = c.id
JOIN billing.invoice AS i ON i.station_id = '' AND coalesce(i.credits, i.id) = s.invoice_id
CROSS JOIN LATERAL (
    SELECT sum(l.excl_micros)::bigint AS excl_micros, sum(l.incl_micros)::bigint AS incl_micros
    FROM billing.invoice_line AS l
    WHERE l.invoice_id = i.id AND l.dimension <> 'CREDIT' AND l.line >= s.line AND l.line < coalesce((
        SELECT min(o.line) FROM billing.statement_item AS o WHERE o.invoice_id = s.invoice_id AND o.line > s.line
    ), 32767)
    HAVING count(*) > 0
) AS t
WHERE c.kind <> 'statement'
UNION ALL
SELECT i.id, i.kind, i.issued_at, c.station_id, c.connector_id, c.started_at, c.ended_at, c.tariff_version, i.currency,
       t.excl_micros, t.incl_micros
FROM billing.cdr AS c
JOIN billing.invoice AS i ON i.subject_id = c.subject_id AND i.cdr_id = c.id
CROSS JOIN LATERAL (
    SELECT sum(l.excl_micros)::bigint AS excl_micros, sum(l.incl_micros)::bigint AS incl_micros
    FROM billing.invoice_line AS l WHERE l.invoice_id = i.id AND l.dimension = 'CREDIT'
    HAVING count(*) > 0
) AS t
WHERE c.kind = 'statement';
