DROP INDEX command_outcomes_decided;
DROP INDEX records_troubled;
ALTER TABLE mails DROP COLUMN about, DROP COLUMN released_at;
DROP TABLE calcom_turns, silent_webhooks, webhook_checks, sweeps, backfills, api_polls, api_budgets, verifications;
ALTER TABLE companies
  DROP COLUMN verification_wait_seconds,
  DROP COLUMN history_began_at,
  DROP COLUMN app_loaded_at,
  DROP COLUMN calcom_loaded_at;
