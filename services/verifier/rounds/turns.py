"""Whose turn it is: `calcom_turns`. A company is polled, loaded or looked at by one process at a time, by lease.

A process that dies gives its turns back when the lease ends; one that was too slow learns of it before it writes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import Final, Literal

from services.plumbing.clock import Clock
from services.plumbing.postgres import Connection, Pool

Kind = Literal["poll", "backfill", "webhook"]

#: Longer than a request with the wait for its token, and the publishing of its rows.
LEASE_SECONDS: Final = 120.0
#: How often it is looked who is due.
LOOK_SECONDS: Final = 2.0

#: Companies that have never had a turn have one now.
_ENTER: Final = """
INSERT INTO calcom_turns (company_id, kind, due_at) SELECT unnest($1::text[]), $2, $3
ON CONFLICT (company_id, kind) DO NOTHING"""

#: Takes the turns that have waited longest.
_CLAIM: Final = """
UPDATE calcom_turns t SET leased_by = $3, leased_until = $4
FROM (SELECT company_id FROM calcom_turns
  WHERE kind = $2 AND company_id = ANY($1::text[]) AND due_at <= $5 AND (leased_until IS NULL OR leased_until < $5)
  ORDER BY due_at LIMIT $6 FOR UPDATE SKIP LOCKED) due
WHERE t.company_id = due.company_id AND t.kind = $2 RETURNING t.company_id"""

#: Holds a turn for longer; within the transaction of a write it is the proof that the turn is still ours.
_RENEW: Final = """
UPDATE calcom_turns SET leased_until = $4 WHERE company_id = $1 AND kind = $2 AND leased_by = $3 RETURNING 1"""

#: Ends a turn and says when the next one is.
_END: Final = """
UPDATE calcom_turns SET due_at = $4, leased_by = NULL, leased_until = NULL
WHERE company_id = $1 AND kind = $2 AND leased_by = $3"""

#: Makes somebody's turn due at once.
HASTEN: Final = """
INSERT INTO calcom_turns (company_id, kind, due_at) VALUES ($1, $2, $3)
ON CONFLICT (company_id, kind) DO UPDATE SET due_at = least(calcom_turns.due_at, excluded.due_at)"""


class Lost(Exception):  # noqa: N818 - says what became of the turn
    """Another process has taken the turn meanwhile: nothing more is written."""


class Turns:
    """The turns of one kind, as one process takes them."""

    def __init__(self, pool: Pool, kind: Kind, holder: str, clock: Clock) -> None:
        """`holder` names this process, and no other."""
        self._pool, self._kind, self._holder, self._clock = pool, kind, holder, clock
        self._entered: set[str] = set()

    async def claim(self, companies: Collection[str], limit: int) -> list[str]:
        """Take the turns of companies that are due, of so many at most; each has one from its first sight on."""
        if limit < 1 or not companies:
            return []
        now, names = self._clock.now(), list(companies)
        new = [name for name in names if name not in self._entered]
        if new:
            await self._pool.execute(_ENTER, new, self._kind, now)
            self._entered.update(new)
        found = await self._pool.fetch(_CLAIM, names, self._kind, self._holder, self._until(now), now, limit)
        return [row["company_id"] for row in found]

    async def hold(self, connection: Connection, company_id: str) -> None:
        """Hold a turn for longer, in the transaction of what is written. Raises Lost."""
        until = self._until(self._clock.now())
        if await connection.fetchval(_RENEW, company_id, self._kind, self._holder, until) is None:
            raise Lost(company_id)

    async def pass_on(self, company_id: str, due_at: datetime) -> None:
        """End a turn."""
        await self._pool.execute(_END, company_id, self._kind, self._holder, due_at)

    async def take(
        self,
        companies: Callable[[], Awaitable[Collection[str]]],
        work: Callable[[str], Awaitable[None]],
        stop: asyncio.Event,
        *,
        slots: int,
    ) -> None:
        """Take turns until `stop`, `slots` at once; what is not done then is given up. An error of `work` goes up."""
        running: set[asyncio.Task[None]] = set()
        told = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                free = slots - len(running)
                for company_id in await self.claim(await companies(), free) if free else ():
                    running.add(asyncio.ensure_future(_yielding(work, company_id)))
                done, _ = await asyncio.wait(
                    {told, *running}, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for task in running & done:
                    running.discard(task)
                    task.result()
        finally:
            told.cancel()
            for task in running:
                task.cancel()
            await asyncio.wait({told, *running}, timeout=2)

    def _until(self, now: datetime) -> datetime:
        return now + timedelta(seconds=LEASE_SECONDS)


async def _yielding(work: Callable[[str], Awaitable[None]], company_id: str) -> None:
    try:
        await work(company_id)
    except Lost:
        return  # whoever has the turn now does it
