"""The poll: reads what changed at Cal.com, and tells of it whether or not a webhook did.

Rows are published first, then the cursor moves, and only ever to the time of a row that was read: an empty answer moves
nothing. It never passes a row so young that its webhook may still be on its way.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from schemas.verification import Priority
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.lanes import partition_of
from services.plumbing.postgres import Connection, Pool
from services.plumbing.settings import Settings
from services.verifier.answers import Bookings, NotThere, Row
from services.verifier.ports import Account, Gateway, GetBooking, NotNow
from services.verifier.rounds import paging, silence
from services.verifier.rounds.pages import TOKEN_SECONDS, Accounts, Halt, Memory, Page, Teller, ask, halted, not_now
from services.verifier.rounds.paging import End, Paging, instant, moment_of
from services.verifier.rounds.polls import FILTER_IGNORED, LIST_INCOMPLETE, Known, Polls, Progress
from services.verifier.rounds.silence import Sample
from services.verifier.rounds.turns import HASTEN, Turns

#: Companies that are polled at once by one process.
SLOTS: Final = 4
TAKE: Final = 100
#: A poll reads no more at once; what is left comes with the next, which is due at once.
PAGES_MAX: Final = 20
#: Where Cal.com ignores the filter, so many pages of 250 are read, and then it is said that this is too much.
IGNORED_PAGES_MAX: Final = 40
TOO_MUCH_AGAIN: Final = timedelta(hours=1)
#: A list that is not to be trusted is read from the same moment on again, but not for ever more of it.
DISTRUST_MAX: Final = timedelta(hours=6)
#: A webhook has so long, beyond the settle time, before a booking counts as unseen ...
UNSEEN_AFTER: Final = timedelta(minutes=2)
#: ... and the reconciler must have read so far beyond it.
READ_PAST: Final = timedelta(minutes=1)


class Round(Struct, kw_only=True):
    """One poll of one company, while it runs."""

    account: Account
    known: Known
    now: datetime
    settled: datetime  # rows that are younger are left for the next time
    at: Paging
    reached: datetime | None = None
    trusted: bool = False  # the cursor may move to what was reached
    uids: set[str] = set()
    told: int = 0
    judged: int = 0
    unseen: int = 0

    @property
    def company_id(self) -> str:
        """Give whose round it is."""
        return self.account.company_id

    @property
    def through(self) -> datetime:
        """Give the moment up to which everything was read."""
        return self.settled if self.at.end is End.COMPLETE else min(self.settled, self.at.after)


class Poller:
    """Polls the companies whose turn it is. All that it is told by is handed in."""

    def __init__(  # noqa: PLR0913 - the composition root names them
        self,
        *,
        pool: Pool,
        gateway: Gateway,
        accounts: Accounts,
        companies: Callable[[], Sequence[str]],
        teller: Teller,
        settings: Settings,
        partitions: int,
        holder: str,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        """`companies`: those with an account. `jitter` gives numbers from 0 to 1."""
        self._pool, self._polls = pool, Polls(pool)
        self._gateway, self._accounts, self._companies, self._teller = gateway, accounts, companies, teller
        self._settings, self._partitions = settings, partitions
        self._clock, self._jitter = clock, jitter
        self._turns = Turns(pool, "poll", holder, clock)
        self._judged = Memory()

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until `stop`. Errors of Kafka and PostgreSQL go up: begin again then."""
        await self._polls.keep(self._companies())
        await self._turns.take(self._all, self.poll, stop, slots=SLOTS)

    async def _all(self) -> Sequence[str]:
        return self._companies()

    async def poll(self, company_id: str) -> None:
        """Poll one company, whose turn is ours. Raises `turns.Lost`."""
        account, now = self._accounts.of(company_id), self._clock.now()
        if account is None:
            await self._turns.pass_on(company_id, self._next())
            return
        known = await self._polls.open(company_id, now)
        settings = self._settings
        since = (known.cursor_at or now) - timedelta(seconds=settings.calcom_poll_overlap_seconds)
        settled = now - timedelta(seconds=settings.calcom_poll_settle_seconds)
        begun = paging.begin("updatedAt", since, take=TAKE)
        this = Round(account=account, known=known, now=now, settled=settled, at=begun)
        halt = await self._read(this)
        if halt is None and this.at.end in (None, End.COMPLETE):
            halt = await self._doubt(this)
            this.trusted = halt is None
        elif halt is not None and not this.at.ignored:
            this.trusted = True  # in the order of time: what was read needs not be read again
        await self._end(this, halt)

    async def _read(self, this: Round) -> Halt | None:
        """Read pages and tell of them; gives why it could not go on."""
        while this.at.end is None and (this.at.ignored or this.at.pages < PAGES_MAX):
            page = await ask(self._gateway, this.account, this.at)
            if isinstance(page, Halt):
                return page
            this.at = paging.turn(this.at, page.bookings, ignored_pages_max=IGNORED_PAGES_MAX)
            await self._take_in(this, page)
        return None

    async def _take_in(self, this: Round, page: Page) -> None:
        rows = paging.wanted(this.at, page.bookings.rows)
        old = [row for row in rows if (moment_of(row, "updatedAt") or this.settled) <= this.settled]
        this.uids.update(str(row["uid"]) for row in rows)
        await self._judge(this, old)
        this.told += await self._teller.tell(this.company_id, old, page.at)
        moments = [moment for row in old if (moment := moment_of(row, "updatedAt")) is not None]
        this.reached = max([*moments, *([this.reached] if this.reached else [])], default=None)
        async with self._pool.acquire() as connection:
            await self._turns.hold(connection, this.company_id)

    async def _judge(self, this: Round, rows: Sequence[Row]) -> None:
        """Count the bookings that were made lately, and those of them that no webhook told of."""
        until = this.settled - UNSEEN_AFTER
        since = max(this.known.began_at, this.now - silence.RECENT)
        made = {str(row["uid"]): at for row in rows if (at := instant(row.get("createdAt"))) is not None}
        new = {uid: at for uid, at in made.items() if since <= at <= until}
        new = {uid: at for uid, at in new.items() if (this.company_id, uid) not in self._judged}
        if not new:
            return
        frontier = await self._polls.frontier(partition_of(this.company_id, self._partitions))
        read = [uid for uid, at in new.items() if frontier is not None and frontier > at + READ_PAST]
        unseen = set(read) - await self._polls.told(this.company_id, read)
        for uid in read:
            self._judged.add((this.company_id, uid))
        telemetry.webhooks_unseen.inc(len(unseen))
        this.judged += len(read)
        this.unseen += len(unseen)

    async def _doubt(self, this: Round) -> Halt | None:
        """Look whether a booking that a webhook told of is missing from the list; opens and ends the incidents."""
        place = partition_of(this.company_id, self._partitions)
        await self._filter_told(this)
        for uid in await self._polls.canaries(this.company_id, place, this.at.since, this.through):
            if uid in this.uids:
                continue
            missing = await self._is_missing(this, uid)
            if isinstance(missing, Halt):
                return missing
            if missing:
                detail = (
                    f"Booking {uid} was changed at Cal.com, whose list of changed bookings lacks it. See whether the "
                    "API key is of a user who may see all bookings of the company; until then some may be missed."
                )
                await self._polls.trouble(this.company_id, LIST_INCOMPLETE, detail, this.now)
                return Halt(detail)
        await self._polls.over(this.company_id, LIST_INCOMPLETE)
        return None

    async def _is_missing(self, this: Round, uid: str) -> bool | Halt:
        """Ask for a booking itself: what was changed since the list began, or is there no more, need not be in it."""
        said = await self._gateway.ask(
            this.account,
            GetBooking(uid),
            priority=Priority.SWEEP,
            not_older_than=this.now,
            wait_seconds=TOKEN_SECONDS,
        )
        if isinstance(said, NotNow):
            return not_now(said)
        if isinstance(said.answer, NotThere):
            return False
        if not isinstance(said.answer, Bookings):
            return halted(said.answer)
        moments = [instant(row.get("updatedAt")) for row in said.answer.rows if row.get("uid") == uid]
        return any(moment is not None and this.at.since <= moment <= this.through for moment in moments)

    async def _filter_told(self, this: Round) -> None:
        if not this.at.ignored:
            await self._polls.over(this.company_id, FILTER_IGNORED)
            return
        much = this.at.end is End.TOO_MUCH
        said = (
            "there are more bookings than are read without it, so that some may be missed"
            if much
            else "so the list is read without it"
        )
        detail = f"Cal.com ignores the filter or the order of its list of bookings (afterUpdatedAt); {said}."
        await self._polls.trouble(this.company_id, FILTER_IGNORED, detail, this.now)

    async def _end(self, this: Round, halt: Halt | None) -> None:
        """Write down how far we are, and when the next poll is."""
        end, now = this.at.end, self._clock.now()
        if end is End.TOO_MUCH:
            await self._filter_told(this)
        error = halt.error if halt else None if end in (None, End.COMPLETE) else _ERRORS[end]
        recent = silence.remember(this.known.recent, Sample(now, this.judged, this.unseen))
        made = Progress(
            cursor_at=_cursor(this),
            polled_at=None if error else now,
            rows=this.told,
            unseen=this.unseen,
            recent=recent,
            error=error,
        )
        async with self._pool.acquire() as connection, connection.transaction():
            await self._turns.hold(connection, this.company_id)
            await self._polls.save(connection, this.company_id, made)
            if silence.many_unseen(recent, now):
                await _hasten(connection, this.company_id, now)
        _said(this, made)
        await self._turns.pass_on(this.company_id, self._due_at(this, halt, now))

    def _due_at(self, this: Round, halt: Halt | None, now: datetime) -> datetime:
        if this.at.end is End.TOO_MUCH:
            return now + TOO_MUCH_AGAIN
        if halt is not None and this.at.end is None:
            return min(self._next(), halt.due_at(now)) if halt.until is None else halt.due_at(now)
        return now if this.at.end is None else self._next()

    def _next(self) -> datetime:
        seconds = self._settings.calcom_poll_seconds * (0.9 + 0.2 * self._jitter())
        return self._clock.now() + timedelta(seconds=seconds)


_ERRORS: Final = {
    End.TOO_MUCH: "Cal.com ignores the filter, and there are too many bookings to read them all.",
    End.UNSTEADY: "The list changed faster than it was read.",
}


async def _hasten(connection: Connection, company_id: str, now: datetime) -> None:
    """Have our webhook looked at, at once."""
    await connection.execute(HASTEN, company_id, "webhook", now)


def _cursor(this: Round) -> datetime:
    """Give the new cursor: the time of a row that was read; of a list without trust the old one, for some hours."""
    before = this.known.cursor_at or this.at.since
    return max(before, this.reached or before) if this.trusted else max(before, this.now - DISTRUST_MAX)


def _said(this: Round, made: Progress) -> None:
    telemetry.log().info(
        telemetry.VERIFIER_POLL,
        company=this.company_id,
        pages=this.at.pages,
        told=this.told,
        judged=this.judged,
        unseen=this.unseen,
        ignored=this.at.ignored,
        cursor=made.cursor_at,
        error=made.error,
    )
