-- Contracts: what is held of a driver (kit/personal_data.py). Documents, and the charges and payments that they rest on, stay
-- as they were issued, for as long as the law wants them kept (setting billing.document_retention).

CREATE INDEX cdr_driver ON billing.cdr (driver_id) WHERE driver_id IS NOT NULL;
-- What is to be made nobody's after a time, by age: charges without documents, documents, and collective invoices.
CREATE INDEX cdr_of_driver ON billing.cdr (created_at)
    WHERE current AND driver_id IS NOT NULL AND status IN ('nothing_owed', 'void', 'free', 'cancelled');
CREATE INDEX invoice_of_driver ON billing.invoice (issued_at) WHERE driver_id IS NOT NULL;
CREATE INDEX document_terms_of_buyer ON billing.document_terms (issued_on) WHERE buyer IS NOT NULL;
CREATE INDEX session_driver_driver ON billing.session_driver (driver_id) WHERE driver_id IS NOT NULL;

-- Documents of a driver: their own, and collective invoices with a charge of theirs. A credit note of one has the same
-- driver, or none where it is of a collective invoice.
CREATE FUNCTION billing.documents_of(subject text) RETURNS SETOF uuid
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT i.id FROM billing.invoice AS i WHERE i.driver_id = subject
UNION
SELECT i.id FROM billing.cdr AS c
JOIN billing.collected_charge AS k ON k.cdr_id = c.id
JOIN billing.invoice AS i ON i.id = k.statement_id OR i.credits = k.statement_id
WHERE c.driver_id = subject
$$;

-- Whether a document, or what waits for one, rests on a charge.
CREATE FUNCTION billing.is_documented(subject_id uuid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT EXISTS (SELECT FROM billing.invoice AS i WHERE i.subject_id = $1)
    OR EXISTS (SELECT FROM billing.collected_charge AS k WHERE k.subject_id = $1)
$$;

-- The customer that is the driver: one without a tax id, as a business has, and without another driver.
CREATE FUNCTION billing.customer_who_is(subject text) RETURNS uuid
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT c.id FROM billing.customer_driver AS d JOIN billing.customer AS c ON c.id = d.customer_id
WHERE d.driver_id = subject AND c.tax_id = ''
  AND NOT EXISTS (SELECT FROM billing.customer_driver AS o WHERE o.customer_id = c.id AND o.driver_id <> subject)
$$;

CREATE FUNCTION billing.personal_data_export(subject text) RETURNS TABLE (kind text, record jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT 'customers', CASE WHEN c.id = billing.customer_who_is(subject) THEN to_jsonb(c)
                         ELSE jsonb_build_object('id', c.id, 'name', c.name) END
FROM billing.customer_driver AS d JOIN billing.customer AS c ON c.id = d.customer_id WHERE d.driver_id = subject
UNION ALL SELECT * FROM (
    SELECT 'charges', to_jsonb(c) - '{computed,correlation_id,traceparent,decision_id}'::text[] FROM billing.cdr AS c
    WHERE c.driver_id = subject ORDER BY c.started_at, c.id
) AS charged
UNION ALL SELECT * FROM (
    SELECT 'documents', to_jsonb(i) || jsonb_build_object(
        'buyer', t.buyer, 'seller', t.seller, 'due_on', t.due_on, 'payment_terms', t.payment_terms,
        'lines', (SELECT coalesce(jsonb_agg(to_jsonb(l) - 'invoice_id' ORDER BY l.line), '[]')
                  FROM billing.invoice_line AS l WHERE l.invoice_id = i.id),
        'payments', (SELECT coalesce(jsonb_agg(to_jsonb(p) - 'invoice_id' ORDER BY p.attempt), '[]')
                     FROM billing.payment AS p WHERE p.invoice_id = i.id))
    FROM billing.invoice AS i LEFT JOIN billing.document_terms AS t ON t.invoice_id = i.id
    WHERE i.driver_id = subject ORDER BY i.year, i.sequence
) AS issued
UNION ALL SELECT * FROM (
    SELECT 'documents', to_jsonb(i) || jsonb_build_object('charges', k.charges)
    FROM billing.invoice AS i JOIN (
        SELECT k.statement_id, jsonb_agg(jsonb_build_object(
            'charge', k.subject_id, 'label', k.label, 'lines', k.lines) ORDER BY k.started_at, k.cdr_id) AS charges
        FROM billing.cdr AS c JOIN billing.collected_charge AS k ON k.cdr_id = c.id
        WHERE c.driver_id = subject GROUP BY k.statement_id
    ) AS k ON k.statement_id = i.id
    ORDER BY i.year, i.sequence
) AS collected
UNION ALL SELECT * FROM billing.standard_data_export(subject)
$$;

-- Under the lock of whoever writes documents.
CREATE FUNCTION billing.personal_data_open(subject text, moment timestamptz) RETURNS TABLE (kind text, what text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM FROM billing.numbering FOR UPDATE;
    RETURN QUERY
        SELECT 'charges', c.kind || ' ' || c.subject_id || ' is ' || c.status || ': it is not decided what it costs'
        FROM billing.cdr AS c
        WHERE c.driver_id = subject AND c.current
          AND c.status IN ('settling', 'held', 'drift', 'review', 'unpriced') ORDER BY c.started_at, c.id;
    RETURN QUERY
        SELECT 'charges', 'charge ' || k.subject_id || ' waits for the collective invoice of its month'
        FROM billing.cdr AS c JOIN billing.collected_charge AS k ON k.cdr_id = c.id
        WHERE c.driver_id = subject AND k.statement_id IS NULL ORDER BY k.started_at, k.cdr_id;
    RETURN QUERY
        SELECT 'documents', CASE i.kind WHEN 'invoice' THEN 'invoice ' || i.number || ' is not paid'
                                        ELSE 'credit note ' || i.number || ' is not refunded' END
        FROM billing.invoice AS i
        WHERE i.status = 'open' AND (i.driver_id = subject OR i.id IN (
            SELECT t.invoice_id FROM billing.document_terms AS t
            WHERE t.buyer ->> 'customer_id' = billing.customer_who_is(subject)::text
        )) ORDER BY i.year, i.sequence;
    RETURN QUERY
        SELECT 'documents', 'a ' || p.kind || ' of document ' || i.number || ' is under way'
        FROM billing.invoice AS i JOIN billing.payment AS p ON p.invoice_id = i.id
        WHERE i.driver_id = subject AND i.status <> 'open' AND p.status = 'pending' ORDER BY i.year, i.sequence;
END
$$;

CREATE FUNCTION billing.personal_data_erase(subject text, pseudonym text)
    RETURNS TABLE (kind text, erased bigint, newest_kept timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    customer uuid := billing.customer_who_is(subject);
    words    text[] := '{}';
BEGIN
    PERFORM FROM billing.numbering FOR UPDATE;
    IF customer IS NOT NULL THEN
        words := ARRAY[customer::text];
    END IF;
    DELETE FROM billing.customer_driver AS d WHERE d.driver_id = subject;
    GET DIAGNOSTICS erased = ROW_COUNT;
    DELETE FROM billing.customer AS c WHERE c.id = customer;
    kind := 'customers';
    RETURN NEXT;
    UPDATE billing.session_driver AS d SET driver_id = NULL
    WHERE d.driver_id = subject AND NOT billing.is_documented(d.session_id);
    UPDATE billing.cdr AS c SET driver_id = NULL WHERE c.driver_id = subject AND NOT billing.is_documented(c.subject_id);
    GET DIAGNOSTICS erased = ROW_COUNT;
    kind := 'charges';
    RETURN NEXT;
    SELECT max(i.issued_at) INTO newest_kept FROM billing.invoice AS i WHERE i.id IN (SELECT billing.documents_of(subject));
    kind := 'documents';
    erased := 0;
    RETURN NEXT;
    RETURN QUERY SELECT s.kind, s.erased, NULL::timestamptz FROM billing.standard_data_erase(subject, pseudonym, words) AS s;
END
$$;

REVOKE EXECUTE ON FUNCTION billing.personal_data_export(text), billing.personal_data_open(text, timestamptz),
    billing.personal_data_erase(text, text) FROM PUBLIC;
