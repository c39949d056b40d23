"""The one way to Cal.com: permission, request, and what is learnt of it."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final, Protocol

from msgspec import Struct

from schemas.verification import Priority
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.lifecycle import bounded
from services.verifier.answers import Answer, Bookings, Failure, NotThere, Unauthorised
from services.verifier.gate.budget import BREAKER, BUCKET, UNAUTHORISED, Grant, Lesson
from services.verifier.gate.incidents import Trouble, refused, silent, trouble_of
from services.verifier.ports import Account, Call, Client, CreateWebhook, ListWebhooks, NotNow, Observed, PatchWebhook

#: An answer is given again for so long.
REUSE: Final = timedelta(minutes=5)
#: So many bookings are remembered, and those of an answer only if it is no larger than a search's page: a search that
#: ran out of tokens halfway goes on where it was.
MOST_ROWS: Final = 2_000
MOST_ROWS_OF_ANSWER: Final = 100
#: Who waits for a token looks again so much later at most, lest all look at once.
_SPREAD_SECONDS: Final = 0.1
_random: Final = random.Random()  # noqa: S311 - spreads load, guards nothing

_Key = tuple[str, Call]  # the budget, for companies that share a key share the answers


class Budgets(Protocol):
    """The keys' budgets, shared by all processes: `budgets.PostgresBudgets`."""

    async def take(self, budget_id: str, priority: Priority) -> Grant | NotNow:
        """Take a token, and the probe's place where the breaker wants one."""
        ...

    async def learn(self, budget_id: str, grant: Grant, answer: Answer) -> Lesson:
        """Note what came of a granted request."""
        ...


class Incidents(Protocol):
    """The companies' incidents: `incidents.PostgresIncidents`."""

    async def seen(self, company_id: str, trouble: Trouble) -> None:
        """Note what a company's own request met."""
        ...

    async def heard(self, company_id: str, trouble: Trouble) -> None:
        """Note what another's request with the same key met, unless the company has something of its own."""
        ...

    async def over(self, company_id: str) -> None:
        """End what a good answer disproves."""
        ...


class _Flight(Struct, frozen=True):
    """A request under way."""

    task: "asyncio.Task[Observed | NotNow]"
    at: datetime


class CalcomGateway:
    """See `ports.Gateway`. `Observed.at` is when the question was sent: what it says is no older than that.

    A request that was sent is seen to its end and learnt from even if nobody waits for it any more.
    """

    def __init__(
        self,
        client: Client,
        budgets: Budgets,
        incidents: Incidents,
        clock: Clock,
        *,
        jitter: Callable[[], float] = _random.random,
    ) -> None:
        """Begin without memory. `jitter` gives numbers from 0 to 1."""
        self._client, self._budgets, self._incidents = client, budgets, incidents
        self._clock, self._jitter = clock, jitter
        self._flights: dict[_Key, _Flight] = {}
        self._under_way: set[asyncio.Task[Observed | NotNow]] = set()
        self._memory = _Memory()

    async def ask(
        self,
        account: Account,
        call: Call,
        *,
        priority: Priority,
        not_older_than: datetime | None = None,
        wait_seconds: float = 0.0,
    ) -> Observed | NotNow:
        """See `ports.Gateway`. Without `not_older_than` nothing is reused, and no other's request is joined."""
        key: _Key = (account.budget_id, call)
        wait_until = self._clock.now() + timedelta(seconds=wait_seconds)
        while True:
            known = await self._known(key, not_older_than)
            if known is not None:
                return known
            word = await self._budgets.take(account.budget_id, priority)
            if isinstance(word, Grant):
                break
            if word.reason != BUCKET or word.until > wait_until:
                return await self._refused(account, word)
            wait = (word.until - self._clock.now()).total_seconds()
            await self._clock.sleep(max(0.0, wait) + _SPREAD_SECONDS * self._jitter())
        if word.probe_until is None:
            # Another may have sent the same meanwhile: a token is lost then, which is cheaper than a request.
            known = await self._known(key, not_older_than)
            if known is not None:
                return known
        return await asyncio.shield(self._depart(key, account, word, reusable=not_older_than is not None).task)

    async def close(self, seconds: float = 3.0) -> None:
        """Cut short what is under way, within a deadline. A probe's place is free again when its time is over."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        if tasks:
            await bounded(asyncio.wait(tasks), seconds)

    async def _known(self, key: _Key, not_older_than: datetime | None) -> Observed | NotNow | None:
        if not_older_than is None or isinstance(key[1], CreateWebhook | PatchWebhook):
            return None
        flight = self._flights.get(key)
        if flight is not None and flight.at >= not_older_than:
            return await asyncio.shield(flight.task)
        return self._memory.find(key, not_older_than, self._clock.now())

    async def _refused(self, account: Account, word: NotNow) -> NotNow:
        telemetry.calcom_not_now.labels(word.reason).inc()
        if word.reason in (BREAKER, UNAUTHORISED):
            trouble = silent(account) if word.reason == BREAKER else refused(account)
            await self._incidents.heard(account.company_id, trouble)
            _show(account, shut=True)
        return word

    def _depart(self, key: _Key, account: Account, grant: Grant, *, reusable: bool) -> _Flight:
        at = self._clock.now()
        task = asyncio.ensure_future(self._send(key, account, grant, at))
        flight = self._flights[key] = _Flight(task, at)
        self._under_way.add(task)

        def landed(done: "asyncio.Task[Observed | NotNow]") -> None:
            self._under_way.discard(done)
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not done.cancelled() and done.exception() is None:  # who waited has the error; nobody may have waited
                self._memory.note(key, done.result(), reusable=reusable)

        task.add_done_callback(landed)
        return flight

    async def _send(self, key: _Key, account: Account, grant: Grant, at: datetime) -> Observed | NotNow:
        answer = await self._client.send(account, key[1])
        if _lacks_scope(key[1], answer):
            await self._budgets.learn(account.budget_id, grant, NotThere())
            return Observed(answer, at)
        lesson = await self._budgets.learn(account.budget_id, grant, answer)
        shut = lesson.budget.shut is not None
        _show(account, shut=shut)
        trouble = trouble_of(account, answer, shut=shut)
        if trouble is not None:
            await self._incidents.seen(account.company_id, trouble)
        elif not isinstance(answer, Failure):
            await self._incidents.over(account.company_id)
        if lesson.not_now is not None:
            telemetry.calcom_not_now.labels(lesson.not_now.reason).inc()
            return lesson.not_now
        return Observed(answer, at)


def _lacks_scope(call: Call, answer: Answer) -> bool:
    """Tell whether a key may not look at webhooks: it may still ask for bookings, and nothing is wrong with it."""
    about_webhooks = isinstance(call, ListWebhooks | CreateWebhook | PatchWebhook)
    return about_webhooks and isinstance(answer, Unauthorised) and answer.status == HTTPStatus.FORBIDDEN


def _show(account: Account, *, shut: bool) -> None:
    """Show open breakers alone: as many series as there are troubles, not as there are keys."""
    label = account.budget_id[:8]
    if shut:
        telemetry.calcom_breaker_open.labels(label).set(1)
    else:
        telemetry.calcom_breaker_open.remove(label)


class _Memory:
    """Bookings that were found lately; the longest unused go first."""

    def __init__(self) -> None:
        """Nothing."""
        self._answers: OrderedDict[_Key, Observed] = OrderedDict()
        self._rows = 0

    def find(self, key: _Key, not_older_than: datetime, now: datetime) -> Observed | None:
        known = self._answers.get(key)
        if known is None or known.at < not_older_than or not timedelta(0) <= now - known.at <= REUSE:
            return None
        self._answers.move_to_end(key)
        return known

    def note(self, key: _Key, said: Observed | NotNow, *, reusable: bool) -> None:
        """Remember what was found, if anybody may want it; a new answer puts the one before out of date."""
        if isinstance(said, NotNow) or isinstance(said.answer, Failure):
            return
        self._drop(key)
        rows = _rows(said)
        if not reusable or not 0 < rows <= MOST_ROWS_OF_ANSWER:
            return
        self._answers[key] = said
        self._rows += rows
        while self._rows > MOST_ROWS:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: _Key) -> None:
        dropped = self._answers.pop(key, None)
        if dropped is not None:
            self._rows -= _rows(dropped)


def _rows(observed: Observed) -> int:
    return len(observed.answer.rows) if isinstance(observed.answer, Bookings) else 0
