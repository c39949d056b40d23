"""What Cal.com says of one booking and means for others: a word for all seats, a word for the rest of a series.

Cal.com sends one webhook where it changes many rows. Such a word is handed on to the sides that it is meant for, as an
event of theirs. What was handed on is made anew from the whole cluster each time, so that no order can matter; its id
ends in `*`, and it never tells more than a state.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from schemas.bookings import BookingEvent, BookingStatus, Scope
from services.reconciler.core.events import HeardBooking, event_id, order
from services.reconciler.core.people import of_attendees, seat_of
from services.reconciler.core.policy import Policy
from services.reconciler.core.sides import BookingSide, Life, booking_life

_MARK: Final = "*"
#: The occurrences of a series are made one after another; whatever is further apart is another series.
_SERIES_MADE_WITHIN: Final = timedelta(minutes=30)
#: RFC 5545 as Cal.com numbers it: YEARLY 0, MONTHLY 1, WEEKLY 2, DAILY 3.
_WEEKLY: Final = "2"
_DAY: Final = timedelta(days=1)
_CLOCK_CHANGE: Final = timedelta(hours=1, seconds=60)
#: So often may an occurrence have been moved.
_HOPS_MAX: Final = 50


def by_seat(heard: HeardBooking) -> tuple[HeardBooking, ...]:
    """Give a seated booking's word once for each seat that it names."""
    event = heard.event
    if not event.seats:
        return (heard,)
    return tuple([HeardBooking(heard.received_at, _of_seat(event, seat)) for seat in event.seats])


def _of_seat(event: BookingEvent, seat: str) -> BookingEvent:
    """What names one seat, or its appointment, is that seat's alone."""
    mine = tuple([one for one in event.attendees if seat_of(one.email) == seat])
    if seat == event.seat:
        return replace(event, seats=(), attendees=mine)
    return replace(event, seat=seat, seats=(), attendees=mine, seat_id=None, appointment_id=None)


def own(side: BookingSide) -> BookingSide:
    """Give a side with what was said of itself alone."""
    for heard in side.heard:
        if heard.event.event_id.endswith(_MARK):
            said = tuple([one for one in side.heard if not one.event.event_id.endswith(_MARK)])
            return BookingSide(side.uid, side.seat, said)
    return side


def hand_on(sides: Sequence[BookingSide], policy: Policy) -> list[BookingSide]:
    """Give the sides, each with the words of the others that are meant for it too. `sides` are `own` ones."""
    seated = {side.uid for side in sides if side.seat is not None}
    words = [(side, one) for side in sides for one in side.heard if _speaks(side, one, seated)]
    if not words:
        return list(sides)
    found: list[BookingSide] = []
    series = _Series(sides, policy)
    for side in sides:
        implied = [
            meant for speaker, word in words if speaker is not side for meant in _meant(speaker, word, side, series)
        ]
        if implied:
            told = {event_id(one): one for one in (*implied, *side.heard)}
            found.append(BookingSide(side.uid, side.seat, tuple(sorted(told.values(), key=order))))
        else:
            found.append(side)
    return found


def _speaks(side: BookingSide, word: HeardBooking, seated: Collection[str]) -> bool:
    """Tell whether a word is more than one booking's.

    Whatever names no seat of a uid that has some is said of all. An occurrence that is made says nothing of the others;
    one that had been waiting is confirmed, and Cal.com confirms all of a series by that one webhook.
    """
    event = word.event
    if event.scope is None:
        return side.seat is None and event.status is not None and side.uid in seated
    if event.scope is Scope.BOOKING or event.status in (BookingStatus.CANCELLED, BookingStatus.REJECTED):
        return True
    before = _before(side, word)
    return before is not None and booking_life(before) is Life.PENDING


def _meant(speaker: BookingSide, word: HeardBooking, side: BookingSide, series: "_Series") -> Iterable[HeardBooking]:
    """Give what a word said of one side says of another; nothing where that was over before, or began after it."""
    event = word.event
    before = _before(side, word)
    if before is None or any(one.event.event_id == event.event_id for one in side.heard):
        return
    status: BookingStatus | None
    if event.scope is not Scope.SERIES:
        status = _for_seat(speaker, event, side, before, series.policy)
    else:
        status = _for_occurrence(speaker, event, side, before, series)
    if status is not None:
        yield HeardBooking(word.received_at, _copied(event, side, status))


def _for_seat(
    speaker: BookingSide, event: BookingEvent, side: BookingSide, before: HeardBooking, policy: Policy
) -> BookingStatus | None:
    if speaker.uid != side.uid or side.seat is None or not booking_life(before).alive:
        return None
    if event.status not in (BookingStatus.CANCELLED, BookingStatus.REJECTED):
        if before.event.unpaid:
            return None  # each pays for itself
        accepted = event.status is BookingStatus.ACCEPTED
        return BookingStatus.ACCEPTED if accepted else before.event.status  # they were moved, or confirmed
    left = of_attendees(event.attendees, policy.country)
    if event.scope is None and left and not set(left) & set(_people(side, policy)):
        return None  # somebody else left
    return event.status


def _for_occurrence(
    speaker: BookingSide, event: BookingEvent, side: BookingSide, before: HeardBooking, series: "_Series"
) -> BookingStatus | None:
    if event.status is BookingStatus.CANCELLED:  # all that are still to come
        meant = booking_life(before).alive and (_start(side) or event.occurred_at) >= event.occurred_at
    else:
        meant = booking_life(before) is Life.PENDING
    return event.status if meant and series.same(speaker, side) else None


class _Series:
    """Tells which sides are of one series, by what Cal.com tells: it does not name the series."""

    def __init__(self, sides: Sequence[BookingSide], policy: Policy) -> None:
        self.policy = policy
        self._by_uid = {(side.uid, side.seat): side for side in sides}

    def same(self, one: BookingSide, other: BookingSide) -> bool:
        """Same rhythm, event type and person, starts that keep step, made at the same time."""
        first, second = self._origin(one), self._origin(other)
        types = {first.heard[0].event.event_type_id, second.heard[0].event.event_type_id} - {None}
        rhythm = _rhythm(first)
        return (
            rhythm is not None
            and rhythm == _rhythm(second)
            and one.uid != other.uid
            and len(types) < 2  # noqa: PLR2004 - the same, or one of them not told
            and bool(set(_people(one, self.policy)) & set(_people(other, self.policy)))
            and abs(first.heard[0].event.occurred_at - second.heard[0].event.occurred_at) <= _SERIES_MADE_WITHIN
            and _in_step(_start(first), _start(second), rhythm)
        )

    def _origin(self, side: BookingSide) -> BookingSide:
        """Give the booking that was made with the series; this one may have taken its place since."""
        for _ in range(_HOPS_MAX):
            parent = next((one.event.parent_uid for one in side.heard if one.event.parent_uid), None)
            before = self._by_uid.get((parent, side.seat)) if parent else None
            if before is None:
                return side
            side = before
        return side


def _in_step(one: datetime | None, other: datetime | None, rhythm: str) -> bool:
    """Tell whether two starts may be of one series; a clock change moves one by an hour."""
    if one is None or other is None:
        return True
    frequency, _, rest = rhythm.partition(".")
    interval = rest.rpartition(".")[2]
    step = _DAY * 7 * int(interval) if frequency == _WEEKLY and interval.isdigit() and int(interval) else _DAY
    off = abs(one - other) % step
    return min(off, step - off) <= _CLOCK_CHANGE


def _rhythm(side: BookingSide) -> str | None:
    return next((one.event.recurring for one in side.heard if one.event.recurring), None)


def _people(side: BookingSide, policy: Policy) -> tuple[str, ...]:
    return next((of_attendees(one.event.attendees, policy.country) for one in side.heard if one.event.attendees), ())


def _before(side: BookingSide, word: HeardBooking) -> HeardBooking | None:
    """Give the last thing that was said of a side's state before a word."""
    at = order(word)
    earlier = [one for one in side.heard if one.event.status is not None and order(one) < at]
    return earlier[-1] if earlier else None


def _start(side: BookingSide) -> datetime | None:
    return next((one.event.starts_at for one in reversed(side.heard) if one.event.starts_at is not None), None)


def _copied(event: BookingEvent, side: BookingSide, status: BookingStatus) -> BookingEvent:
    """Give a word as the other side's: of a seat the new times too, of an occurrence no more than the state."""
    moved = event.scope is not Scope.SERIES
    return BookingEvent(
        event_id=event.event_id + _MARK,
        trigger=event.trigger,
        occurred_at=event.occurred_at,
        uid=side.uid,
        seat=side.seat,
        status=status,
        starts_at=event.starts_at if moved else None,
        ends_at=event.ends_at if moved else None,
        event_type_id=event.event_type_id if moved else None,
    )
