-- Every way that two sides can be one: rules of a company, what waits at the doors, what an admin has to be told.

ALTER TABLE companies
  ADD country text NOT NULL DEFAULT 'DE' CHECK (country ~ '^[A-Z]{2}$'),
  ADD settling_window_seconds double precision CHECK (settling_window_seconds > 0),
  ADD unpaid_window_seconds double precision NOT NULL DEFAULT 86400 CHECK (unpaid_window_seconds > 0),
  ADD unconfirmed_policy text NOT NULL DEFAULT 'flag' CHECK (unconfirmed_policy IN ('flag', 'ignore')),
  ADD unpaid_policy text NOT NULL DEFAULT 'ignore' CHECK (unpaid_policy IN ('flag', 'ignore')),
  ADD compared_fields text[] NOT NULL DEFAULT '{starts_at,ends_at,status,event_type_id}'
    CHECK (compared_fields <@ '{starts_at,ends_at,status,event_type_id}'),
  ADD match_by_attendee boolean NOT NULL DEFAULT true;

ALTER TABLE events ADD note text;
COMMENT ON COLUMN events.note IS 'What was remarkable: clock_ahead, clock_behind (clamped), late.';

ALTER TABLE outbox
  ADD received_at timestamptz,
  ADD ce_source text,
  ADD content_type text,
  ADD webhook_version text;
COMMENT ON COLUMN outbox.received_at IS 'Of an envelope that is sent on to its own partition: when it first came in; windows count from it.';
CREATE INDEX outbox_rerouted ON outbox (received_at) WHERE received_at IS NOT NULL;

CREATE TABLE doors (
  door_id text PRIMARY KEY,
  reported_at timestamptz NOT NULL,
  oldest_unsent_at timestamptz,
  spool_messages bigint NOT NULL DEFAULT 0,
  spool_bytes bigint NOT NULL DEFAULT 0,
  closed_at timestamptz
);
COMMENT ON TABLE doors IS 'One row an ingest: all that it received before reported_at is in Kafka, but for what it received from oldest_unsent_at on. No decision passes either.';

CREATE TABLE incidents (
  company_id text NOT NULL,
  kind text NOT NULL,
  detail text NOT NULL,
  opened_at timestamptz NOT NULL,
  last_seen_at timestamptz NOT NULL,
  seen bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (company_id, kind)
);
COMMENT ON TABLE incidents IS 'What an admin of a company has to mend outside of Reconcal, such as a producer''s partitioner; one row a kind, while it lasts.';

CREATE TABLE applied_policies (
  company_id text PRIMARY KEY,
  policy json NOT NULL,
  after_record_id uuid,
  applied_at timestamptz NOT NULL
);
COMMENT ON TABLE applied_policies IS 'The rules that a company''s records were last decided by; after_record_id says how far a change of them has come.';
