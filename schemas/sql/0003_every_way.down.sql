DROP TABLE applied_policies, incidents, doors;
ALTER TABLE outbox DROP received_at, DROP ce_source, DROP content_type, DROP webhook_version;
ALTER TABLE events DROP note;
ALTER TABLE companies
  DROP country, DROP settling_window_seconds, DROP unpaid_window_seconds, DROP unconfirmed_policy, DROP unpaid_policy,
  DROP compared_fields, DROP match_by_attendee;
