-- Charges that settle, are held or owe nothing; what people decide about them; credits of a part.

ALTER TABLE billing.cdr DROP CONSTRAINT cdr_status_check;
ALTER TABLE billing.cdr ADD CONSTRAINT cdr_status_check CHECK (status IN
    ('settling', 'invoiced', 'nothing_owed', 'void', 'free', 'unpriced', 'held', 'drift', 'review', 'cancelled'));
ALTER TABLE billing.cdr
    ADD COLUMN reasons text[] NOT NULL DEFAULT '{}',  -- codes: why it is not invoiced by itself
    ADD COLUMN lines jsonb,             -- [billing.documents.DocumentLine] of the total; null where a document has them
    ADD COLUMN computed jsonb,          -- [schemas.events.Consumption] by billing, where the stream's is another
    ADD COLUMN due_at timestamptz,      -- of a settling one: when it is invoiced
    ADD COLUMN settling_since timestamptz,  -- of a settling one: when the first version of this settling came
    ADD COLUMN correlation_id text,     -- of a settling one: of the event that brought it
    ADD COLUMN traceparent text,
    ADD COLUMN decision_id uuid;        -- a person decided on the version before: see billing.charge_decision
DROP INDEX billing.cdr_odd;
CREATE INDEX cdr_waiting ON billing.cdr (created_at, id)
    WHERE current AND status IN ('held', 'drift', 'review', 'unpriced');
CREATE INDEX cdr_unbilled ON billing.cdr (created_at, id)
    WHERE current AND status IN ('settling', 'void', 'nothing_owed');
CREATE INDEX cdr_due ON billing.cdr (due_at) WHERE current AND status = 'settling';

-- The audit of decisions. Rows are inserted and never edited.
CREATE TABLE billing.charge_decision (
    id             uuid PRIMARY KEY,
    subject_id     uuid NOT NULL,
    cdr_id         uuid NOT NULL REFERENCES billing.cdr,  -- decided on
    result_cdr_id  uuid NOT NULL,                         -- the version that it made
    revision       int NOT NULL,       -- of the session: the decision is for this one
    decision       text NOT NULL CHECK (decision IN ('approve', 'correct', 'void')),
    status_before  text NOT NULL,
    reasons_before text[] NOT NULL,
    who            text NOT NULL,      -- kind and subject of the token
    why            text NOT NULL,
    energy_mwh     bigint,             -- of a correction
    started_at     timestamptz,        -- of a correction
    ended_at       timestamptz,
    decided_at     timestamptz NOT NULL
);
CREATE UNIQUE INDEX charge_decision_once ON billing.charge_decision (cdr_id);
CREATE INDEX charge_decision_subject ON billing.charge_decision (subject_id, decided_at);

-- An invoice may be credited in parts: never more than it requests, which the writer checks under its lock.
DROP INDEX billing.invoice_credited_once;
CREATE INDEX invoice_credits ON billing.invoice (credits) WHERE credits IS NOT NULL;
