"""How far a side is known to have been read: the truths of the design's section on time, as pure cases."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.reconciler.core.frontier import Contact, Reach, applied, contacted, known_until, proved
from tests.support.history import at

WELL = Contact(at(0))


def stall(contact: Contact, seconds: float) -> Contact:
    """Let the broker answer at a moment; 5 s of silence are a stall, 30 s its grace."""
    return contacted(contact, at=at(seconds), stall_seconds=5, grace_seconds=30)


def test_of_a_side_that_was_never_read_nothing_is_known() -> None:
    assert Reach().frontier is None
    assert Reach(position=7).frontier is None


def test_20_while_behind_the_frontier_is_the_append_time_of_the_last_event_applied() -> None:
    behind = applied(Reach(0), position=5, appended_at=at(10))
    for asked in (100, 3600, 7200):
        behind = proved(behind, end_offset=900, asked_at=at(asked), contact=WELL)
    assert behind.frontier == at(10)


def test_20_a_lagging_side_holds_a_pair_back_however_far_the_other_is() -> None:
    lagging = applied(Reach(0), position=5, appended_at=at(10))
    current = proved(Reach(8), end_offset=8, asked_at=at(7200), contact=WELL)
    assert known_until([current, lagging]) == at(10)


def test_20_once_caught_up_it_becomes_the_moment_at_which_the_end_was_asked_for() -> None:
    behind = applied(Reach(0), position=5, appended_at=at(10))
    caught_up = applied(behind, position=900, appended_at=at(7000))
    assert proved(caught_up, end_offset=900, asked_at=at(7201), contact=WELL).frontier == at(7201)


def test_21_partitions_know_nothing_of_each_other() -> None:
    reaches = {
        0: [Reach(3, at(10)), proved(Reach(8), end_offset=8, asked_at=at(900), contact=WELL)],
        1: [proved(Reach(n), end_offset=n, asked_at=at(900), contact=WELL) for n in (4, 9)],
    }
    assert {n: known_until(sides) for n, sides in reaches.items()} == {0: at(10), 1: at(900)}


def test_22_an_idle_side_that_is_proved_caught_up_is_read_until_the_proof() -> None:
    idle = applied(Reach(0), position=5, appended_at=at(-86_400))
    assert proved(idle, end_offset=5, asked_at=at(301), contact=WELL).frontier == at(301)


def test_22_an_empty_side_can_be_proved_as_well() -> None:
    assert proved(Reach(0), end_offset=0, asked_at=at(301), contact=WELL).frontier == at(301)


def test_23_without_an_answer_from_the_broker_it_stands_still() -> None:
    """Nobody calls `proved`: what was known stays, and grows no older or younger."""
    known = proved(Reach(5), end_offset=5, asked_at=at(100), contact=WELL)
    assert known.frontier == at(100)
    assert known_until([known, Reach()]) is None


def test_23_a_side_whose_position_is_unknown_proves_nothing() -> None:
    assert proved(Reach(), end_offset=0, asked_at=at(100), contact=WELL) == Reach()


def test_24_after_the_last_event_ever_proofs_go_on_without_it() -> None:
    silent = applied(Reach(0), position=1, appended_at=at(0))
    for asked in range(2, 400, 2):
        silent = proved(silent, end_offset=1, asked_at=at(asked), contact=WELL)
    assert silent.frontier == at(398)


def test_25_what_comes_after_the_question_is_not_proved_by_its_answer() -> None:
    asked = proved(Reach(5), end_offset=5, asked_at=at(299), contact=WELL)
    assert known_until([asked, asked]) == at(299), "a partner that comes at 300 is still in time"


def test_a_short_silence_is_no_stall() -> None:
    assert stall(WELL, 5) == Contact(at(5))


def test_after_a_stall_now_does_not_count_until_the_grace_is_over() -> None:
    contact = stall(WELL, 60)
    assert contact == Contact(at(60), at(90))
    reach = Reach(5, at(10))
    assert proved(reach, end_offset=5, asked_at=at(89.9), contact=contact).frontier == at(10)
    assert proved(reach, end_offset=5, asked_at=at(90), contact=contact).frontier == at(90)


def test_what_is_applied_in_the_grace_counts_by_its_own_time() -> None:
    """The spools that are being drained move the frontier; only "now" has to wait."""
    assert applied(Reach(5, at(10)), position=6, appended_at=at(70)).frontier == at(70)


def test_answers_within_the_grace_do_not_lengthen_it_and_a_second_stall_does() -> None:
    contact = stall(stall(WELL, 60), 62)
    assert contact == Contact(at(62), at(90))
    assert stall(contact, 70) == Contact(at(70), at(100))


def test_29_a_clock_that_steps_back_moves_no_frontier_back() -> None:
    known = proved(applied(Reach(0), position=5, appended_at=at(600)), end_offset=5, asked_at=at(600), contact=WELL)
    again = applied(known, position=6, appended_at=at(0))
    assert (again.position, again.frontier) == (6, at(600))
    assert proved(again, end_offset=6, asked_at=at(1), contact=WELL).frontier == at(600)


def test_29_a_clock_that_steps_back_is_no_stall() -> None:
    assert stall(Contact(at(600)), 0) == Contact(at(600))


def test_no_frontier_passes_the_oldest_envelope_that_waits_in_a_spool() -> None:
    sides = [proved(Reach(5), end_offset=5, asked_at=at(400), contact=WELL)] * 2
    assert known_until(sides, oldest_unsent_at=at(300)) == at(300) - timedelta(microseconds=1)
    assert known_until(sides, oldest_unsent_at=at(500)) == at(400)
    assert known_until(sides) == at(400)


def test_what_of_one_side_is_unknown_is_unknown_and_so_is_what_has_no_sides() -> None:
    assert known_until([Reach(1, at(5)), Reach(1)], oldest_unsent_at=at(1)) is None
    assert known_until([]) is None


moments = st.integers(-1000, 1000).map(at)
steps = st.lists(st.tuples(st.sampled_from(["applied", "proved"]), moments, st.integers(0, 3)), max_size=20)


@given(steps)
def test_a_frontier_never_goes_back(moves: list[tuple[str, datetime, int]]) -> None:
    reach = Reach(0)
    for move, moment, offsets in moves:
        before = reach
        if move == "applied":
            reach = applied(reach, position=(reach.position or 0) + offsets, appended_at=moment)
        else:
            reach = proved(reach, end_offset=(reach.position or 0) + offsets, asked_at=moment, contact=WELL)
        assert before.frontier is None or (reach.frontier is not None and reach.frontier >= before.frontier)
        behind = move == "proved" and offsets
        assert not behind or reach == before
