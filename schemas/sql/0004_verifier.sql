-- Ask Cal.com before accusing: what is to be asked, how much may be asked, what was polled, swept and loaded.
ALTER TABLE companies
  ADD verification_wait_seconds double precision NOT NULL DEFAULT 14400 CHECK (verification_wait_seconds > 0),
  ADD history_began_at timestamptz,
  ADD app_loaded_at timestamptz,
  ADD calcom_loaded_at timestamptz;

CREATE TABLE verifications (
  company_id text NOT NULL,
  record_id uuid NOT NULL,
  number int NOT NULL,
  priority smallint NOT NULL, -- 0 a human waits, 1 a deadline has passed, 2 a sweep
  starts_at timestamptz,
  not_before timestamptz NOT NULL,
  question json NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  leased_by text,
  leased_until timestamptz,
  PRIMARY KEY (company_id, record_id)
);
COMMENT ON TABLE verifications IS 'What Cal.com is to be asked, one question a record; written with the record that it is about, gone when its answer is in Kafka.';
CREATE INDEX verifications_order ON verifications (priority, starts_at);

CREATE TABLE api_budgets (
  budget_id text PRIMARY KEY,
  tokens double precision NOT NULL,
  refilled_at timestamptz NOT NULL,
  blocked_until timestamptz,
  blocked_reason text,
  failures int NOT NULL DEFAULT 0,
  opened_at timestamptz,
  probe_until timestamptz,
  refused_at timestamptz
);
COMMENT ON TABLE api_budgets IS 'How much may be asked with one API key, by all processes together, and whether the API answers; budget_id is a hash of address and key.';

CREATE TABLE api_polls (
  company_id text PRIMARY KEY,
  cursor_at timestamptz,
  polled_at timestamptz,
  rows_seen bigint NOT NULL DEFAULT 0,
  unseen bigint NOT NULL DEFAULT 0,
  error text,
  began_at timestamptz NOT NULL, -- bookings that are older tell nothing of our webhook
  recent json NOT NULL DEFAULT '[]' -- of the last hour: [when, new bookings looked at, of these told by no webhook]
);
COMMENT ON TABLE api_polls IS 'How far the changes of a company''s bookings were read through the API, and how many had come by no webhook.';

CREATE TABLE backfills (
  company_id text PRIMARY KEY,
  requested_at timestamptz NOT NULL,
  since timestamptz NOT NULL,
  cursor_at timestamptz,
  rows_seen bigint NOT NULL DEFAULT 0,
  finished_at timestamptz,
  error text
);
COMMENT ON TABLE backfills IS 'Loading of the bookings that Cal.com had before the company came here; one row a company, the latest.';

CREATE TABLE sweeps (
  company_id text NOT NULL,
  sweep_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('six_hours', 'daily', 'company')),
  requested_at timestamptz NOT NULL,
  requested_by text NOT NULL,
  since timestamptz NOT NULL,
  started_at timestamptz,
  finished_at timestamptz,
  after_company_id text NOT NULL DEFAULT '',
  after_record_id uuid,
  found bigint NOT NULL DEFAULT 0,
  asked bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (company_id, sweep_id)
);
COMMENT ON TABLE sweeps IS 'Rounds of asking again about what is not in order; company_id is empty where it is for all. One runs at a time, and goes on where it was.';
CREATE INDEX sweeps_open ON sweeps (requested_at) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX sweeps_one_a_company ON sweeps (company_id) WHERE kind = 'company' AND finished_at IS NULL;
-- What a sweep reads, in its order. Without pending ones: they are many on the way, and few that a sweep has to ask about.
CREATE INDEX records_troubled ON records (company_id, record_id)
  WHERE calcom_sync_status IN ('failed', 'orphaned_local', 'orphaned_calcom');

CREATE TABLE silent_webhooks (
  company_id text NOT NULL,
  flag_id uuid NOT NULL,
  since timestamptz NOT NULL,
  PRIMARY KEY (company_id, flag_id)
);
COMMENT ON TABLE silent_webhooks IS 'Open flags about a company''s webhook, as the notifier was told: while there is one, mails about single orphans wait.';

ALTER TABLE mails
  ADD about text NOT NULL DEFAULT 'record' CHECK (about IN ('company', 'orphan', 'record')),
  ADD released_at timestamptz;
COMMENT ON COLUMN mails.about IS 'company: goes first; orphan: waits while the company''s webhook is silent; record: everything else, resolutions included.';
COMMENT ON COLUMN mails.released_at IS 'When it no longer had to wait for a silent webhook.';
UPDATE mails SET about = 'orphan'
WHERE state = 'waiting' AND NOT resolution AND flag->>'kind' IN ('ORPHANED_LOCAL', 'ORPHANED_CALCOM');

CREATE INDEX command_outcomes_decided ON command_outcomes (decided_at);

CREATE TABLE webhook_checks (
  company_id text PRIMARY KEY,
  checked_at timestamptz NOT NULL,
  state text NOT NULL,
  detail text NOT NULL,
  silent_since timestamptz,
  generation int NOT NULL DEFAULT 0
);
COMMENT ON TABLE webhook_checks IS 'Whether our webhook at Cal.com is there, active and complete, as its API says, and since when it is silent.';

CREATE TABLE calcom_turns (
  company_id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('poll', 'backfill', 'webhook')),
  due_at timestamptz NOT NULL,
  leased_by text,
  leased_until timestamptz,
  PRIMARY KEY (company_id, kind)
);
COMMENT ON TABLE calcom_turns IS 'When a company is polled, loaded or its webhook looked at next, and by which process now: one at a time.';
CREATE INDEX calcom_turns_due ON calcom_turns (kind, due_at);
