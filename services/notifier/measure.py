"""Shows in `/metrics` who waits to be told, and what keeps them from it; every notifier shows the same."""

from datetime import datetime
from typing import Final

from schemas.flags import Kind
from services.notifier import troubles
from services.plumbing import telemetry
from services.plumbing.postgres import Pool

#: Companies `c` that have nobody to tell: no admin or manager whom mail reaches and who wants it, no endpoint on.
NOBODY: Final = """c.removed_at IS NULL
  AND NOT EXISTS (SELECT FROM contacts k WHERE k.company_id = c.company_id AND k.role <> 'viewer'
    AND k.suppressed_at IS NULL AND k.delivery <> 'none')
  AND NOT EXISTS (SELECT FROM endpoints e WHERE e.company_id = c.company_id AND e.disabled_at IS NULL)"""

#: Recipients whose turn it is, or whose letter was put off, at the moment $1. `since`: from when on, where that is
#: known: a turn that has just been touched has no time.
WAITING: Final = """
SELECT t.company_id, t.recipient_id, t.channel, t.attempts, l.state, l.last_error,
  CASE WHEN l.state IS NOT NULL THEN l.created_at WHEN t.due_at > '-infinity' THEN t.due_at END AS since,
  t.leased_until > $1 AS being_told
FROM notify_turns t LEFT JOIN letters l ON l.company_id = t.company_id AND l.recipient_id = t.recipient_id
  AND l.number = t.number + 1 AND l.state IN ('sending', 'put_off')
WHERE t.due_at <= $1 OR (t.attempts > 0 AND l.state IS NOT NULL AND t.due_at < 'infinity')"""

_WAITING: Final = f"SELECT count(*) AS recipients, min(since) AS since FROM ({WAITING}) AS w"  # noqa: S608 - constants
_COMPANIES: Final = f"""
SELECT (SELECT count(*) FROM companies c WHERE {NOBODY}) AS nobody,
  (SELECT count(*) FROM endpoints JOIN companies USING (company_id)
    WHERE disabled_at IS NOT NULL AND removed_at IS NULL) AS off,
  (SELECT count(DISTINCT company_id) FROM alerts WHERE kind = $1 AND resolved_at IS NULL) AS silent"""  # noqa: S608


async def measure(pool: Pool, now: datetime) -> None:
    """Look once. Errors of the database go up."""
    await troubles.measure(pool, now)
    waiting = await pool.fetchrow(_WAITING, now)
    found = await pool.fetchrow(_COMPANIES, Kind.WEBHOOK_SILENT.value)
    assert waiting is not None and found is not None  # noqa: S101, PT018 - aggregates have a row
    telemetry.recipients_waiting.set(waiting["recipients"])
    since = waiting["since"]
    telemetry.oldest_letter_seconds.set(0 if since is None else max(0.0, (now - since).total_seconds()))
    telemetry.companies_without_recipient.set(found["nobody"])
    telemetry.endpoints_off.set(found["off"])
    telemetry.webhooks_silent.set(found["silent"])
