"""Looks for a booking whose uid nobody knows: by who comes, by when it starts. Rows are re-checked here.

That a list is empty means nothing by itself: Cal.com sometimes ignores its own filters, or answers an empty page. So a
search finds that there is none only if it is proven to work: a *canary*, a booking that is known to be there, is found
by the same filter; or the list has what the filter lets through, and nothing else, and was read to its end.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from schemas.verification import Priority, Question
from services.verifier.answers import Answer, Bookings, NotThere, Reason, Row, Unknown
from services.verifier.checks import people, verdict
from services.verifier.ports import Account, Call, Gateway, ListQuery, NotNow

PAGES_MAX: Final = 10
PAGE: Final = 100
#: A canary counts for so long.
PROVEN_FOR: Final = timedelta(minutes=5)
#: Between two calls of one question a token is waited for: to begin again from the start would cost more of them.
WAIT_SECONDS: Final = 5.0
_MARGIN: Final = timedelta(seconds=60)
_PROOFS_MAX: Final = 10_000

Found = list[Row] | NotThere | Unknown


class Halt(Exception):  # noqa: N818 - no error: the way out of a chain of calls
    """No further call makes sense: `outcome` says why."""

    def __init__(self, outcome: NotNow | Answer) -> None:
        """Keep why."""
        super().__init__()
        self.outcome = outcome


class Talk:
    """The calls of one question, one after the other; `heard` are the moments of the answers."""

    def __init__(self, gateway: Gateway, account: Account, priority: Priority, now: datetime) -> None:
        """Nothing is asked yet."""
        self._gateway, self._account, self._priority = gateway, account, priority
        self.now = now
        self.heard: list[datetime] = []

    @property
    def budget_id(self) -> str:
        """Give the name of the key that is used."""
        return self._account.budget_id

    async def ask(self, call: Call, not_older_than: datetime) -> Bookings | NotThere:
        """Ask. Raises Halt for every other answer, and where nobody may ask now."""
        observed = await self._gateway.ask(
            self._account,
            call,
            priority=self._priority,
            not_older_than=not_older_than,
            wait_seconds=WAIT_SECONDS if self.heard or self._priority is Priority.HUMAN else 0.0,
        )
        if isinstance(observed, NotNow):
            raise Halt(observed)
        self.heard.append(observed.at)
        if isinstance(observed.answer, Bookings | NotThere):
            return observed.answer
        raise Halt(observed.answer)


class Listing(Struct):
    """What a filter gave: its rows; whether all of them obey it; whether the list was read far enough."""

    rows: list[Row]
    obeyed: bool = True
    complete: bool = False


class Proof(Struct, frozen=True):
    """A canary that was found. `tags`: ids of OAuth clients that this account's e-mails carry."""

    at: datetime
    tags: frozenset[str] = frozenset()


class Searcher:
    """Searches, and remembers for a while which account's filters work."""

    def __init__(self) -> None:
        """Nothing is proven yet."""
        self._proofs: dict[tuple[str, str], Proof] = {}

    async def search(self, talk: Talk, question: Question) -> Found:
        """Give the rows that may be the booking, the likeliest first; or NotThere, proven; or Unknown. Raises Halt."""
        addresses = _addresses(question)
        if not addresses:
            return await self._by_start(talk, question)
        found = await self._by_address(talk, question, addresses)
        if isinstance(found, list):
            return found
        if isinstance(found, NotThere) and question.absent_at is None:
            return found  # it will be asked again
        # Another way to the same booking, before it is said that there is none: its e-mail may be spelt otherwise.
        then = await self._by_start(talk, question)
        return then if isinstance(then, list) else _both(question, found, then)

    async def _by_address(self, talk: Talk, question: Question, addresses: Sequence[str]) -> Found:
        """Look among the bookings of whoever is looked for."""
        asked: list[Listing] = []
        for address in addresses:
            if hits := await self._with(talk, question, address, asked):
                return hits
        proof = await self._address_works(talk)
        tags = proof.tags if isinstance(proof, Proof) else frozenset[str]()
        for address in [people.with_tag(addresses[0], tag) for tag in sorted(tags)]:
            if hits := await self._with(talk, question, address, asked):
                return hits
        if not all(one.obeyed for one in asked):
            return _unknown(Reason.FILTER_IGNORED)
        if not all(one.complete for one in asked):
            return _unknown(Reason.TOO_MANY)
        if isinstance(proof, Unknown) and not any(one.rows for one in asked):
            return proof
        return NotThere()

    async def _with(self, talk: Talk, question: Question, address: str, asked: list[Listing]) -> list[Row]:
        """Ask for one address; the listing is noted, what matches is given."""
        query = ListQuery(attendee_email=address, sort_start="desc", take=PAGE)

        def obeys(row: Row) -> bool:
            return not people.attendees(row) or people.has_address(row, address)

        listing = await _read(
            talk, query, question.not_older_than, obeys, lambda rows: bool(verdict.matches(question, rows))
        )
        asked.append(listing)
        return verdict.matches(question, listing.rows)

    async def _by_start(self, talk: Talk, question: Question) -> Found:
        """Look among all that starts at that moment."""
        if question.starts_at is None:
            return _unknown(Reason.NOTHING_TO_SEARCH_BY)
        tolerance = timedelta(seconds=question.tolerance_seconds)
        after, last = question.starts_at - tolerance - _MARGIN, question.starts_at + tolerance
        query = ListQuery(after_start=after, sort_start="asc", take=PAGE)
        listing = await _read(talk, query, question.not_older_than, _from(after), lambda rows: _passes(rows, last))
        if hits := verdict.matches(question, listing.rows):
            return hits
        if not listing.obeyed or not listing.complete:
            return _unknown(Reason.TOO_MANY if listing.obeyed else Reason.FILTER_IGNORED)
        if _somebodys(question, listing.rows):
            return _unknown(Reason.NOT_RECOGNISABLE)
        proof = None if listing.rows else await self._start_works(talk)
        return proof if isinstance(proof, Unknown) else NotThere()

    async def _address_works(self, talk: Talk) -> Proof | Unknown:
        """Make sure that a booking is found by the e-mail of who comes."""
        if known := self._known(talk, "address"):
            return known
        rows = await _some(talk)
        emails = [(row, one["email"]) for row in rows for one in people.attendees(row) if _text(one.get("email"))]
        if not emails:
            return _unknown(Reason.EMPTY_LIST)
        canary, email = emails[0]
        found = await talk.ask(ListQuery(attendee_email=email, sort_start="desc", take=PAGE), talk.now - PROVEN_FOR)
        if not all(people.has_address(row, email) for row in _rows(found) if people.attendees(row)):
            return _unknown(Reason.FILTER_IGNORED)
        if not _has(found, canary):
            return _unknown(Reason.EMPTY_LIST)
        return self._learn(talk, "address", frozenset(tag for row in rows for tag in people.client_tags(row)))

    async def _start_works(self, talk: Talk) -> Proof | Unknown:
        """Make sure that a booking is found by its start."""
        if known := self._known(talk, "start"):
            return known
        starts = [(row, start) for row in await _some(talk) if (start := verdict.starts_at(row))]
        if not starts:
            return _unknown(Reason.EMPTY_LIST)
        canary, start = starts[0]
        after = start - _MARGIN
        found = await talk.ask(ListQuery(after_start=after, sort_start="asc", take=PAGE), talk.now - PROVEN_FOR)
        if not all(map(_from(after), _rows(found))):
            return _unknown(Reason.FILTER_IGNORED)
        return self._learn(talk, "start") if _has(found, canary) else _unknown(Reason.EMPTY_LIST)

    def _known(self, talk: Talk, kind: str) -> Proof | None:
        proof = self._proofs.get((talk.budget_id, kind))
        return proof if proof is not None and talk.now - proof.at < PROVEN_FOR else None

    def _learn(self, talk: Talk, kind: str, tags: frozenset[str] = frozenset()) -> Proof:
        if len(self._proofs) >= _PROOFS_MAX:
            self._proofs.clear()
        proof = self._proofs[(talk.budget_id, kind)] = Proof(talk.now, tags)
        return proof


async def _read(
    talk: Talk,
    query: ListQuery,
    not_older_than: datetime,
    obeys: Callable[[Row], bool],
    enough: Callable[[list[Row]], bool],
) -> Listing:
    """Read pages until there is enough, or no more, or too many.

    Bookings are never deleted, and one that is moved gets a row of its own: a list that shifts repeats rows, and skips
    none.
    """
    listing = Listing([])
    for _ in range(PAGES_MAX):
        page = await talk.ask(query, not_older_than)
        rows = _rows(page)
        listing.rows += rows
        listing.obeyed = listing.obeyed and all(map(obeys, rows))
        more = isinstance(page, Bookings) and page.has_more
        listing.complete = not more or (listing.obeyed and enough(listing.rows))
        if not more or not rows or enough(listing.rows):
            break
        cursor = page.cursor if isinstance(page, Bookings) else None
        query = replace(query, cursor=cursor, skip=0 if cursor else query.skip + len(rows))
    return listing


async def _some(talk: Talk) -> Sequence[Row]:
    """Give bookings of the account, whichever."""
    return _rows(await talk.ask(ListQuery(take=PAGE), talk.now - PROVEN_FOR))


def _rows(found: Bookings | NotThere) -> Sequence[Row]:
    return found.rows if isinstance(found, Bookings) else ()


def _has(found: Bookings | NotThere, canary: Row) -> bool:
    """Tell whether a canary came back, or may be on a later page of rows that are all such as were asked for."""
    rows = _rows(found)
    more = isinstance(found, Bookings) and found.has_more
    return bool(rows) and (more or any(row.get("uid") == canary.get("uid") for row in rows))


def _from(after: datetime) -> Callable[[Row], bool]:
    """Give the test whether a booking starts at a moment or later."""
    return lambda row: (start := verdict.starts_at(row)) is not None and start >= after


def _passes(rows: Sequence[Row], last: datetime) -> bool:
    """Tell whether rows that come by their start have passed a moment; those in another order never have."""
    starts = [start for row in rows if (start := verdict.starts_at(row)) is not None]
    return bool(starts) and starts == sorted(starts) and starts[-1] > last


def _both(question: Question, by_address: NotThere | Unknown, by_start: NotThere | Unknown) -> NotThere | Unknown:
    """Say what two searches without a find amount to."""
    if isinstance(by_address, NotThere):
        doubtful = isinstance(by_start, Unknown) and by_start.reason is Reason.NOT_RECOGNISABLE
        return by_start if doubtful and question.match_by_attendee else by_address
    # Nothing at that start disproves no booking that is named by its number, for it may be at another.
    return by_start if isinstance(by_start, NotThere) and question.booking_id is None else by_address


def _somebodys(question: Question, rows: Sequence[Row]) -> bool:
    """Tell whether a booking at that start may be the one that is looked for, and nothing says so."""
    unclaimed = verdict.unclaimed_at(question, rows)
    if not question.match_by_attendee or not any(verdict.person(question)):
        return bool(unclaimed)
    return any(not people.attendees(row) for row in unclaimed)


def _addresses(question: Question) -> list[str]:
    """Give the e-mails to ask by: Cal.com compares them to the letter. First as the app wrote it."""
    email, phone = verdict.person(question)
    email = (email or "").strip()
    named = [email, email.lower()] if "@" in email else []
    made = people.sms_address(phone) if phone else None
    return list(dict.fromkeys([*named, *([made] if made else [])]))


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _unknown(reason: Reason) -> Unknown:
    return Unknown(reason=reason, detail=f"a search by Cal.com's lists: {reason.value}")
