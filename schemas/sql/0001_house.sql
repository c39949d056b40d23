-- The house: every table has a sentence, the company leads every key, what grows with time is partitioned by it.

CREATE TABLE companies (
  company_id text PRIMARY KEY CHECK (company_id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
  name text NOT NULL,
  time_zone text NOT NULL DEFAULT 'Europe/Berlin',
  window_seconds double precision NOT NULL DEFAULT 300 CHECK (window_seconds > 0),
  unconfirmed_window_seconds double precision NOT NULL DEFAULT 86400 CHECK (unconfirmed_window_seconds > 0),
  calcom_base_url text NOT NULL DEFAULT 'https://api.cal.com/v2',
  created_at timestamptz NOT NULL DEFAULT now(),
  removed_at timestamptz
);
COMMENT ON TABLE companies IS 'One row a tenant, with its rules; removed ones stay as a tombstone until erased.';

CREATE TABLE company_secrets (
  company_id text NOT NULL REFERENCES companies ON DELETE CASCADE,
  secret_id uuid NOT NULL,
  purpose text NOT NULL CHECK (purpose IN ('calcom_webhook', 'app_webhook', 'ingest_token', 'calcom_api_key')),
  ciphertext bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  PRIMARY KEY (company_id, secret_id)
);
COMMENT ON TABLE company_secrets IS 'What proves that a message is a company''s, encrypted; several may be active while one is being rotated.';

CREATE TABLE contacts (
  company_id text NOT NULL REFERENCES companies ON DELETE CASCADE,
  contact_id uuid NOT NULL,
  name text NOT NULL,
  email text NOT NULL,
  role text NOT NULL CHECK (role IN ('admin', 'manager', 'viewer')),
  language text NOT NULL DEFAULT 'en' CHECK (language IN ('de', 'en')),
  suppressed_at timestamptz,
  suppressed_reason text,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (company_id, contact_id),
  UNIQUE (company_id, email)
);
COMMENT ON TABLE contacts IS 'The people of a company; admins and managers are told of flags.';

CREATE TABLE change_counters (
  name text PRIMARY KEY,
  value bigint NOT NULL
);
COMMENT ON TABLE change_counters IS 'Moves, in the same transaction, when a company, secret or contact changes, so that services notice by one cheap read.';
INSERT INTO change_counters VALUES ('companies', 0);

CREATE FUNCTION note_company_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE change_counters SET value = value + 1 WHERE name = 'companies';
  RETURN NULL;
END $$;
CREATE TRIGGER companies_noted AFTER INSERT OR UPDATE OR DELETE ON companies
  FOR EACH STATEMENT EXECUTE FUNCTION note_company_change();
CREATE TRIGGER company_secrets_noted AFTER INSERT OR UPDATE OR DELETE ON company_secrets
  FOR EACH STATEMENT EXECUTE FUNCTION note_company_change();
CREATE TRIGGER contacts_noted AFTER INSERT OR UPDATE OR DELETE ON contacts
  FOR EACH STATEMENT EXECUTE FUNCTION note_company_change();

CREATE TABLE partitions (
  kafka_partition int PRIMARY KEY,
  epoch bigint NOT NULL DEFAULT 0,
  owner text,
  claimed_at timestamptz,
  log_id text,
  next_offsets jsonb NOT NULL DEFAULT '{}',
  frontiers jsonb NOT NULL DEFAULT '{}',
  held_decisions int NOT NULL DEFAULT 0,
  stopped_reason text,
  reported_at timestamptz
);
COMMENT ON TABLE partitions IS 'Who owns a partition number (epoch), and the next offset of each input topic: written with what the offsets led to.';

CREATE TABLE records (
  company_id text NOT NULL,
  record_id uuid NOT NULL,
  cluster_id uuid NOT NULL,
  kafka_partition int NOT NULL,
  anchor text NOT NULL,
  appointment_id text,
  booking_uid text,
  starts_at timestamptz,
  calcom_sync_status text NOT NULL CHECK (calcom_sync_status IN
    ('synced', 'pending', 'failed', 'orphaned_local', 'orphaned_calcom', 'verification_pending')),
  last_sync_attempt_at timestamptz,
  sync_attempt_count int NOT NULL DEFAULT 0,
  sync_error_message text,
  sync_error_code text,
  sync_verified_at timestamptz,
  requires_manual_review boolean NOT NULL DEFAULT false,
  manual_review_flagged_at timestamptz,
  match_rule text,
  deadline_at timestamptz,
  version bigint NOT NULL,
  first_received_at timestamptz NOT NULL,
  changed_at timestamptz NOT NULL,
  facts json NOT NULL,
  decision json NOT NULL,
  PRIMARY KEY (company_id, record_id)
);
COMMENT ON TABLE records IS 'One row an appointment/booking pair: both sides (facts), what was decided (decision), and the columns that people ask by.';
CREATE INDEX records_status_company ON records (calcom_sync_status, company_id);
CREATE INDEX records_review_company ON records (requires_manual_review, company_id);
CREATE INDEX records_last_attempt ON records (last_sync_attempt_at);
CREATE INDEX records_cluster ON records (company_id, cluster_id);
CREATE INDEX records_deadline ON records (kafka_partition, deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX records_appointment ON records (company_id, appointment_id) WHERE appointment_id IS NOT NULL;
CREATE INDEX records_booking ON records (company_id, booking_uid) WHERE booking_uid IS NOT NULL;

CREATE TABLE record_keys (
  company_id text NOT NULL,
  key text NOT NULL,
  cluster_id uuid NOT NULL,
  PRIMARY KEY (company_id, key)
);
COMMENT ON TABLE record_keys IS 'Which cluster of records an identity key (appointment id, booking uid or id) belongs to.';
CREATE INDEX record_keys_cluster ON record_keys (company_id, cluster_id);

CREATE TABLE record_aliases (
  company_id text NOT NULL,
  record_id uuid NOT NULL,
  merged_into uuid NOT NULL,
  merged_at timestamptz NOT NULL,
  PRIMARY KEY (company_id, record_id)
);
COMMENT ON TABLE record_aliases IS 'Where a record went that turned out to be part of another: links in old mails still lead somewhere.';

CREATE TABLE events (
  company_id text NOT NULL,
  received_at timestamptz NOT NULL,
  topic text NOT NULL,
  kafka_partition int NOT NULL,
  kafka_offset bigint NOT NULL,
  record_id uuid,
  event_id text NOT NULL,
  kind text NOT NULL,
  occurred_at timestamptz,
  disposition text NOT NULL CHECK (disposition IN ('applied', 'repeat', 'ignored', 'refused'))
) PARTITION BY RANGE (received_at);
COMMENT ON TABLE events IS 'Append-only: every envelope that was understood, where its body lies in the log, and what it did.';
CREATE INDEX events_record ON events (company_id, record_id, received_at);
CREATE INDEX events_offset ON events (topic, kafka_partition, kafka_offset);

CREATE TABLE transitions (
  company_id text NOT NULL,
  at timestamptz NOT NULL,
  record_id uuid NOT NULL,
  version bigint NOT NULL,
  from_status text,
  to_status text NOT NULL,
  kind text,
  cause text NOT NULL,
  note text,
  why json NOT NULL
) PARTITION BY RANGE (at);
COMMENT ON TABLE transitions IS 'Append-only: every change of a record''s status and why it came about.';
CREATE INDEX transitions_record ON transitions (company_id, record_id, at);

CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE TABLE transitions_default PARTITION OF transitions DEFAULT;
COMMENT ON TABLE events_default IS 'Events of a time for which no partition was made.';
COMMENT ON TABLE transitions_default IS 'Transitions of a time for which no partition was made.';

CREATE FUNCTION ensure_partitions(around timestamptz, months_ahead int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  parent text;
  first_day timestamp; -- in UTC: arithmetic with timestamptz follows the session's zone
  child text;
  made int := 0;
BEGIN
  FOREACH parent IN ARRAY ARRAY['events', 'transitions'] LOOP
    FOR i IN 0..months_ahead LOOP
      first_day := date_trunc('month', around AT TIME ZONE 'UTC') + make_interval(months => i);
      child := format('%s_%s', parent, to_char(first_day, 'YYYY_MM'));
      IF to_regclass(child) IS NULL THEN
        BEGIN
          EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
            child, parent, first_day AT TIME ZONE 'UTC', (first_day + interval '1 month') AT TIME ZONE 'UTC');
          EXECUTE format('COMMENT ON TABLE %I IS %L', child, 'One month of ' || parent || '.');
          made := made + 1;
        EXCEPTION WHEN check_violation OR duplicate_table THEN
          NULL; -- the default partition already holds rows of that month, or another process was quicker
        END;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
COMMENT ON FUNCTION ensure_partitions IS 'Makes the monthly partitions of events and transitions ahead of time; says how many it made.';

CREATE TABLE outbox (
  company_id text NOT NULL,
  outbox_id bigint GENERATED ALWAYS AS IDENTITY,
  kafka_partition int NOT NULL,
  topic text NOT NULL,
  ce_id text NOT NULL,
  ce_type text NOT NULL,
  body bytea NOT NULL,
  traceparent text,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (company_id, outbox_id)
);
COMMENT ON TABLE outbox IS 'What was decided and has not reached Kafka yet; a row goes when the broker has acknowledged it.';
CREATE INDEX outbox_order ON outbox (kafka_partition, outbox_id);

CREATE TABLE dead_letters (
  company_id text NOT NULL,
  topic text NOT NULL,
  kafka_partition int NOT NULL,
  kafka_offset bigint NOT NULL,
  reason text NOT NULL,
  detail text NOT NULL,
  body bytea NOT NULL,
  headers json NOT NULL,
  received_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (company_id, topic, kafka_partition, kafka_offset)
);
COMMENT ON TABLE dead_letters IS 'Envelopes that could not be understood, byte for byte, and why; company_id is empty where the record had no usable key.';

CREATE TABLE command_outcomes (
  company_id text NOT NULL,
  command_id text NOT NULL,
  record_id uuid NOT NULL,
  applied boolean NOT NULL,
  reason text NOT NULL,
  version bigint,
  decided_at timestamptz NOT NULL,
  PRIMARY KEY (company_id, command_id)
);
COMMENT ON TABLE command_outcomes IS 'What became of a command: whoever sent it waits for this row.';

CREATE TABLE flags (
  company_id text NOT NULL,
  flag_id uuid NOT NULL,
  record_id uuid NOT NULL,
  kind text NOT NULL,
  generation int NOT NULL,
  raised_at timestamptz NOT NULL,
  resolved_at timestamptz,
  resolved_by text,
  body json NOT NULL,
  PRIMARY KEY (company_id, flag_id)
);
COMMENT ON TABLE flags IS 'Every flag that was ever raised and how it ended; written with the record that it is about.';
CREATE UNIQUE INDEX flags_one_open ON flags (company_id, record_id, kind) WHERE resolved_at IS NULL;

CREATE TABLE seen_flags (
  company_id text NOT NULL,
  ce_id uuid NOT NULL,
  type text NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (company_id, ce_id)
);
COMMENT ON TABLE seen_flags IS 'Flags that the notifier has taken in: a second delivery finds its id here and ends.';

CREATE TABLE notifications (
  company_id text NOT NULL,
  notification_id uuid NOT NULL,
  contact_id uuid NOT NULL,
  flag_id uuid NOT NULL,
  record_id uuid NOT NULL,
  type text NOT NULL,
  data json NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  read_at timestamptz,
  PRIMARY KEY (company_id, notification_id)
);
COMMENT ON TABLE notifications IS 'The inbox: one row a person and flag.';
CREATE INDEX notifications_contact ON notifications (company_id, contact_id, created_at);

CREATE TABLE mails (
  company_id text NOT NULL,
  message_id text NOT NULL,
  contact_id uuid NOT NULL,
  flag_id uuid NOT NULL,
  recipient text NOT NULL,
  state text NOT NULL CHECK (state IN ('waiting', 'sent', 'withdrawn', 'refused', 'expired')),
  resolution boolean NOT NULL,
  flag json NOT NULL,
  not_before timestamptz NOT NULL,
  attempts int NOT NULL DEFAULT 0,
  last_error text,
  created_at timestamptz NOT NULL DEFAULT now(),
  sent_at timestamptz,
  PRIMARY KEY (company_id, message_id)
);
COMMENT ON TABLE mails IS 'Mails to be sent and what became of them; the Message-ID is made from flag and person, so a mail exists once.';
CREATE INDEX mails_waiting ON mails (not_before) WHERE state = 'waiting';
CREATE INDEX mails_flag ON mails (company_id, flag_id);
