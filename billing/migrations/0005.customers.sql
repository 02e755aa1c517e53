-- Customers, whom documents name as the buyer, and what each document said of its parties and terms when it was issued.

CREATE TABLE billing.customer (
    id                 uuid PRIMARY KEY,  -- random
    name               text NOT NULL,
    address            jsonb NOT NULL,    -- {lines, postal_code, city, country}
    tax_id             text NOT NULL DEFAULT '',
    email              text NOT NULL DEFAULT '',
    reference          text NOT NULL DEFAULT '',  -- what the customer wants to read on their invoices
    electronic_address jsonb,             -- {scheme, id} in Peppol
    billing            text NOT NULL DEFAULT 'single' CHECK (billing IN ('single', 'monthly')),
    time_zone          text NOT NULL DEFAULT 'UTC',  -- in which a month of collective invoices begins
    payment_days       int CHECK (payment_days BETWEEN 0 AND 365),  -- null: the seller's
    payment_terms      text,              -- null: the seller's
    version            int NOT NULL,      -- from 1, with each change
    created_at         timestamptz NOT NULL,
    changed_at         timestamptz NOT NULL
);
CREATE INDEX customer_created ON billing.customer (created_at, id);

-- The customer who pays for what a driver charges.
CREATE TABLE billing.customer_driver (
    driver_id   text PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES billing.customer ON DELETE CASCADE
);
CREATE INDEX customer_driver_customer ON billing.customer_driver (customer_id);

-- What a document says of seller, buyer and payment. It stays as it is, whatever becomes of settings and customers.
-- The buyer follows the document's driver, who may be known only later.
CREATE TABLE billing.document_terms (
    invoice_id    uuid PRIMARY KEY REFERENCES billing.invoice ON DELETE CASCADE,
    seller        jsonb NOT NULL,
    buyer         jsonb,
    issued_on     date NOT NULL,  -- in the zone of the charge
    due_on        date,           -- null: nothing is to be paid
    payment_terms text NOT NULL
);
