"""The law: any order and any repetition of the same events ends in the same record."""

import random
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reconciler.core.events import DeadlineReached, Heard, event_id
from services.reconciler.core.matching import name_of, sides_of
from services.reconciler.core.policy import Policy
from tests.support.history import Story, at, calcom, ending, essence, fold, local, repeated
from tests.support.letters import histories, policies

LINKED: dict[str, Any] = {"calcom_booking_uid": "A"}

#: Short histories, each with a sentence. All orders of each are tried: up to 720.
HISTORIES: dict[str, Sequence[Heard]] = {
    "made on both sides, cancelled on both": [
        local(**LINKED),
        calcom(seconds=1),
        local("cancelled", 50, **LINKED),
        calcom("CANCELLED", 51),
    ],
    "moved twice at Cal.com, followed by the app": [
        local(**LINKED),
        calcom(seconds=1),
        calcom("RESCHEDULED", 100, "B", parent="A", minutes=30),
        local("rescheduled", 101, minutes=30, calcom_booking_uid="B"),
        calcom("RESCHEDULED", 200, "C", parent="B", minutes=60),
        local("rescheduled", 202, minutes=60, calcom_booking_uid="C"),
    ],
    "requested, confirmed, moved, cancelled on one side": [
        local(status="pending"),
        calcom("REQUESTED", 1, appointment_id="4711"),
        calcom("CREATED", 60),
        local("updated", 61, **LINKED),
        calcom("RESCHEDULED", 90, "B", parent="A", minutes=15),
        calcom("CANCELLED", 120, "B"),
    ],
    "booked anew under the same appointment": [
        local(),
        calcom(seconds=1, uid="X", appointment_id="4711"),
        calcom("CANCELLED", 10, "X"),
        calcom(seconds=20, uid="Y", appointment_id="4711"),
        local("updated", 21, calcom_booking_uid="Y"),
    ],
    "a weak match that a strong key corrects": [
        local(),
        calcom(seconds=1, uid="X", appointment_id="4711"),
        local("updated", 5, calcom_booking_uid="Y"),
        calcom(seconds=6, uid="Y"),
        local(seconds=7, appointment="4712", calcom_booking_uid="X"),
    ],
    "two appointments that claim one booking": [
        local(appointment="1", **LINKED),
        local(seconds=1, appointment="2", **LINKED),
        calcom(seconds=2),
        local("cancelled", 30, "2", **LINKED),
    ],
    "a booking that links two strangers by its numbers": [
        local(appointment="1", calcom_booking_id=7),
        calcom(seconds=1, uid="A", booking_id=7),
        calcom("RESCHEDULED", 2, "B", booking_id=8, parent_id=7, minutes=5),
        local("rescheduled", 3, "1", minutes=5, calcom_booking_id=8),
        local(seconds=4, appointment="2", calcom_booking_uid="Z"),
        calcom(seconds=5, uid="Z"),
    ],
    "seats of one booking": [
        local(appointment="1", email="mia@example.com", **LINKED),
        local(seconds=1, appointment="2", email="tom@example.com", **LINKED),
        calcom(seconds=2, seat="mia@example.com"),
        calcom(seconds=3, seat="tom@example.com"),
        calcom("CANCELLED", 60, seat="tom@example.com"),
    ],
    "equal times": [
        local(seconds=0, id="evt-a", **LINKED),
        local("updated", 0, id="evt-b", minutes=30, **LINKED),
        local("cancelled", 0, id="evt-c", **LINKED),
        calcom(seconds=0),
    ],
    "deleted and restored": [
        local(**LINKED),
        calcom(seconds=1),
        local("deleted", 30, **LINKED),
        local("updated", 60, **LINKED),
        local("updated", 61, **LINKED),
    ],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_every_order_of_a_short_history_ends_in_the_same_record(name: str) -> None:
    history = HISTORIES[name]
    expected = essence(fold(history))
    expected_end = ending(fold(history).until(1e6))
    for order in permutations(history):
        story = fold(order)
        assert essence(story) == expected, [event.event for event in order]
        assert ending(story.until(1e6)) == expected_end


@pytest.mark.parametrize("name", HISTORIES)
def test_a_deadline_in_between_never_changes_the_ending(name: str) -> None:
    history = HISTORIES[name]
    expected = ending(fold(history).until(1e6))
    for order in permutations(history) if len(history) < 6 else [history, history[::-1]]:
        for cut in range(1, len(order)):
            story = fold(order[:cut]).until(5e5).tell(*order[cut:]).until(1e6)
            assert ending(story) == expected


def test_of_a_side_that_says_more_than_is_kept_the_same_is_kept_in_every_order() -> None:
    long: list[Heard] = [calcom(appointment_id="4711")]
    long += [calcom("RESCHEDULED", at_, minutes=at_) for at_ in range(1, 50)]
    long += [local("updated", at_, minutes=at_) for at_ in range(60)]
    expected = essence(fold(long))
    chance = random.Random(0)
    for order in (chance.sample(long, len(long)) for _ in range(30)):
        assert essence(fold(order)) == expected
        assert essence(fold([*order, *chance.sample(long, 40)])) == expected


@given(histories(14).flatmap(lambda events: st.tuples(st.just(events), st.permutations(events))), policies())
def test_order_does_not_matter_for_long_histories(orders: tuple[list[Heard], list[Heard]], policy: Policy) -> None:
    one, other = orders
    assert essence(fold(one, policy)) == essence(fold(other, policy))
    assert ending(fold(one, policy).until(1e6)) == ending(fold(other, policy).until(1e6))


@given(histories(), policies(), st.data())
def test_repetition_does_not_matter(history: list[Heard], policy: Policy, data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(history), max_size=10))
    mixed = data.draw(st.permutations([*history, *(repeated(event, later=9) for event in again)]))
    assert essence(fold(mixed, policy)) == essence(fold(history, policy))


@given(histories(), policies(), st.data())
def test_deadlines_anywhere_never_change_the_ending(history: list[Heard], policy: Policy, data: st.DataObject) -> None:
    story = Story(policy)
    for event in data.draw(st.permutations(history)):
        story.tell(event)
        if data.draw(st.booleans()):
            story.until(1e6)
    assert ending(story.until(1e6)) == ending(fold(history, policy).until(1e6))
    ids = [flag.id for flag in story.flags]
    assert len(set(ids)) == len(ids)


@given(histories(12), policies())
def test_no_event_is_lost_and_no_side_stands_in_two_records(history: list[Heard], policy: Policy) -> None:
    records = fold(history, policy).records
    names = [name_of(side) for record in records for side in sides_of(record)]
    assert len(set(names)) == len(names)
    kept = {event_id(heard) for record in records for side in sides_of(record) for heard in side.heard}
    assert {event_id(event) for event in history} <= kept


@given(histories(12), policies())
def test_what_is_settled_once_is_settled(history: list[Heard], policy: Policy) -> None:
    story = fold(history, policy)
    before = story.laid()
    for record in story.records:
        story.tell(DeadlineReached(record_id=record.record_id, at=at(0), known_until=at(-1e6)))
    assert story.laid() == before
