-- Collective invoices: the charges of a customer who wants one invoice a month are collected, and invoiced together.

-- A charge that is not invoiced by itself. A later version of it is another row: what was invoiced of the one before is
-- taken back on the next collective invoice.
CREATE TABLE billing.collected_charge (
    cdr_id       uuid PRIMARY KEY REFERENCES billing.cdr,
    subject_id   uuid NOT NULL,     -- as in the CDR
    version      int NOT NULL,
    customer_id  uuid NOT NULL,
    currency     text NOT NULL,
    label        text NOT NULL,     -- how the collective invoice names it
    energy_uj    bigint NOT NULL,
    started_at   timestamptz NOT NULL,
    ended_at     timestamptz NOT NULL,
    lines        jsonb NOT NULL,    -- of the charge: [billing.documents.DocumentLine]
    collected_at timestamptz NOT NULL,
    statement_id uuid REFERENCES billing.invoice,  -- the collective invoice that has dealt with it; null: it waits
    invoiced     boolean NOT NULL DEFAULT false    -- its lines stand on that, and no later one takes them back
);
CREATE INDEX collected_charge_waiting ON billing.collected_charge (customer_id, ended_at) WHERE statement_id IS NULL;
CREATE INDEX collected_charge_subject ON billing.collected_charge (subject_id);
CREATE UNIQUE INDEX collected_charge_invoiced ON billing.collected_charge (subject_id) WHERE invoiced;

-- A collective invoice is one of a customer, a month, a currency; part 2 and on where there is more than one document holds.
CREATE TABLE billing.statement (
    invoice_id  uuid PRIMARY KEY REFERENCES billing.invoice,
    customer_id uuid NOT NULL,
    month       date NOT NULL,      -- its first day
    currency    text NOT NULL,
    part        int NOT NULL,
    UNIQUE (customer_id, month, currency, part)
);
CREATE TABLE billing.statement_item (
    invoice_id uuid NOT NULL REFERENCES billing.statement,
    line       smallint NOT NULL,   -- the first of the item's
    label      text NOT NULL,
    cdr_id     uuid NOT NULL,
    taken_back boolean NOT NULL,    -- a version that another one replaces
    PRIMARY KEY (invoice_id, line)
);

-- A collective invoice has a CDR of its own kind, current of nothing: it sums the energy and spans the month.
ALTER TABLE billing.cdr DROP CONSTRAINT cdr_kind_check;
ALTER TABLE billing.cdr ADD CONSTRAINT cdr_kind_check CHECK (kind IN ('session', 'reservation', 'statement'));
ALTER TABLE billing.invoice DROP CONSTRAINT invoice_check;
ALTER TABLE billing.invoice ADD CONSTRAINT invoice_subject_check CHECK (session_id IS NULL OR reservation_id IS NULL);
