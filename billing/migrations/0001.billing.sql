-- The billing schema. Amounts are micro-units (1e-6) of the currency, or its minor units where they are to be paid.
-- Documents (billing.invoice and its lines) are inserted and never edited: only `status` and `driver_id` move.

CREATE SCHEMA IF NOT EXISTS billing;

-- The writer's lock: whoever writes documents takes this one row first and keeps it to the commit. So numbers have no
-- gaps, rise with the moments of issue, and nobody decides on a document that another is just changing.
CREATE TABLE billing.numbering (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    year      int NOT NULL,
    last      bigint NOT NULL,
    issued_at timestamptz NOT NULL
) WITH (fillfactor = 10);  -- rewritten with every batch: room for the new version in the same page
INSERT INTO billing.numbering (year, last, issued_at) VALUES (1970, 0, 'epoch');

-- Tariffs as pricing published them: a version is never edited, so the first word on it stands.
CREATE TABLE billing.tariff_version (
    version  uuid PRIMARY KEY,
    tariff   jsonb NOT NULL,  -- OCPI Tariff
    heard_at timestamptz NOT NULL DEFAULT now()
);

-- What one charge comes to: a session's, or a reservation's. Other money is another version; the older ones stay.
CREATE TABLE billing.cdr (
    id                 uuid PRIMARY KEY,  -- random: ids of money are not to be guessed
    kind               text NOT NULL CHECK (kind IN ('session', 'reservation')),
    subject_id         uuid NOT NULL,     -- voltstream's id of the session; of a reservation, derived from its id
    reservation_id     text,              -- of a reservation
    version            int NOT NULL,      -- from 1
    current            boolean NOT NULL,  -- the highest version
    revision           int NOT NULL,      -- of session.completed: the newest that says exactly this money
    status             text NOT NULL CHECK (status IN
                       ('invoiced', 'free', 'unpriced', 'drift', 'review', 'cancelled')),
    driver_id          text,
    station_id         text COLLATE "C" NOT NULL,
    connector_id       int,
    device_session_id  text,
    started_at         timestamptz NOT NULL,
    ended_at           timestamptz NOT NULL,
    end_reason         text NOT NULL,     -- ended | freed | superseded | timeout; used | expired
    estimated          boolean NOT NULL,
    energy_uj          bigint NOT NULL,
    readings           int NOT NULL,
    flagged            int NOT NULL,
    tariff_version     uuid REFERENCES billing.tariff_version,  -- null: no tariff was in force
    time_zone          text,
    consumption        jsonb NOT NULL,    -- [schemas.events.Consumption]
    currency           text,
    total_excl_micros  bigint,
    total_incl_micros  bigint,
    stream_excl_micros bigint,            -- what the stream said; other than ours where status is drift
    stream_incl_micros bigint,
    created_at         timestamptz NOT NULL,
    UNIQUE (subject_id, version)
);
CREATE UNIQUE INDEX cdr_current ON billing.cdr (subject_id) WHERE current;
CREATE INDEX cdr_started ON billing.cdr (started_at, id) WHERE current;
CREATE INDEX cdr_odd ON billing.cdr (created_at) WHERE current AND status IN ('drift', 'review', 'unpriced');

CREATE TABLE billing.invoice (
    id                 uuid PRIMARY KEY,  -- random
    kind               text NOT NULL CHECK (kind IN ('invoice', 'credit_note')),
    year               int NOT NULL,
    sequence           bigint NOT NULL,   -- 1, 2, 3, … of the year, invoices and credit notes in one
    number             text NOT NULL,     -- 2026-0000001
    cdr_id             uuid NOT NULL REFERENCES billing.cdr,
    subject_id         uuid NOT NULL,     -- as in the CDR
    session_id         uuid,              -- one of the two
    reservation_id     text,
    version            int NOT NULL,      -- of the CDR
    status             text NOT NULL CHECK (status IN ('open', 'paid', 'credited', 'cancelled', 'settled')),
    driver_id          text,
    station_id         text COLLATE "C" NOT NULL,
    currency           text NOT NULL,
    minor_digits       smallint NOT NULL, -- a minor unit is 10^-minor_digits of the currency
    total_excl_micros  bigint NOT NULL,   -- of a credit note negative, as are its lines
    total_incl_micros  bigint NOT NULL,
    payable_excl_minor bigint NOT NULL,
    payable_minor      bigint NOT NULL,   -- incl. VAT
    rounding           text NOT NULL,     -- how payable came from total
    credits            uuid REFERENCES billing.invoice,  -- of a credit note: the invoice that it cancels
    replaces           uuid REFERENCES billing.invoice,  -- of an invoice: the credited one before it
    reason             text NOT NULL DEFAULT '',         -- of a credit note
    issued_at          timestamptz NOT NULL,
    changes            int NOT NULL DEFAULT 0,           -- of status or driver, since
    changed_at         timestamptz NOT NULL,
    UNIQUE (year, sequence),
    CHECK ((session_id IS NULL) <> (reservation_id IS NULL)),
    CHECK ((kind = 'credit_note') = (credits IS NOT NULL))
) WITH (fillfactor = 90);  -- paid once, as a rule
CREATE UNIQUE INDEX invoice_credited_once ON billing.invoice (credits) WHERE credits IS NOT NULL;
CREATE UNIQUE INDEX invoice_standing ON billing.invoice (subject_id) WHERE kind = 'invoice' AND status IN ('open', 'paid');
CREATE INDEX invoice_subject ON billing.invoice (subject_id, year, sequence);
CREATE INDEX invoice_driver ON billing.invoice (driver_id, year, sequence) WHERE driver_id IS NOT NULL;
CREATE INDEX invoice_station ON billing.invoice (station_id, year, sequence);
CREATE INDEX invoice_issued ON billing.invoice (issued_at);

CREATE TABLE billing.invoice_line (
    invoice_id   uuid NOT NULL REFERENCES billing.invoice,
    line         smallint NOT NULL,  -- from 1
    dimension    text NOT NULL,      -- ENERGY | FLAT | TIME | PARKING_TIME; MIN_PRICE | MAX_PRICE: an adjustment
    element      smallint,           -- of the tariff, from 0; null for an adjustment
    volume       bigint NOT NULL,    -- as used: mWh, ms, or times
    billed       bigint NOT NULL,    -- after step_size
    price_micros bigint,             -- per kWh, per h, or flat; null for an adjustment
    vat_ppm      int,                -- millionths; null: none applies
    excl_micros  bigint NOT NULL,
    incl_micros  bigint NOT NULL,
    PRIMARY KEY (invoice_id, line)
);

-- A try to move the money of a document: charge an invoice, refund a credit note.
CREATE TABLE billing.payment (
    id           uuid PRIMARY KEY,
    invoice_id   uuid NOT NULL REFERENCES billing.invoice,
    attempt      int NOT NULL,       -- of this document, from 1
    kind         text NOT NULL CHECK (kind IN ('charge', 'refund')),
    provider     text NOT NULL,
    reference    text NOT NULL,      -- the provider's
    status       text NOT NULL CHECK (status IN ('pending', 'succeeded', 'failed')),
    currency     text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    error        text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    changed_at   timestamptz NOT NULL,
    UNIQUE (invoice_id, attempt)
);
CREATE UNIQUE INDEX payment_standing ON billing.payment (invoice_id) WHERE status IN ('pending', 'succeeded');

-- Whose session it is, heard before or after its completion.
CREATE TABLE billing.session_driver (
    session_id     uuid PRIMARY KEY,
    revision       int NOT NULL,  -- of the word on it that counts
    driver_id      text,          -- null: it is not the one's for whom it was taken
    reservation_id text,
    request_id     uuid NOT NULL,
    heard_at       timestamptz NOT NULL
);
