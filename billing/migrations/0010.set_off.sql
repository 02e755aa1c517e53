-- Set-off: what credit notes owe a payer pays their next invoices (docs/adr/0018).

CREATE TABLE billing.set_off (  -- rows are inserted and never edited
    invoice_id     uuid NOT NULL REFERENCES billing.invoice,  -- pays this one
    credit_note_id uuid NOT NULL REFERENCES billing.invoice,  -- with what this one owes
    amount_minor   bigint NOT NULL CHECK (amount_minor > 0),
    set_off_at     timestamptz NOT NULL,
    PRIMARY KEY (invoice_id, credit_note_id)
);
CREATE INDEX set_off_credit_note ON billing.set_off (credit_note_id);

-- The sum of a document's set-offs: of an invoice, above 0, what was paid by credit notes when it was issued; of a credit
-- note, below 0, what of it has paid invoices so far.
ALTER TABLE billing.invoice
    ADD COLUMN set_off_minor bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT invoice_set_off_check
        CHECK (abs(set_off_minor) <= abs(payable_minor) AND sign(set_off_minor) * sign(payable_minor) >= 0);
CREATE INDEX invoice_to_refund ON billing.invoice (driver_id) WHERE kind = 'credit_note' AND status = 'open';
