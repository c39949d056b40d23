"""Shows what waits for Cal.com and how old the last poll is, in `/metrics`; every verifier shows the same."""

import asyncio
from datetime import datetime
from typing import Final

from services.companies.model import Purpose
from services.plumbing import lifecycle, telemetry
from services.plumbing.clock import Clock
from services.plumbing.postgres import Pool

PERIOD_SECONDS: Final = 15.0
#: `verifications.priority`, in words.
_PRIORITIES: Final = ("human", "deadline", "sweep")

#: A question that is put back keeps the moment from which the reconciler wants it asked: so it shows its age.
_QUESTIONS: Final = """
SELECT priority, count(*) AS waiting, min((question->>'not_before')::timestamptz) AS since
FROM verifications GROUP BY priority"""

#: When the company whose bookings were read through the API longest ago was read, of those that have a key.
_POLLED: Final = """
SELECT min(coalesce(p.polled_at, p.began_at)) FROM api_polls p JOIN companies c USING (company_id)
WHERE c.removed_at IS NULL AND EXISTS (SELECT FROM company_secrets s WHERE s.company_id = p.company_id
  AND s.purpose = $1 AND (s.expires_at IS NULL OR s.expires_at > $2))"""


class Measure:
    """The loop that looks. Errors of the database go up; `lifecycle.keep` begins it anew."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        """The pool stays its owner's."""
        self._pool = pool
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Look until stop."""
        while not stop.is_set():
            await self.look()
            await lifecycle.pause(PERIOD_SECONDS, stop)

    async def look(self) -> None:
        """Look once."""
        now = self._clock.now()
        rows = {_PRIORITIES[row["priority"]]: row for row in await self._pool.fetch(_QUESTIONS)}
        for priority in _PRIORITIES:
            telemetry.verifications_waiting.labels(priority).set(rows[priority]["waiting"] if priority in rows else 0)
        telemetry.verification_oldest_seconds.set(max((_age(row["since"], now) for row in rows.values()), default=0))
        polled_at = await self._pool.fetchval(_POLLED, Purpose.CALCOM_API_KEY.value, now)
        telemetry.calcom_poll_age_seconds.set(0 if polled_at is None else _age(polled_at, now))


def _age(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
