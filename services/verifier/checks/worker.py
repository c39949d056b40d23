"""Takes up the reconciler's questions, asks Cal.com, and tells what it said. Several may run, here and elsewhere.

A question is leased, asked, told on `calcom.bookings.v1`, and ended: in this order, so that a crash between any two of
them has it asked, or told, again. The id of an answer is its question's: twice told is once.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Protocol

from msgspec import Struct

from schemas.envelope import Delivery
from schemas.observations import Check
from schemas.verification import Priority
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.lifecycle import PASSING, bounded, first_of
from services.plumbing.settings import Settings
from services.verifier import announce
from services.verifier.checks.asking import Asker, Outcome, Refused
from services.verifier.checks.queue import Leased, Queue
from services.verifier.checks.ways import Ways
from services.verifier.gate.budget import BUCKET
from services.verifier.ports import Account, NotNow

#: Slots that are kept for humans.
HUMANS: Final = 2
#: After a refusal the key is not tried again for so long; nor is a question that took too long.
REFUSED_SECONDS: Final = 600.0
TOO_LONG_SECONDS: Final = 60.0
#: A question without a key is the reconciler's to take back.
_KEYLESS_SECONDS: Final = 30.0
#: What nobody told us of is found within this time; what is due but held by another is looked at again after that one.
_LOOK_SECONDS: Final = 5.0
_HELD_SECONDS: Final = 0.5
_PUBLISH_SECONDS: Final = 10.0
#: Of the lease, for publishing and for ending the question.
_RESERVE_SECONDS: Final = 15.0
#: When told to stop: for what is under way to end by itself; then for giving back what has not.
_END_SECONDS: Final = 1.5
_GIVE_BACK_SECONDS: Final = 1.0


class Accounts(Protocol):
    """Who can be asked for: `accounts.Accounts`."""

    def of(self, company_id: str) -> Account | None:
        """Give a company's account; None: it has none, or no key that counts."""
        ...


class Publishes(Protocol):
    """What publishes: `publisher.Publisher`."""

    async def publish(self, delivery: Delivery) -> None:
        """Return when the broker has it on all replicas."""
        ...


class _UnderWay(Struct, frozen=True):
    leased: Leased
    human: bool


class Worker:
    """The loop that empties the queue, with so many questions at once as there are slots."""

    def __init__(
        self, settings: Settings, queue: Queue, asker: Asker, publisher: Publishes, accounts: Accounts, clock: Clock
    ) -> None:
        """Nothing is under way. All that it is given stays its owner's."""
        self._queue, self._asker, self._publisher = queue, asker, publisher
        self._accounts, self._clock = accounts, clock
        self._slots = settings.verifier_slots
        self._lease = timedelta(seconds=settings.verifier_lease_seconds)
        lease_seconds = settings.verifier_lease_seconds
        self._ask_seconds = max(lease_seconds - _RESERVE_SECONDS, lease_seconds / 2)
        self._ways = Ways(max(1, (self._slots - HUMANS) * 2 // 3), self._key_of)
        self._tasks: dict[asyncio.Task[None], _UnderWay] = {}
        #: Set it when something may be due.
        self.wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until `stop`; a loop for `lifecycle.keep`. Errors of PostgreSQL and Kafka go up as they are."""
        try:
            while not stop.is_set():
                self.wake.clear()
                self._look_after()
                if not await self._take():
                    await self._rest(stop)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_END_SECONDS)
        finally:
            await self._let_go()

    def _look_after(self) -> None:
        """Forget what has ended; raises what a task ended with."""
        for task in [task for task in self._tasks if task.done()]:
            task.result()
            del self._tasks[task]

    def _full(self) -> tuple[bool, bool]:
        """Tell whether no slot is free, and whether none is but for humans."""
        others = sum(not one.human for one in self._tasks.values())
        return len(self._tasks) >= self._slots, others >= self._slots - HUMANS

    async def _take(self) -> bool:
        """Take up one question; tells whether there was one to take."""
        full, humans_only = self._full()
        if full:
            return False
        now = self._clock.now()
        shut, crowded, _ = self._ways.look(now)
        leased = await self._queue.lease(now, now + self._lease, shut=shut, crowded=crowded, humans_only=humans_only)
        if leased is None:
            return False
        company_id = leased.question.company_id
        account = self._accounts.of(company_id)
        if account is None:
            self._ways.close(company_id, None, now + timedelta(seconds=_KEYLESS_SECONDS), humans=True)
            await self._queue.put_back(leased, now)
            return True
        human = leased.question.priority is Priority.HUMAN
        if not human:
            self._ways.began(company_id)
        task = asyncio.create_task(self._work(leased, account, human=human))
        self._tasks[task] = _UnderWay(leased, human)
        task.add_done_callback(lambda _: self.wake.set())
        return True

    async def _rest(self, stop: asyncio.Event) -> None:
        """Wait until something may be due."""
        now = self._clock.now()
        shut, crowded, opens_at = self._ways.look(now)
        moments = [] if opens_at is None else [opens_at]
        full, humans_only = self._full()
        if not full:
            due = await self._queue.next_due(shut=shut, crowded=crowded, humans_only=humans_only)
            moments += [] if due is None else [due]
        seconds = min(((moment - now).total_seconds() for moment in moments), default=_LOOK_SECONDS)
        seconds = min(seconds, _LOOK_SECONDS) if seconds > 0 else _HELD_SECONDS
        await first_of(self.wake, stop, seconds=seconds)

    async def _work(self, leased: Leased, account: Account, *, human: bool) -> None:
        company_id = leased.question.company_id
        try:
            outcome = await self._ask(leased, account)
            if isinstance(outcome, Check):
                await self._tell(leased, outcome)
                self._ways.answered(company_id)
            else:
                await self._queue.put_back(leased, self._learn(leased, account, outcome))
        finally:
            if not human:
                self._ways.ended(company_id)
        self._said(leased, outcome)

    async def _ask(self, leased: Leased, account: Account) -> Outcome | None:
        """Ask; None: it took so long that the lease would end."""
        limit = asyncio.timeout(self._ask_seconds)
        try:
            async with limit:
                return await self._asker.ask(account, leased.question, self._clock.now())
        except TimeoutError:
            if not limit.expired():
                raise
            return None

    async def _tell(self, leased: Leased, answered: Check) -> None:
        """Publish an answer and end its question. What Kafka does not take is asked again."""
        told = announce.check(leased.question.company_id, answered, self._clock.now())
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                await self._publisher.publish(told)
        except PASSING:
            await self._give_back([leased])
            raise
        await self._queue.done(leased)

    def _learn(self, leased: Leased, account: Account, outcome: NotNow | Refused | None) -> datetime:
        """Take note of why a question could not be asked; gives when it may be.

        What is true of the key is remembered here and not with the question: with another key it may be asked at once.
        """
        company_id, key, now = account.company_id, account.budget_id, self._clock.now()
        if outcome is None:
            return now + timedelta(seconds=TOO_LONG_SECONDS)
        if isinstance(outcome, Refused):
            self._ways.close(company_id, key, now + timedelta(seconds=REFUSED_SECONDS), humans=True)
            return now
        # A bucket that is empty for others has a reserve for humans; all else holds for them, too.
        spares_humans = outcome.reason == BUCKET and leased.question.priority is not Priority.HUMAN
        # Its moment is by the clock of the database, which may be behind ours.
        until = max(outcome.until, now + timedelta(seconds=_HELD_SECONDS))
        self._ways.close(company_id, key, until, humans=not spares_humans)
        if outcome.reason == BUCKET:
            self._ways.short(company_id)
        return now

    async def _let_go(self) -> None:
        """Cut short what is under way and give it back, so that another need not wait for the lease to end."""
        tasks, self._tasks = self._tasks, {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SECONDS)
            await self._give_back([one.leased for task, one in tasks.items() if not _ended_well(task)])

    async def _give_back(self, questions: list[Leased]) -> None:
        """Try to end leases early; those that cannot be ended end by themselves."""
        await bounded(self._put_all_back(questions), _GIVE_BACK_SECONDS)

    async def _put_all_back(self, questions: list[Leased]) -> None:
        now = self._clock.now()
        with suppress(*PASSING):
            for leased in questions:
                await self._queue.put_back(leased, now)

    def _key_of(self, company_id: str) -> str | None:
        account = self._accounts.of(company_id)
        return None if account is None else account.budget_id

    def _said(self, leased: Leased, outcome: Outcome | None) -> None:
        question = leased.question
        verdict, reason = _words(outcome)
        telemetry.checks.labels(verdict, reason).inc()
        now = self._clock.now()
        if isinstance(outcome, Check):
            waited = now - question.not_before
            telemetry.check_seconds.labels(question.priority.value).observe(max(0.0, waited.total_seconds()))
        log = telemetry.log()
        say = log.debug if reason == BUCKET else log.info  # an empty bucket is the usual thing while much is asked
        say(
            telemetry.VERIFIER_CHECK,
            company_id=question.company_id,
            record_id=str(question.record_id),
            number=question.number,
            priority=question.priority.value,
            verdict=verdict,
            reason=reason,
        )


def _ended_well(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _words(outcome: Outcome | None) -> tuple[str, str]:
    """Give what became of a question: a verdict, or that it was put back, and why."""
    if isinstance(outcome, Check):
        return outcome.verdict.value, outcome.reason
    if isinstance(outcome, Refused):
        return "put_back", "unauthorised"
    return "put_back", "too_long" if outcome is None else outcome.reason
