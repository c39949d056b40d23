DROP TABLE episodes;
DROP INDEX transitions_at, flags_raised;
DROP TRIGGER companies_told ON companies;
DROP TABLE tellings, letters, alerts, notify_turns, endpoint_messages, endpoints;
DROP TRIGGER contacts_told ON contacts;
DROP FUNCTION touch_notify_turn;
ALTER TABLE contacts DROP delivery, DROP daily_at, DROP muted_kinds, DROP preferences_token;
ALTER TABLE companies
  DROP group_wait_seconds, DROP group_interval_seconds, DROP reminder_seconds, DROP urgent_within_seconds,
  DROP orphans_per_day_max, DROP failed_checks_per_hour_max, DROP waiting_for_review_max, DROP sync_success_min_percent;
CREATE TABLE silent_webhooks (
  company_id text NOT NULL,
  flag_id uuid NOT NULL,
  since timestamptz NOT NULL,
  PRIMARY KEY (company_id, flag_id)
);
COMMENT ON TABLE silent_webhooks IS 'Open flags about a company''s webhook, as the notifier was told: while there is one, mails about single orphans wait.';
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
  starts_at timestamptz,
  about text NOT NULL DEFAULT 'record' CHECK (about IN ('company', 'orphan', 'record')),
  released_at timestamptz,
  PRIMARY KEY (company_id, message_id)
);
COMMENT ON TABLE mails IS 'Mails to be sent and what became of them; the Message-ID is made from flag and person, so a mail exists once.';
CREATE INDEX mails_waiting ON mails (not_before) WHERE state = 'waiting';
CREATE INDEX mails_flag ON mails (company_id, flag_id);
