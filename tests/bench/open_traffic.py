"""What comes while much is open: new cases, and news of old ones from all over the table."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from math import gcd
from typing import Final

from schemas import topics
from schemas.envelope import Delivery
from tests.bench import bodies
from tests.bench.filling import delivery
from tests.bench.open_templates import FIRST, KINDS, NOW, PLACES, company_of

#: New cases have numbers from here on; those that are open have lower ones.
_FRESH: Final = 500_000_000
_LATER: Final = timedelta(minutes=1)
#: Of each twenty events: eight new pairs, one that stays alone, two that say more of an open case, one that ends one.
#: As many cases are opened as ended.
TWENTY: Final = (*["pair"] * 8, "alone", "again", "again", "partner")


class Traffic:
    """Events for a database with so many open cases; no case is ended twice."""

    def __init__(self, cases: int) -> None:
        """Cases are taken from all over the table, each step far from the one before."""
        self._cases = cases
        self._stride = next(n for n in range(int(cases * 0.618), cases) if gcd(n, cases) == 1)
        self._fresh = _FRESH
        self._told = 0
        self._ended = 0

    def next(self, events: int) -> list[Delivery]:
        """Give the next events."""
        found: list[Delivery] = []
        while len(found) < events:
            for what in TWENTY:
                found.extend(getattr(self, f"_{what}")())
        return found

    def _pair(self) -> Iterator[Delivery]:
        self._fresh += 1
        number, company = self._fresh, company_of(self._fresh)
        yield _app(company, number, bodies.appointment(company, number, starts_at=_start(number)))
        yield _calcom(company, number, bodies.webhook(company, number, starts_at=_start(number)))

    def _alone(self) -> Iterator[Delivery]:
        self._fresh += 1
        number, company = self._fresh, company_of(self._fresh)
        yield _app(company, number, bodies.appointment(company, number, starts_at=_start(number), linked=False))

    def _again(self) -> Iterator[Delivery]:
        """Say the same once more, a little later: what is open stays open, and is written anew."""
        self._told += 1
        number = FIRST + self._told * self._stride % self._cases
        company, kind = company_of(number), number % PLACES % KINDS
        moment = NOW + _LATER * (self._told % 500)
        if kind in (0, 1, 3):
            more = {"event_id": f"evt_{company}_{number}_{self._told}", "occurred_at": moment}
            body = bodies.appointment(
                company, number, kind="updated", linked=kind != 0, starts_at=_start(number), **more
            )
            yield _app(company, number, body)
            return
        yield _calcom(company, number, bodies.webhook(company, number, starts_at=_start(number), created_at=moment))

    def _partner(self) -> Iterator[Delivery]:
        """The other side comes after all: by the app's link or by person and time."""
        while True:
            self._ended += 1
            assert self._ended < self._cases, "every case has been ended"
            number = FIRST + self._ended * self._stride % self._cases
            if number % PLACES % KINDS in (0, 1, 2):
                break
        company = company_of(number)
        if number % PLACES % KINDS == 2:
            yield _app(company, number, bodies.appointment(company, number, starts_at=_start(number), linked=False))
        else:
            yield _calcom(company, number, bodies.webhook(company, number, starts_at=_start(number)))


def _start(number: int) -> datetime:
    return bodies.starts_at(number % PLACES)


def _app(company: str, number: int, body: bytes) -> Delivery:
    return delivery(topics.APP_APPOINTMENTS, company, f"evt-{number}", body)


def _calcom(company: str, number: int, body: bytes) -> Delivery:
    return delivery(topics.CALCOM_BOOKINGS, company, f"hook-{number}", body)
