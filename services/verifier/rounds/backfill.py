"""The backfill: loads the bookings that Cal.com had before the company came here, once, by their start.

Each page is told with acknowledgement, then the cursor moves: who dies goes on there. `reconcal companies backfill`
asks for it by a row in `backfills`.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from schemas.verification import Priority
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.postgres import Connection, Pool
from services.verifier.answers import Bookings
from services.verifier.ports import Account, Gateway, ListQuery, NotNow
from services.verifier.rounds import paging
from services.verifier.rounds.pages import TOKEN_SECONDS, Accounts, Halt, Page, Publishes, Teller, ask, halted, not_now
from services.verifier.rounds.paging import TAKE_MAX, End, Paging, instant
from services.verifier.rounds.turns import HASTEN, Lost, Turns

SLOTS: Final = 2
#: Where Cal.com ignores the filter: 100,000 bookings.
IGNORED_PAGES_MAX: Final = 400
#: A round that was of no use is tried again so much later.
AGAIN: Final = timedelta(minutes=10)

#: Asks for a backfill; one that is under way and reaches as far goes on.
_REQUEST: Final = """
INSERT INTO backfills AS b (company_id, requested_at, since) VALUES ($1, $2, $3)
ON CONFLICT (company_id) DO UPDATE SET requested_at = excluded.requested_at, since = excluded.since,
  cursor_at = NULL, rows_seen = 0, finished_at = NULL, error = NULL
WHERE b.finished_at IS NOT NULL OR excluded.since < b.since"""
#: From when on a company's history counts, if nothing was said of it yet.
_BEGAN: Final = """
UPDATE companies SET history_began_at = $2 WHERE company_id = $1 AND history_began_at IS NULL"""
_OPEN: Final = "SELECT company_id FROM backfills WHERE finished_at IS NULL"
_ONE: Final = "SELECT * FROM backfills WHERE company_id = $1"
#: Moves the cursor, unless somebody has asked anew meanwhile.
_MOVED: Final = """
UPDATE backfills SET cursor_at = $3, rows_seen = rows_seen + $4, error = NULL
WHERE company_id = $1 AND requested_at = $2 RETURNING 1"""
_FAILED: Final = "UPDATE backfills SET error = $3 WHERE company_id = $1 AND requested_at = $2"
_FINISHED: Final = """
UPDATE backfills SET finished_at = $3, error = NULL WHERE company_id = $1 AND requested_at = $2 RETURNING 1"""
_LOADED: Final = "UPDATE companies SET calcom_loaded_at = $2 WHERE company_id = $1"


class Backfill(Struct, frozen=True, kw_only=True):
    """A row of `backfills`."""

    company_id: str
    requested_at: datetime
    since: datetime
    cursor_at: datetime | None
    rows_seen: int
    finished_at: datetime | None
    error: str | None


async def request(connection: Connection, company_id: str, days: float, now: datetime) -> Backfill:
    """Ask for all bookings that begin `days` ago or later; gives what is under way then."""
    async with connection.transaction():
        await connection.execute(_BEGAN, company_id, now)
        await connection.execute(_REQUEST, company_id, now, now - timedelta(days=days))
        await connection.execute(HASTEN, company_id, "backfill", now)
    found = await of(connection, company_id)
    assert found is not None  # noqa: S101 - it was put in
    return found


async def of(database: "Pool | Connection", company_id: str) -> Backfill | None:
    """Give a company's backfill; None: nobody has asked for one."""
    row = await database.fetchrow(_ONE, company_id)
    return Backfill(**row) if row else None


class Backfiller:
    """Loads what was asked for, of the companies whose turn it is."""

    def __init__(
        self,
        *,
        pool: Pool,
        gateway: Gateway,
        accounts: Accounts,
        companies: Callable[[], Sequence[str]],
        publisher: Publishes,
        holder: str,
        clock: Clock,
    ) -> None:
        """`companies`: those with an account."""
        self._pool, self._gateway, self._accounts, self._publisher = pool, gateway, accounts, publisher
        self._companies, self._clock = companies, clock
        self._turns = Turns(pool, "backfill", holder, clock)

    async def run(self, stop: asyncio.Event) -> None:
        """Load until `stop`. Errors of Kafka and PostgreSQL go up: begin again then."""
        await self._turns.take(self._wanted, self.load, stop, slots=SLOTS)

    async def _wanted(self) -> Sequence[str]:
        asked = {row["company_id"] for row in await self._pool.fetch(_OPEN)}
        return [company_id for company_id in self._companies() if company_id in asked]

    async def load(self, company_id: str) -> None:
        """Load one company's bookings, whose turn is ours. Raises `turns.Lost`."""
        account, asked = self._accounts.of(company_id), await of(self._pool, company_id)
        if account is None or asked is None or asked.finished_at is not None:
            await self._turns.pass_on(company_id, self._clock.now() + AGAIN)
            return
        at = paging.begin("start", asked.cursor_at or asked.since, take=TAKE_MAX)
        halt = await self._read(account, asked, at)
        if halt is not None:
            await self._pool.execute(_FAILED, company_id, asked.requested_at, halt.error)
        _said(asked, halt)
        due_at = halt.due_at(self._clock.now()) if halt else self._clock.now() + AGAIN
        await self._turns.pass_on(company_id, due_at)

    async def _read(self, account: Account, asked: Backfill, at: Paging) -> Halt | None:
        found, teller = asked.rows_seen, Teller(self._publisher)
        while at.end is None:
            page = await ask(self._gateway, account, at)
            if isinstance(page, Halt):
                return page
            at = paging.turn(at, page.bookings, ignored_pages_max=IGNORED_PAGES_MAX)
            found += await self._take_in(teller, asked, at, page)
        if at.end is not End.COMPLETE:
            return Halt(_ERRORS[at.end], self._clock.now() + AGAIN)
        if not found and (halt := await self._is_empty(account, asked)) is not None:
            return halt
        return await self._finish(asked)

    async def _take_in(self, teller: Teller, asked: Backfill, at: Paging, page: Page) -> int:
        """Tell of a page, then move the cursor; without a filter it stays, for the rows come in no order."""
        rows, company_id = paging.wanted(at, page.bookings.rows), asked.company_id
        told = await teller.tell(company_id, rows, page.at)
        starts = [start for row in rows if (start := instant(row.get("start"))) is not None]
        before = asked.cursor_at or asked.since
        cursor = before if at.ignored else max([*starts, before])
        async with self._pool.acquire() as connection, connection.transaction():
            await self._turns.hold(connection, company_id)
            if await connection.fetchval(_MOVED, company_id, asked.requested_at, cursor, told) is None:
                raise Lost(company_id)
        return told

    async def _is_empty(self, account: Account, asked: Backfill) -> Halt | None:
        """Believe a list without a booking only if a list without a filter has none of that time either."""
        newest = ListQuery(sort_start="desc", take=1)
        said = await self._gateway.ask(account, newest, priority=Priority.SWEEP, wait_seconds=TOKEN_SECONDS)
        if isinstance(said, NotNow):
            return not_now(said)
        if not isinstance(said.answer, Bookings):
            return halted(said.answer)
        starts = [instant(row.get("start")) for row in said.answer.rows]
        if any(start is not None and start >= asked.since for start in starts):
            return Halt("Cal.com gave an empty list, and yet has bookings of that time.", self._clock.now() + AGAIN)
        return None

    async def _finish(self, asked: Backfill) -> Halt | None:
        now = self._clock.now()
        async with self._pool.acquire() as connection, connection.transaction():
            await self._turns.hold(connection, asked.company_id)
            if await connection.fetchval(_FINISHED, asked.company_id, asked.requested_at, now) is None:
                raise Lost(asked.company_id)
            await connection.execute(_LOADED, asked.company_id, now)
        return None


_ERRORS: Final = {
    End.TOO_MUCH: "Cal.com ignores the filter of its list, and there are too many bookings to read them all.",
    End.UNSTEADY: "The list changed faster than it was read.",
}


def _said(asked: Backfill, halt: Halt | None) -> None:
    error = halt.error if halt else None
    telemetry.log().info(telemetry.VERIFIER_BACKFILL, company=asked.company_id, since=asked.since, error=error)
