"""Outgoing webhooks: signed ones, one a flag, and letters as Slack messages."""
