"""The keys' budgets in PostgreSQL: one row a key, one short transaction a change, whoever asks."""

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import astuple, replace

from schemas.verification import Priority
from services.plumbing.clock import Clock
from services.plumbing.postgres import Connection, Pool
from services.verifier.answers import Answer
from services.verifier.gate import budget as machine
from services.verifier.gate.budget import Budget, Grant, Lesson, Limits
from services.verifier.ports import NotNow

#: Nobody waits longer for a connection of the pool.
ACQUIRE_SECONDS: Final = 10.0

_NAMES: Final = Budget.__struct_fields__
_COLUMNS: Final = ", ".join(_NAMES)
_VALUES: Final = ", ".join(f"${number}" for number, _ in enumerate(_NAMES, 2))

#: Reads a key's budget and keeps all others from it until the transaction ends.
_LOCK: Final = f"SELECT {_COLUMNS} FROM api_budgets WHERE budget_id = $1 FOR UPDATE"  # noqa: S608 - constants

#: The time that counts: one clock for all processes. Read when the row is ours, not when we began to wait for it.
_NOW: Final = "SELECT clock_timestamp()"

#: Begins the budget of a key that nobody has used yet; another may be first.
_BEGIN: Final = f"""
INSERT INTO api_budgets (budget_id, {_COLUMNS}) VALUES ($1, {_VALUES}) ON CONFLICT (budget_id) DO NOTHING"""  # noqa: S608

_SAVE: Final = f"UPDATE api_budgets SET ({_COLUMNS}) = ROW ({_VALUES}) WHERE budget_id = $1"  # noqa: S608


class PostgresBudgets:
    """See `gateway.Budgets`. Raises asyncpg's errors, OSError or TimeoutError when the database is away.

    What is decided goes by the database's clock; what is told goes by the caller's, so that the two need not agree.
    """

    def __init__(self, pool: Pool, limits: Limits, clock: Clock) -> None:
        """The pool stays its owner's."""
        self._pool, self._limits, self._clock = pool, limits, clock

    async def take(self, budget_id: str, priority: Priority) -> Grant | NotNow:
        """See `gateway.Budgets`."""
        async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as conn, conn.transaction():
            before, now = await self._locked(conn, budget_id)
            after, word = machine.take(before, priority, self._limits, now)
            if isinstance(word, Grant):
                await conn.execute(_SAVE, budget_id, *astuple(after))
                return word
        return self._told(word, now)

    async def learn(self, budget_id: str, grant: Grant, answer: Answer) -> Lesson:
        """See `gateway.Budgets`."""
        async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as conn, conn.transaction():
            before, now = await self._locked(conn, budget_id)
            lesson = machine.learn(before, grant, answer, self._limits, now)
            if lesson.budget != before:
                await conn.execute(_SAVE, budget_id, *astuple(lesson.budget))
        return lesson if lesson.not_now is None else replace(lesson, not_now=self._told(lesson.not_now, now))

    async def _locked(self, conn: Connection, budget_id: str) -> tuple[Budget, datetime]:
        row = await conn.fetchrow(_LOCK, budget_id)
        if row is None:
            new = machine.fresh(self._limits, await conn.fetchval(_NOW))
            await conn.execute(_BEGIN, budget_id, *astuple(new))
            row = await conn.fetchrow(_LOCK, budget_id)
        if row is None:
            raise AssertionError(f"the budget {budget_id} was deleted while it was begun")
        return Budget(**dict(row)), await conn.fetchval(_NOW)

    def _told(self, word: NotNow, now: datetime) -> NotNow:
        wait_seconds = (word.until - now).total_seconds()
        return replace(word, until=self._clock.now() + timedelta(seconds=max(0.0, wait_seconds)))
