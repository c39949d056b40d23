ALTER TABLE mails DROP COLUMN starts_at;
DROP TABLE notifier_offsets;
