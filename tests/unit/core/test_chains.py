"""Chains of uids: what links them, and what is the one in force."""

from collections.abc import Sequence
from itertools import permutations

import pytest

from services.reconciler.core.events import HeardBooking
from services.reconciler.core.matching import link
from services.reconciler.core.sides import BookingSide, Life, life_of, uids
from tests.support.history import POLICY, calcom

RECALLED = calcom("CANCELLED", 60, reschedule_requested=True)


def chains(*events: HeardBooking) -> list[tuple[str, ...]]:
    """Give the chains that come of the events, whatever order their sides stand in."""
    sides: dict[str, BookingSide] = {}
    for event in sorted(events, key=lambda heard: heard.event.occurred_at):
        known = sides.get(event.event.uid)
        sides[event.event.uid] = BookingSide(event.event.uid, None, (*(known.heard if known else ()), event))
    found = [sorted(uids(chain) for chain in link(order, POLICY)) for order in permutations(sides.values())]
    assert all(one == found[0] for one in found)
    return found[0]


def test_strangers_are_chains_of_one() -> None:
    assert chains(calcom(uid="A"), calcom(uid="B")) == [("A",), ("B",)]


@pytest.mark.parametrize(
    "links",
    [
        [calcom(uid="A"), calcom("RESCHEDULED", 1, "B", parent="A"), calcom("RESCHEDULED", 2, "C", parent="B")],
        [calcom(uid="A", next_uid="B"), calcom(uid="B", seconds=1, next_uid="C"), calcom(uid="C", seconds=2)],
        [calcom(uid="A", booking_id=1), calcom(uid="B", seconds=1, booking_id=2, parent_id=1),
         calcom(uid="C", seconds=2, parent_id=2)],
        [calcom(uid="A"), calcom(uid="B", seconds=1, ical_uid="A@Cal.com"),
         calcom(uid="C", seconds=2, ical_uid="A@Cal.com")],
        # clocks that lie: links say more than times
        [calcom(uid="C", parent="B"), calcom(uid="B", seconds=1, parent="A"), calcom(uid="A", seconds=2)],
    ],
)  # fmt: skip
def test_a_chain_is_linked_in_any_of_these_ways(links: Sequence[HeardBooking]) -> None:
    assert chains(*links) == [("A", "B", "C")]


def test_two_uids_that_name_each_other_are_one_chain_in_the_order_of_their_times() -> None:
    assert chains(calcom(uid="A", parent="B"), calcom(uid="B", seconds=1, parent="A")) == [("A", "B")]


def test_what_was_made_in_place_of_a_recalled_booking_comes_after_it() -> None:
    assert chains(calcom(), RECALLED, calcom(uid="B", seconds=90)) == [("A", "B")]


@pytest.mark.parametrize(
    "other",
    [
        calcom(uid="B", seconds=30),  # made before
        calcom(uid="B", seconds=90, email="tom@example.com"),
        calcom(uid="B", seconds=90, event_type_id=2),
    ],
)
def test_what_was_not_made_in_its_place_stands_by_itself(other: HeardBooking) -> None:
    made = calcom(event_type_id=1)
    recalled = calcom("CANCELLED", 60, reschedule_requested=True, event_type_id=1)
    assert chains(made, recalled, other) == [("A",), ("B",)]


def test_where_two_could_have_taken_its_place_none_has() -> None:
    assert len(chains(calcom(), RECALLED, calcom(uid="B", seconds=90), calcom(uid="C", seconds=91))) == 3


def test_where_it_could_have_taken_the_place_of_two_it_has_of_none() -> None:
    other = [calcom(uid="X"), calcom("CANCELLED", 60, "X", reschedule_requested=True)]
    assert len(chains(calcom(), RECALLED, *other, calcom(uid="B", seconds=90))) == 3


def test_a_booking_that_was_moved_away_lives_on() -> None:
    side = BookingSide("A", None, (calcom(), calcom("CANCELLED", 60, next_uid="B")))
    assert life_of((side,)) is Life.LIVE
    assert uids((side,)) == ("A", "B")


@pytest.mark.parametrize(
    ("events", "life"),
    [
        ([calcom("PAYMENT_INITIATED")], Life.UNPAID),
        ([calcom("PAYMENT_INITIATED"), calcom("PAID", 1)], Life.LIVE),
        ([calcom("REQUESTED"), calcom("PAID", 1)], Life.PENDING),
        ([calcom("MEETING_STARTED")], Life.UNTOLD),
        ([calcom("CANCELLED"), calcom("MEETING_ENDED", 1)], Life.CANCELLED),
        ([calcom(), RECALLED], Life.RECALLED),
        ([calcom("REJECTED")], Life.CANCELLED),
    ],
)
def test_facts_change_nothing_but_a_payment_ends_the_wait_for_it(events: list[HeardBooking], life: Life) -> None:
    assert life_of((BookingSide("A", None, tuple(events)),)) is life
