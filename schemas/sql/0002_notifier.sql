-- Where the notifier is in the log of flags, and what makes a mail urgent.

CREATE TABLE notifier_offsets (
  kafka_partition int PRIMARY KEY,
  log_id text NOT NULL,
  next_offset bigint NOT NULL CHECK (next_offset >= 0)
);
COMMENT ON TABLE notifier_offsets IS 'The next flag of each partition that the notifier has not taken in; counts in the log of that id only.';

ALTER TABLE mails ADD COLUMN starts_at timestamptz;
COMMENT ON COLUMN mails.starts_at IS 'When the appointment begins: the soonest is told of first.';
