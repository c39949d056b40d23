"""Every history of the table ends as a practice would expect it to, in every order of arrival, whatever repeats.

The orders are walked, not sampled: after each set of events stand all the desks that any order of these can leave, and
from each of them every further event is told. Two orders that left the same desk go on as one, for what comes next is
a function of the desk. `python -m tests.property.test_histories 7` goes one by one through all permutations of up to
seven events instead, each also with every event repeated: a quarter of an hour.
"""

import itertools
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Final

import pytest
from msgspec.structs import replace

from schemas.flags import FlagType, Kind
from services.reconciler.core.events import Heard
from services.reconciler.core.matching import name_of, sides_of
from services.reconciler.core.policy import Policy
from tests.property.histories import TABLE
from tests.property.shapes import CELLS
from tests.property.telling import End, Row, end_of
from tests.support.history import Story, essence, fold, repeated

#: A moment after every deadline of the table.
FAR: Final = 1e7
#: Orders of up to so many events are all walked.
WALKED: Final = 8
ROWS: Final = TABLE | CELLS
AMBIGUOUS: Final = Kind.AMBIGUOUS_MATCH
RUNGS: Final = (True, False)
EVERY = pytest.mark.parametrize("says", ROWS)


def rules(row: Row, rung: bool) -> Policy:  # noqa: FBT001 - the third rung is on or off
    return replace(row.policy, match_by_attendee=rung)


def ends(story: Story) -> frozenset[End]:
    """Give how the records end when every deadline has fired."""
    return frozenset(end_of(record) for record in story.until(FAR).records)


def walk(events: Sequence[Heard], policy: Policy) -> list[Story]:
    """Give every desk that any order of the events can leave. Any of them again, at any place, leaves it as it is."""
    left: dict[frozenset[int], list[Story]] = {frozenset(): [Story(policy)]}
    for size in range(len(events)):
        for told in map(frozenset, itertools.combinations(range(len(events)), size)):
            for story in left.pop(told):
                again = story.copy().tell(*(repeated(events[one], later=9) for one in sorted(told)))
                assert again.laid() == story.laid()
                for one in set(range(len(events))) - told:
                    new = story.copy().tell(events[one])
                    desks = left.setdefault(told | {one}, [])
                    if all(new.laid() != desk.laid() for desk in desks):
                        desks.append(new)
    (stories,) = left.values()
    return stories


def shuffles(events: Sequence[Heard], count: int) -> Iterable[list[Heard]]:
    chance = random.Random(len(events))
    return (chance.sample(events, len(events)) for _ in range(count))


@EVERY
def test_a_history_ends_as_expected(says: str) -> None:
    row = ROWS[says]
    assert ends(fold(row.events, row.policy)) == row.ends


@EVERY
def test_a_history_ends_as_expected_with_the_third_rung_off(says: str) -> None:
    row = ROWS[says]
    assert ends(fold(row.events, rules(row, rung=False))) == row.off


@EVERY
def test_as_time_passes_no_flag_is_raised_but_the_expected(says: str) -> None:
    row = ROWS[says]
    story = Story(row.policy).live(row.events, FAR)
    raised = [flag.kind for flag in story.flags if flag.type is not FlagType.RESOLVED]
    assert Counter(raised) == Counter(row.flags)
    assert ends(story) == row.ends
    open_flags = [record for record in story.records if record.flag is not None]
    assert len(raised) - len([f for f in story.flags if f.type is FlagType.RESOLVED]) == len(open_flags)


@pytest.mark.parametrize("says", [says for says, row in TABLE.items() if row.corrected])
def test_the_timeline_says_that_a_stronger_key_corrected_a_match(says: str) -> None:
    row = TABLE[says]
    story = Story(row.policy).live(row.events, FAR)
    assert "corrected" in [told.note for decision in story.decisions for told in decision.transitions]


@EVERY
def test_every_order_of_a_history_ends_in_the_same_records(says: str) -> None:
    row = ROWS[says]
    for policy in (rules(row, rung) for rung in RUNGS):
        expected = essence(fold(row.events, policy))
        outcome = ends(fold(row.events, policy))
        if len(row.events) <= WALKED:
            for story in walk(row.events, policy):
                assert essence(story) == expected
                assert ends(story) == outcome
        for order in shuffles(row.events, 3 if len(row.events) <= WALKED else 30):
            assert essence(fold([*order, *order], policy)) == expected


@EVERY
def test_a_deadline_in_between_never_changes_the_ending(says: str) -> None:
    row = ROWS[says]
    chance = random.Random(says)
    for policy in (rules(row, rung) for rung in RUNGS):
        expected = ends(fold(row.events, policy))
        for order in shuffles(row.events, 10):
            story = Story(policy)
            for event in order:
                story.tell(event)
                if chance.random() < 0.5:
                    story.until(FAR)
            assert ends(story) == expected
            assert_numbered_once(story)


@pytest.mark.parametrize("says", [says for says, row in TABLE.items() if AMBIGUOUS in row.flags])
def test_between_which_a_human_has_to_choose_is_all_listed(says: str) -> None:
    story = fold(TABLE[says].events)
    unclear = [record for record in story.records if record.candidates]
    names = {name_of(side) for record in unclear for side in sides_of(record)}
    assert all(set(record.candidates) == names for record in unclear)


def assert_numbered_once(story: Story) -> None:
    """No flag is raised twice under one id; only what was raised is resolved, once."""
    ids = [flag.id for flag in story.flags]
    assert len(set(ids)) == len(ids)
    resolved = [flag.resolves for flag in story.flags if flag.type is FlagType.RESOLVED]
    assert len(set(resolved)) == len(resolved)
    assert set(resolved) <= set(ids)


def one_by_one(says: str, row: Row, rung: bool) -> int:  # noqa: FBT001
    """Fold every permutation from nothing, each also with every event repeated. Gives how many."""
    policy = rules(row, rung)
    expected, outcome = essence(fold(row.events, policy)), row.ending(policy)
    tried = 0
    for order in permutations(row.events):
        twice = [one for event in order for one in (event, repeated(event, later=9))]
        for story in (fold(order, policy), fold(twice, policy), fold([*order, *order], policy)):
            assert essence(story) == expected, f"{says}: {[event.event for event in order]}"
            assert ends(story) == outcome, says
        tried += 1
    return tried


def main(most: int) -> None:
    """Go through all permutations of all histories of up to so many events, one by one."""
    for says, row in ROWS.items():
        if len(row.events) <= most:
            tried = sum(one_by_one(says, row, rung) for rung in RUNGS)
            sys.stdout.write(f"{tried:>6} orders: {says}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
