"""Pages of Cal.com's bookings, asked for through the gateway, and told on `calcom.bookings.v1`."""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from msgspec import Struct

from schemas.envelope import Delivery
from schemas.verification import Priority
from services.verifier.announce import observation
from services.verifier.answers import Answer, Bookings, NotThere, Row, Unauthorised, Unknown
from services.verifier.ports import Account, Gateway, NotNow
from services.verifier.rounds.paging import Paging, name, query

#: A page waits so long for its token: checks and humans go first.
TOKEN_SECONDS: Final = 20.0
#: If the broker has not acknowledged by then, the page is read again.
PUBLISH_SECONDS: Final = 10.0
#: Rows that are remembered as told; one that was forgotten is told again, which changes nothing.
TOLD_MAX: Final = 20_000
#: Cal.com gave no answer that can be used: so long until it is asked again.
AGAIN: Final = timedelta(seconds=60)


class Page(Struct, frozen=True):
    """A page, and when Cal.com gave it."""

    bookings: Bookings
    at: datetime


class Halt(Struct, frozen=True):
    """No page. `error` is a sentence without secrets; `until`: nobody may ask before."""

    error: str
    until: datetime | None = None

    def due_at(self, now: datetime) -> datetime:
        """Say when to try again."""
        return max(now + AGAIN, self.until or now)


class Accounts(Protocol):
    """Companies with an API key: `accounts.Accounts`."""

    def of(self, company_id: str) -> Account | None:
        """Give a company's account."""
        ...


class Publishes(Protocol):
    """What has the messages acknowledged: `plumbing.publisher.Publisher`."""

    async def publish_all(self, deliveries: Iterable[Delivery]) -> None:
        """Return when the broker has them all."""
        ...


async def ask(gateway: Gateway, account: Account, at: Paging) -> Page | Halt:
    """Ask for the next page."""
    said = await gateway.ask(account, query(at), priority=Priority.SWEEP, wait_seconds=TOKEN_SECONDS)
    if isinstance(said, NotNow):
        return not_now(said)
    return Page(said.answer, said.at) if isinstance(said.answer, Bookings) else halted(said.answer)


def not_now(said: NotNow) -> Halt:
    """Say why nobody may ask."""
    return Halt(f"Cal.com may not be asked now ({said.reason}).", said.until)


def halted(answer: Answer) -> Halt:
    """Say why an answer is of no use."""
    if isinstance(answer, Unauthorised):
        return Halt(f"Cal.com refused the API key ({answer.status}).")
    if isinstance(answer, Unknown):
        return Halt(f"Cal.com did not answer ({answer.reason}): {answer.detail}")
    where = "said that it has no such page" if isinstance(answer, NotThere) else "answered something else"
    return Halt(f"Cal.com {where}.")


class Memory:
    """What was done already; of more than so much the oldest is forgotten."""

    def __init__(self, most: int = TOLD_MAX) -> None:
        """Nothing was done."""
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self._most = most

    def __contains__(self, what: Hashable) -> bool:
        """Tell whether it was done, as far as is remembered."""
        return what in self._known

    def add(self, what: Hashable) -> None:
        """Remember."""
        self._known[what] = None
        self._known.move_to_end(what)
        if len(self._known) > self._most:
            self._known.popitem(last=False)


class Teller:
    """Tells of each booking in each of its states once."""

    def __init__(self, publisher: Publishes) -> None:
        """The publisher stays its owner's."""
        self._publisher = publisher
        self._told = Memory()

    async def tell(self, company_id: str, rows: Sequence[Row], at: datetime) -> int:
        """Publish what is new, acknowledged; gives how many. Raises KafkaError or TimeoutError: then none is told."""
        new = [row for row in rows if (company_id, *name(row)) not in self._told]
        if not new:
            return 0
        async with asyncio.timeout(PUBLISH_SECONDS):
            await self._publisher.publish_all([observation(company_id, row, at) for row in new])
        for row in new:
            self._told.add((company_id, *name(row)))
        return len(new)
