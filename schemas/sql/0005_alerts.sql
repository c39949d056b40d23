-- Alerts that people keep switched on: what there is to tell, to whom it was told, in which letter, and when to look again.

ALTER TABLE companies
  ADD group_wait_seconds double precision NOT NULL DEFAULT 30 CHECK (group_wait_seconds >= 0),
  ADD group_interval_seconds double precision NOT NULL DEFAULT 300 CHECK (group_interval_seconds > 0),
  ADD reminder_seconds double precision NOT NULL DEFAULT 14400 CHECK (reminder_seconds > 0),
  ADD urgent_within_seconds double precision NOT NULL DEFAULT 7200 CHECK (urgent_within_seconds >= 0),
  ADD orphans_per_day_max int NOT NULL DEFAULT 5 CHECK (orphans_per_day_max >= 0),
  ADD failed_checks_per_hour_max int NOT NULL DEFAULT 10 CHECK (failed_checks_per_hour_max >= 0),
  ADD waiting_for_review_max int NOT NULL DEFAULT 20 CHECK (waiting_for_review_max >= 0),
  ADD sync_success_min_percent double precision NOT NULL DEFAULT 95 CHECK (sync_success_min_percent BETWEEN 0 AND 100);

ALTER TABLE contacts
  ADD delivery text NOT NULL DEFAULT 'immediate' CHECK (delivery IN ('immediate', 'daily', 'none')),
  ADD daily_at time NOT NULL DEFAULT '08:00',
  ADD muted_kinds text[] NOT NULL DEFAULT '{}',
  ADD preferences_token uuid NOT NULL DEFAULT gen_random_uuid();
COMMENT ON COLUMN contacts.delivery IS 'immediate: as grouped; daily: one digest at daily_at on the company''s clock; none: no mail.';
COMMENT ON COLUMN contacts.muted_kinds IS 'Kinds of flags that the person is not mailed about.';
COMMENT ON COLUMN contacts.preferences_token IS 'Whoever has it may change what this person is mailed: it stands in the mails'' links, and is never logged.';
CREATE UNIQUE INDEX contacts_preferences ON contacts (preferences_token);

CREATE TABLE endpoints (
  company_id text NOT NULL REFERENCES companies ON DELETE CASCADE,
  endpoint_id uuid NOT NULL,
  format text NOT NULL CHECK (format IN ('standard', 'slack')),
  host text NOT NULL,
  url_ciphertext bytea NOT NULL,
  secret_ciphertext bytea,
  language text NOT NULL DEFAULT 'en' CHECK (language IN ('de', 'en')),
  muted_kinds text[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  failing_since timestamptz,
  last_error text,
  disabled_at timestamptz,
  disabled_reason text,
  not_before timestamptz NOT NULL DEFAULT '-infinity',
  attempts int NOT NULL DEFAULT 0,
  leased_by text,
  leased_until timestamptz,
  PRIMARY KEY (company_id, endpoint_id)
);
COMMENT ON TABLE endpoints IS 'Where a company wants to be told by HTTP; the address may be a secret (Slack''s are), host is what is shown of it.';

CREATE TABLE endpoint_messages (
  company_id text NOT NULL,
  endpoint_id uuid NOT NULL,
  flag_id uuid NOT NULL,
  position bigint GENERATED ALWAYS AS IDENTITY,
  flag json NOT NULL,
  state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'given_up')),
  attempts int NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  ended_at timestamptz,
  last_error text,
  PRIMARY KEY (company_id, endpoint_id, flag_id)
);
COMMENT ON TABLE endpoint_messages IS 'One row a flag and signed webhook of format standard: told in the order of position, once answered 2xx never again.';
CREATE INDEX endpoint_messages_waiting ON endpoint_messages (company_id, endpoint_id, position) WHERE state = 'waiting';
CREATE INDEX endpoint_messages_ended ON endpoint_messages (ended_at) WHERE state <> 'waiting';

CREATE TABLE alerts (
  company_id text NOT NULL,
  flag_id uuid NOT NULL,
  kind text NOT NULL,
  verified boolean NOT NULL,
  starts_at timestamptz,
  deadline_at timestamptz NOT NULL,
  taken_at timestamptz NOT NULL,
  released_at timestamptz,
  flag json NOT NULL,
  resolved_at timestamptz,
  resolution json,
  PRIMARY KEY (company_id, flag_id)
);
COMMENT ON TABLE alerts IS 'Flags as the notifier knows them: what there is to tell. deadline_at: from then on its people should know. released_at: until then it was held back for a cause that its people were told of.';
CREATE INDEX alerts_open ON alerts (company_id, starts_at) WHERE resolved_at IS NULL;
CREATE INDEX alerts_causes ON alerts (company_id, kind) WHERE resolved_at IS NULL AND kind IN ('WEBHOOK_SILENT', 'CALCOM_INCIDENT');
CREATE INDEX alerts_resolved ON alerts (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE TABLE letters (
  company_id text NOT NULL,
  recipient_id uuid NOT NULL,
  number int NOT NULL,
  channel text NOT NULL CHECK (channel IN ('mail', 'slack')),
  message_id text NOT NULL,
  recipient text NOT NULL,
  occasion text NOT NULL,
  subject text,
  heading json NOT NULL DEFAULT '{}',
  content json NOT NULL,
  told uuid[] NOT NULL,
  ended uuid[] NOT NULL,
  urgent boolean NOT NULL DEFAULT false,
  state text NOT NULL CHECK (state IN ('sending', 'put_off', 'sent', 'refused', 'expired')),
  attempts int NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL,
  sent_at timestamptz,
  last_error text,
  PRIMARY KEY (company_id, recipient_id, number)
);
COMMENT ON TABLE letters IS 'Mails and Slack messages. sending: the server may have it already, so that it goes out again as it is; put_off: the server has it certainly not, so that it is written anew with all that is new.';
CREATE INDEX letters_created ON letters (created_at);

CREATE TABLE tellings (
  company_id text NOT NULL,
  recipient_id uuid NOT NULL,
  flag_id uuid NOT NULL,
  told_in int NOT NULL,
  ended_in int,
  PRIMARY KEY (company_id, flag_id, recipient_id)
);
COMMENT ON TABLE tellings IS 'Who was told of a flag in which letter, and in which one of its end; written when the letter is out.';
CREATE INDEX tellings_open ON tellings (company_id, recipient_id) WHERE ended_in IS NULL;

CREATE TABLE notify_turns (
  company_id text NOT NULL,
  recipient_id uuid NOT NULL,
  channel text NOT NULL CHECK (channel IN ('mail', 'slack')),
  due_at timestamptz NOT NULL DEFAULT '-infinity',
  not_before timestamptz NOT NULL DEFAULT '-infinity',
  urgent_at timestamptz NOT NULL DEFAULT 'infinity',
  number int NOT NULL DEFAULT 0,
  last_at timestamptz,
  last_urgent_at timestamptz,
  reminders int NOT NULL DEFAULT 0,
  attempts int NOT NULL DEFAULT 0,
  failing_since timestamptz,
  gave_up_since timestamptz,
  leased_by text,
  leased_until timestamptz,
  PRIMARY KEY (company_id, recipient_id)
);
COMMENT ON TABLE notify_turns IS 'One row a recipient of letters (a contact, or an endpoint of format slack): when to look whether there is something to tell, and what was told last. urgent_at orders what is due: the soonest appointment that waits to be told of, -infinity for a company''s own trouble.';
COMMENT ON COLUMN notify_turns.not_before IS 'A letter was put off until then: whatever is new meanwhile, the server is left alone.';
COMMENT ON COLUMN notify_turns.number IS 'Of the last letter that is done with: sent, refused or given up.';
COMMENT ON COLUMN notify_turns.gave_up_since IS 'From when on a letter could not be delivered until it was given up; the next one says so.';
CREATE INDEX notify_turns_order ON notify_turns (channel, urgent_at, due_at);

-- Whoever may be told has a turn, and is looked at anew when anything about them changes.
CREATE FUNCTION touch_notify_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'contacts' THEN
    INSERT INTO notify_turns (company_id, recipient_id, channel, number)
    SELECT NEW.company_id, NEW.contact_id, 'mail', coalesce(max(number), 0)
    FROM letters WHERE company_id = NEW.company_id AND recipient_id = NEW.contact_id
    ON CONFLICT (company_id, recipient_id) DO UPDATE SET due_at = '-infinity', not_before = '-infinity';
  ELSIF TG_TABLE_NAME = 'endpoints' THEN
    IF NEW.format = 'slack' THEN
      INSERT INTO notify_turns (company_id, recipient_id, channel, number)
      SELECT NEW.company_id, NEW.endpoint_id, 'slack', coalesce(max(number), 0)
      FROM letters WHERE company_id = NEW.company_id AND recipient_id = NEW.endpoint_id
      ON CONFLICT (company_id, recipient_id) DO UPDATE SET due_at = '-infinity', not_before = '-infinity';
    END IF;
  ELSE
    PERFORM FROM notify_turns WHERE company_id = NEW.company_id ORDER BY recipient_id FOR UPDATE;
    UPDATE notify_turns SET due_at = '-infinity' WHERE company_id = NEW.company_id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER contacts_told AFTER INSERT OR UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION touch_notify_turn();
CREATE TRIGGER endpoints_told AFTER INSERT OR UPDATE OF muted_kinds, language, disabled_at ON endpoints
  FOR EACH ROW EXECUTE FUNCTION touch_notify_turn();
CREATE TRIGGER companies_told AFTER UPDATE ON companies FOR EACH ROW EXECUTE FUNCTION touch_notify_turn();

-- What the notifier knew before: open flags that it has seen, and the mails about them that went out.
INSERT INTO alerts (company_id, flag_id, kind, verified, starts_at, deadline_at, taken_at, flag)
SELECT f.company_id, f.flag_id, f.kind, f.body->>'verdict' <> 'not_verified',
  coalesce(f.body->'appointment'->>'starts_at', f.body->'booking'->>'starts_at')::timestamptz,
  coalesce((f.body->>'deadline_at')::timestamptz, f.raised_at), s.seen_at, f.body
FROM flags f JOIN seen_flags s ON s.company_id = f.company_id AND s.ce_id = f.flag_id
WHERE f.resolved_at IS NULL;
INSERT INTO notify_turns (company_id, recipient_id, channel, number, last_at)
SELECT c.company_id, c.contact_id, 'mail', count(m.message_id), max(m.sent_at)
FROM contacts c LEFT JOIN mails m ON m.company_id = c.company_id AND m.contact_id = c.contact_id AND m.state = 'sent'
GROUP BY 1, 2;
INSERT INTO letters (company_id, recipient_id, number, channel, message_id, recipient, occasion, content, told, ended,
  state, attempts, created_at, sent_at)
SELECT company_id, contact_id, row_number() OVER (PARTITION BY company_id, contact_id ORDER BY sent_at, message_id),
  'mail', message_id, recipient, 'news', json_build_object('occasion', 'news', 'written_at', sent_at),
  CASE WHEN resolution THEN '{}' ELSE ARRAY[flag_id] END, CASE WHEN resolution THEN ARRAY[flag_id] ELSE '{}' END,
  'sent', attempts, created_at, sent_at
FROM mails WHERE state = 'sent';
INSERT INTO tellings (company_id, recipient_id, flag_id, told_in, ended_in)
SELECT l.company_id, l.recipient_id, l.told[1], l.number, (
  SELECT max(e.number) FROM letters e
  WHERE e.company_id = l.company_id AND e.recipient_id = l.recipient_id AND e.ended[1] = l.told[1])
FROM letters l WHERE l.told <> '{}';
DROP TABLE mails, silent_webhooks;

-- Thresholds: what was flagged lately, and how decisions went.
CREATE INDEX flags_raised ON flags (raised_at);
CREATE INDEX transitions_at ON transitions USING brin (at);
CREATE TABLE episodes (
  company_id text NOT NULL,
  kind text NOT NULL,
  generation int NOT NULL,
  opened_at timestamptz,
  calm_since timestamptz,
  cause text,
  PRIMARY KEY (company_id, kind)
);
COMMENT ON TABLE episodes IS 'A company beyond a threshold, or whose Cal.com cannot be asked: one row a kind, the last episode; open while opened_at is there, and seemingly over since calm_since.';
CREATE INDEX episodes_open ON episodes (company_id) WHERE opened_at IS NOT NULL;
