"""The queue of questions: table `verifications`. The reconciler writes it; here rows are leased, given back and ended.

A lease stands for one asking. The reconciler may replace the question of a leased row; the lease stays, so that nobody
asks about a record twice at once, and ends with the asking: the new question waits for that.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import asyncpg
import msgspec
from msgspec import Struct

from schemas.verification import QUESTIONS, Question
from services.plumbing.lifecycle import bounded
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings

#: A connection that died in silence is noticed within this time; what it missed is found by looking, all the while.
_ALIVE_SECONDS: Final = 15.0
_CONNECT_SECONDS: Final = 5.0

#: Takes the most urgent question that is due: a human's, else that of the soonest appointment that has not begun. $4:
#: companies that nobody may ask for; $5: those that only humans may ask for, [$6]: whether only humans' are wanted.
_LEASE: Final = """
WITH due AS (
  SELECT company_id, record_id FROM verifications
  WHERE not_before <= $1 AND (leased_until IS NULL OR leased_until <= $1)
    AND company_id <> ALL ($4::text[])
    AND (priority = 0 OR (NOT $6::bool AND company_id <> ALL ($5::text[])))
  ORDER BY priority, (starts_at < $1), starts_at, not_before
  LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE verifications v SET leased_by = $3, leased_until = $2 FROM due
WHERE v.company_id = due.company_id AND v.record_id = due.record_id
RETURNING v.company_id, v.number, v.question"""

#: Ends a question that was answered. One that has replaced it meanwhile is free for whoever comes.
_DONE: Final = """
WITH gone AS (
  DELETE FROM verifications WHERE company_id = $1 AND record_id = $2 AND leased_by = $3 AND number = $4)
UPDATE verifications SET leased_by = NULL, leased_until = NULL
WHERE company_id = $1 AND record_id = $2 AND leased_by = $3 AND number <> $4"""

#: Gives a question back, to be asked later; one that has replaced it meanwhile has a time of its own.
_PUT_BACK: Final = """
UPDATE verifications SET leased_by = NULL, leased_until = NULL,
  not_before = CASE WHEN number = $4 THEN greatest(not_before, $5) ELSE not_before END
WHERE company_id = $1 AND record_id = $2 AND leased_by = $3"""

#: When something may be asked next, whoever holds it now.
_NEXT: Final = """
SELECT min(greatest(not_before, leased_until)) FROM verifications
WHERE company_id <> ALL ($1::text[]) AND (priority = 0 OR (NOT $3::bool AND company_id <> ALL ($2::text[])))"""


class Leased(Struct, frozen=True):
    """A question that is ours to ask until `until`; `lease` names this one asking."""

    question: Question
    lease: str
    until: datetime


class Queue:
    """The questions in PostgreSQL. Its errors go up as they are."""

    def __init__(self, pool: Pool, owner: str) -> None:
        """The pool stays its owner's. `owner` says in the table who asks."""
        self._pool, self._owner = pool, owner

    async def lease(
        self, now: datetime, until: datetime, *, shut: Sequence[str], crowded: Sequence[str], humans_only: bool
    ) -> Leased | None:
        """Take the most urgent question that is due; None: there is none.

        `shut`: companies of which nothing is wanted; `crowded`: of which only humans' questions are.
        """
        lease = f"{self._owner}/{uuid4().hex[:12]}"
        row = await self._pool.fetchrow(_LEASE, now, until, lease, shut, crowded, humans_only)
        if row is None:
            return None
        return Leased(msgspec.json.decode(row["question"], type=Question), lease, until)

    async def done(self, leased: Leased) -> None:
        """End a question whose answer is in Kafka."""
        await self._pool.execute(_DONE, *_place(leased))

    async def put_back(self, leased: Leased, not_before: datetime) -> None:
        """Give a question back that could not be asked."""
        await self._pool.execute(_PUT_BACK, *_place(leased), not_before)

    async def next_due(self, *, shut: Sequence[str], crowded: Sequence[str], humans_only: bool) -> datetime | None:
        """Say when something is due, or a lease on it ends; None: nothing waits."""
        found: datetime | None = await self._pool.fetchval(_NEXT, shut, crowded, humans_only)
        return found


def _place(leased: Leased) -> tuple[Any, ...]:
    question = leased.question
    return question.company_id, question.record_id, leased.lease, question.number


async def listen(settings: Settings, heard: asyncio.Event, stop: asyncio.Event) -> None:
    """Set `heard` whenever questions were queued; a loop for `lifecycle.keep`, with a connection of its own."""
    connection = await asyncpg.connect(
        settings.postgres_dsn,
        timeout=_CONNECT_SECONDS,
        command_timeout=_CONNECT_SECONDS,
        server_settings={"application_name": "reconcal-verifier-ear"},
    )
    try:
        await connection.add_listener(QUESTIONS, lambda *_: heard.set())
        heard.set()  # what came while nobody listened
        while not stop.is_set():
            await asyncio.wait([waiting := asyncio.ensure_future(stop.wait())], timeout=_ALIVE_SECONDS)
            waiting.cancel()
            await connection.execute("SELECT 1")
    finally:
        await bounded(connection.close(), 1)
