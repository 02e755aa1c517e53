-- Notifications, their deliveries by channel, recipients with their preferences, edited templates, alarms.

CREATE SCHEMA IF NOT EXISTS notifications;

-- Who is notified, where and how. A subject is `driver/D1`, `operator/anna` or `team/operators`.
CREATE TABLE notifications.recipient (
    subject       text COLLATE "C" PRIMARY KEY,
    language      text,               -- null: the platform's default
    time_zone     text,               -- IANA; null: the platform's default
    quiet_from_min  smallint,         -- minutes after local midnight
    quiet_until_min smallint,
    digest_at_min smallint NOT NULL,
    addresses     jsonb NOT NULL,     -- {channel: address}
    modes         jsonb NOT NULL,     -- {category: {channel: now | digest | off}}
    gone          jsonb NOT NULL DEFAULT '{}',  -- {channel: {"address": …, "reason": …}}: the channel says that it is no more
    updated_at    timestamptz NOT NULL,
    updated_by    text NOT NULL,
    CHECK ((quiet_from_min IS NULL) = (quiet_until_min IS NULL))
);

-- One per cause and subject: with UNIQUE (notification_id, channel) below, once per (event, subject, channel).
CREATE TABLE notifications.notification (
    id         uuid PRIMARY KEY,      -- derived from the cause and the subject
    cause_id   uuid NOT NULL,         -- an event, a session's completion, an alarm of an event, a request
    event_id   uuid,                  -- of the event that caused it; null: a request or a digest
    kind       text NOT NULL,
    category   text NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    context    jsonb NOT NULL,        -- the variables of its templates
    created_at timestamptz NOT NULL,
    UNIQUE (cause_id, subject)
);
CREATE INDEX ON notifications.notification (subject, created_at, id);
CREATE INDEX ON notifications.notification (created_at);

CREATE TABLE notifications.delivery (
    id              uuid PRIMARY KEY, -- derived from the notification and the channel: Message-ID and idempotency key
    notification_id uuid NOT NULL REFERENCES notifications.notification ON DELETE CASCADE,
    channel         text NOT NULL,
    address         text NOT NULL,
    language        text NOT NULL,
    title           text NOT NULL,
    body            text NOT NULL,
    html            text,
    invoice_id      uuid,             -- its PDF is attached
    state           text NOT NULL CHECK (state IN ('queued', 'sent', 'failed', 'suppressed')),
    reason          text,             -- of failed and suppressed; of queued: why the last attempt failed
    receipt         text,             -- the provider's id of it
    attempts        smallint NOT NULL DEFAULT 0,
    is_digest_item  boolean NOT NULL,
    digest_id       uuid,             -- the delivery that carries it, of a digest
    due_at          timestamptz NOT NULL,  -- may be taken then; while an attempt is under way: when its lease ends
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    UNIQUE (notification_id, channel),
    CHECK ((state = 'queued') = (finished_at IS NULL)),
    CHECK (state NOT IN ('failed', 'suppressed') OR reason IS NOT NULL)
);
CREATE INDEX ON notifications.delivery (channel, due_at) WHERE state = 'queued';
CREATE INDEX ON notifications.delivery (digest_id) WHERE digest_id IS NOT NULL;
CREATE INDEX ON notifications.delivery (created_at, id);

-- Edited templates; a kind, channel and language without a row has the built-in one.
CREATE TABLE notifications.template (
    kind       text NOT NULL,
    channel    text NOT NULL,
    language   text NOT NULL,
    title      text NOT NULL,
    body       text NOT NULL,
    html       text,
    version    int NOT NULL,
    error      text,                  -- why it could not be rendered last: the built-in one was used
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL,
    PRIMARY KEY (kind, channel, language)
);

-- One alarm per place and cause, then digests: see alarm_window.py.
CREATE TABLE notifications.alarm (
    place          text COLLATE "C" NOT NULL,
    cause          text COLLATE "C" NOT NULL,
    window_ends_at timestamptz NOT NULL,
    in_window      int NOT NULL,      -- alarms that went to the digest of this window
    PRIMARY KEY (place, cause)
);
CREATE INDEX ON notifications.alarm (window_ends_at);

-- What events said of stations: the site of each, and the newest status change of each connector that raised an alarm.
CREATE TABLE notifications.station (
    station_id text COLLATE "C" PRIMARY KEY,
    revision   bigint NOT NULL,
    site       text,
    name       text
);
CREATE TABLE notifications.connector_status (
    station_id   text COLLATE "C" NOT NULL,
    connector_id int NOT NULL,
    revision     bigint NOT NULL,
    PRIMARY KEY (station_id, connector_id)
);

-- Whose session it is, and what is to be said once that is known: the three events come in any order.
CREATE TABLE notifications.session (
    id         uuid PRIMARY KEY,
    driver_id  text,                  -- null: nobody's, so far
    assignment int NOT NULL DEFAULT 0, -- revision of the assignment
    started    jsonb,                 -- {"event_id": …, "context": …}
    completed  jsonb,
    heard_at   timestamptz NOT NULL
);
CREATE INDEX ON notifications.session (heard_at);
