"""The SQL that makes charges and documents nobody's at the end of their retention."""

from typing import Final

from kit.retention import RecordRetention

# All versions of a charge without documents, and whose its session is.
_CHARGES: Final = """
WITH old AS (
    SELECT subject_id FROM billing.cdr
    WHERE created_at < $1 AND current AND driver_id IS NOT NULL
      AND status IN ('nothing_owed', 'void', 'free', 'cancelled') AND NOT billing.is_documented(subject_id)
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
), sessions AS (
    UPDATE billing.session_driver SET driver_id = NULL
    WHERE session_id IN (SELECT subject_id FROM old) AND driver_id IS NOT NULL
)
UPDATE billing.cdr SET driver_id = NULL WHERE subject_id IN (SELECT subject_id FROM old) AND driver_id IS NOT NULL
"""
# Settled documents of one charge, all of them at once: the last one decides. With them go the buyer, the provider's
# reference to the payer, and the driver of the charge.
_DOCUMENTS: Final = """
WITH old AS (
    SELECT id, subject_id FROM billing.invoice AS i
    WHERE issued_at < $1 AND driver_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM billing.invoice AS o
        WHERE o.subject_id = i.subject_id AND (o.issued_at >= $1 OR o.status = 'open'))
    ORDER BY issued_at LIMIT $2 FOR UPDATE SKIP LOCKED
), terms AS (
    UPDATE billing.document_terms SET buyer = NULL, payment_terms = '' WHERE invoice_id IN (SELECT id FROM old)
), payments AS (
    UPDATE billing.payment SET reference = '', error = '' WHERE invoice_id IN (SELECT id FROM old)
), sessions AS (
    UPDATE billing.session_driver SET driver_id = NULL
    WHERE session_id IN (SELECT subject_id FROM old) AND driver_id IS NOT NULL
), charges AS (
    UPDATE billing.cdr SET driver_id = NULL WHERE subject_id IN (SELECT subject_id FROM old) AND driver_id IS NOT NULL
)
UPDATE billing.invoice SET driver_id = NULL, reason = '' WHERE id IN (SELECT id FROM old)
"""
# Settled documents to a customer and no driver: collective invoices and their credit notes. Labels of their charges
# name the drivers.
_COLLECTIVE: Final = """
WITH old AS (
    SELECT t.invoice_id AS id FROM billing.document_terms AS t JOIN billing.invoice AS i ON i.id = t.invoice_id
    WHERE t.issued_on < ($1 AT TIME ZONE 'UTC')::date AND t.buyer IS NOT NULL AND i.driver_id IS NULL AND NOT EXISTS (
        SELECT FROM billing.invoice AS o
        WHERE coalesce(o.credits, o.id) = coalesce(i.credits, i.id) AND o.station_id = ''
          AND (o.issued_at >= $1 OR o.status = 'open'))
    ORDER BY t.issued_on LIMIT $2 FOR UPDATE OF t SKIP LOCKED
), charged AS (
    SELECT k.cdr_id, k.subject_id, ' · ' || c.driver_id AS named
    FROM billing.collected_charge AS k JOIN billing.cdr AS c ON c.id = k.cdr_id
    WHERE k.statement_id IN (SELECT id FROM old) AND c.driver_id IS NOT NULL
), labels AS (
    UPDATE billing.collected_charge AS k SET label = replace(k.label, c.named, '')
    FROM charged AS c WHERE k.cdr_id = c.cdr_id
), items AS (
    UPDATE billing.statement_item AS s SET label = replace(s.label, c.named, '')
    FROM charged AS c WHERE s.cdr_id = c.cdr_id
), sessions AS (
    UPDATE billing.session_driver SET driver_id = NULL WHERE session_id IN (SELECT subject_id FROM charged)
), charges AS (
    UPDATE billing.cdr SET driver_id = NULL WHERE id IN (SELECT cdr_id FROM charged)
), payments AS (
    UPDATE billing.payment SET reference = '', error = '' WHERE invoice_id IN (SELECT id FROM old)
), documents AS (
    UPDATE billing.invoice SET reason = '' WHERE id IN (SELECT id FROM old) AND reason <> ''
)
UPDATE billing.document_terms SET buyer = NULL, payment_terms = '' WHERE invoice_id IN (SELECT id FROM old)
"""
RETENTION: Final = (
    RecordRetention("charges", "billing.charge_retention", _CHARGES),
    RecordRetention("documents", "billing.document_retention", _DOCUMENTS),
    RecordRetention("documents", "billing.document_retention", _COLLECTIVE),
)
