"""What is said of one booking and meant for others: seats, and series."""

from typing import Any

import pytest

from schemas.bookings import BookingStatus, Scope
from services.reconciler.core.events import HeardBooking
from services.reconciler.core.hearsay import by_seat, hand_on, own
from services.reconciler.core.sides import BookingSide, Life, booking_life
from tests.support.history import POLICY, calcom

MIA, TOM = "mia@example.com", "tom@example.com"
SERIES: dict[str, Any] = {"recurring": "2.3.1", "scope": Scope.SERIES}
WEEK = 7 * 24 * 60


def side(*heard: HeardBooking) -> BookingSide:
    first = heard[0].event
    return BookingSide(first.uid, first.seat, heard)


def seat(holder: str, *more: HeardBooking) -> BookingSide:
    return side(calcom(seat=holder, email=holder), *more)


def occurrence(uid: str, seconds: float = 0, *, trigger: str = "REQUESTED", **fields: Any) -> HeardBooking:
    return calcom(trigger, seconds, uid, **(SERIES | fields))


def lives(*sides: BookingSide) -> list[Life]:
    """Give what each side amounts to when all is handed on."""
    return [booking_life(one.heard[-1]) for one in hand_on(sides, POLICY)]


def test_a_word_for_several_seats_is_said_of_each() -> None:
    word = calcom("CANCELLED", 60, seat=MIA, seats=(MIA, TOM), seat_id="S1", appointment_id="1", guests=(TOM,))
    mias, toms = by_seat(word)
    assert (mias.event.seat, mias.event.seat_id, mias.event.appointment_id) == (MIA, "S1", "1")
    assert (toms.event.seat, toms.event.seat_id, toms.event.appointment_id) == (TOM, None, None)
    assert [one.email for one in toms.event.attendees] == [TOM]


def test_a_word_for_one_seat_is_said_of_it_alone() -> None:
    word = calcom("CANCELLED", 60, seat=MIA)
    assert by_seat(word) == (word,)
    assert lives(seat(MIA, word), seat(TOM)) == [Life.CANCELLED, Life.LIVE]


def test_what_is_said_of_the_whole_booking_is_meant_for_every_seat() -> None:
    assert lives(side(calcom("CANCELLED", 60, email=None)), seat(MIA), seat(TOM)) == [Life.CANCELLED] * 3


def test_what_names_no_seat_but_those_who_sit_is_meant_for_these() -> None:
    whole = side(calcom("CANCELLED", 60, email=TOM))
    assert lives(whole, seat(MIA), seat(TOM))[1:] == [Life.LIVE, Life.CANCELLED]


def test_a_seat_that_was_taken_after_the_word_did_not_hear_it() -> None:
    late = side(calcom(seconds=90, seat=TOM, email=TOM))
    assert lives(side(calcom("CANCELLED", 60, email=None)), seat(MIA), late)[1:] == [Life.CANCELLED, Life.LIVE]


def test_a_move_in_place_moves_every_seat_and_brings_none_back() -> None:
    word = calcom("RESCHEDULED", 60, seat=MIA, email=MIA, minutes=90, scope=Scope.BOOKING)
    left = seat(TOM, calcom("CANCELLED", 30, seat=TOM, email=TOM))
    eve = seat("eve@example.com")
    mias, toms, eves = hand_on([seat(MIA, word), left, eve], POLICY)
    assert eves.heard[-1].event.starts_at == word.event.starts_at
    assert eves.heard[-1].event.status is BookingStatus.ACCEPTED
    assert toms == left
    assert mias.heard[-1] == word


def test_a_fact_of_the_whole_booking_is_meant_for_no_seat() -> None:
    sides = [side(calcom("MEETING_STARTED", 60)), seat(MIA)]
    assert hand_on(sides, POLICY) == sides


def test_of_what_was_handed_on_nothing_stays_when_it_is_made_anew() -> None:
    sides = [side(calcom("CANCELLED", 60, email=None)), seat(MIA), seat(TOM)]
    once = hand_on(sides, POLICY)
    assert once != sides
    assert [own(one) for one in once] == sides
    assert hand_on([own(one) for one in once], POLICY) == once


def test_a_series_is_confirmed_by_one_word() -> None:
    first = side(occurrence("A"), occurrence("A", 60, trigger="CREATED"))
    second = side(occurrence("B", 1, minutes=WEEK))
    assert lives(first, second) == [Life.LIVE, Life.LIVE]


def test_an_occurrence_that_is_made_at_once_confirms_no_other() -> None:
    first = side(occurrence("A", 2, trigger="CREATED"))
    second = side(occurrence("B", 1, minutes=WEEK))
    assert lives(first, second) == [Life.LIVE, Life.PENDING]


def test_a_series_is_refused_by_one_word_but_for_what_was_confirmed() -> None:
    first = side(occurrence("A"), occurrence("A", 60, trigger="REJECTED"))
    confirmed = side(occurrence("B", 1, minutes=WEEK), occurrence("B", 30, trigger="CREATED", scope=None))
    assert lives(first, side(occurrence("C", 2, minutes=2 * WEEK)), confirmed) == [
        Life.CANCELLED,
        Life.CANCELLED,
        Life.LIVE,
    ]


@pytest.mark.parametrize(("minutes", "life"), [(WEEK, Life.CANCELLED), (-2 * WEEK, Life.LIVE)])
def test_the_rest_of_a_series_is_called_off_not_what_has_been(minutes: int, life: Life) -> None:
    first = side(occurrence("A", trigger="CREATED"), occurrence("A", 60, trigger="CANCELLED"))
    second = side(occurrence("B", 1, trigger="CREATED", minutes=minutes))
    assert lives(first, second) == [Life.CANCELLED, life]


@pytest.mark.parametrize(
    "other",
    [
        {"email": TOM},
        {"recurring": "1.3.1"},
        {"event_type_id": 2},
        {"seconds": 3600},
        {"recurring": None, "scope": None},
    ],
)
def test_another_series_does_not_listen(other: dict[str, Any]) -> None:
    first = side(occurrence("A", event_type_id=1), occurrence("A", 7200, trigger="CANCELLED"))
    fields = {"event_type_id": 1, "minutes": WEEK, "seconds": 1} | other
    assert lives(first, side(occurrence("B", fields.pop("seconds"), trigger="CREATED", **fields)))[1] is Life.LIVE
