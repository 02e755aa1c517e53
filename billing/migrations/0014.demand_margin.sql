-- The margin of demand pricing: what a charge comes to excl. VAT, less what it would by the tariff that a demand rule moved.
-- 0 where no rule had; NULL where that tariff is not known, as of all that was recorded before this migration.
ALTER TABLE billing.cdr ADD COLUMN demand_margin_micros bigint;
-- Of the charge as the document has it; a credit note's is below 0 where its invoice's is above. NULL too of a collective
-- invoice: each of its charges has its own.
ALTER TABLE billing.invoice ADD COLUMN demand_margin_micros bigint;

-- The same rows as before, with their margins. What is of no charge has none.
CREATE OR REPLACE VIEW billing.documented_charges AS
SELECT i.id AS document_id, i.kind, i.issued_at, c.station_id, c.connector_id, c.started_at, c.ended_at,
       c.tariff_version, i.currency, i.total_excl_micros AS excl_micros, i.total_incl_micros AS incl_micros,
       i.demand_margin_micros
FROM billing.cdr AS c
JOIN billing.invoice AS i ON i.subject_id = c.subject_id AND i.cdr_id = c.id
WHERE c.kind <> 'statement'
UNION ALL
SELECT i.id, i.kind, i.issued_at, c.station_id, c.connector_id, c.started_at, c.ended_at, c.tariff_version, i.currency,
       t.excl_micros, t.incl_micros,
       CASE WHEN s.taken_back = (i.kind = 'credit_note') THEN c.demand_margin_micros ELSE -c.demand_margin_micros END
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
       t.excl_micros, t.incl_micros, 0::bigint
FROM billing.cdr AS c
JOIN billing.invoice AS i ON i.subject_id = c.subject_id AND i.cdr_id = c.id
CROSS JOIN LATERAL (
    SELECT sum(l.excl_micros)::bigint AS excl_micros, sum(l.incl_micros)::bigint AS incl_micros
    FROM billing.invoice_line AS l WHERE l.invoice_id = i.id AND l.dimension = 'CREDIT'
    HAVING count(*) > 0
) AS t
WHERE c.kind = 'statement';
