-- Takes the whole house down again.
DROP TABLE IF EXISTS mails, notifications, seen_flags, flags, command_outcomes, dead_letters, outbox, transitions, events,
  record_aliases, record_keys, records, partitions, contacts, company_secrets, companies, change_counters CASCADE;
DROP FUNCTION IF EXISTS ensure_partitions(timestamptz, int);
DROP FUNCTION IF EXISTS note_company_change();
