"""Cal.com is asked before anybody is accused: scenarios 63 to 69, and 70 for the key, as the core sees them."""

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.commands import Resolve, Retry
from schemas.flags import FlagType, Kind, SyncStatus
from schemas.verification import Priority
from services.reconciler.core.events import Checked, Commanded
from services.reconciler.core.policy import Policy
from tests.support.history import POLICY, Story, at, calcom, checked, fold, local

LINKED: dict[str, Any] = {"calcom_booking_uid": "A"}
ASKS = Policy(window_seconds=300, verify=True)


def alone() -> Story:
    """Tell of an appointment whose booking nobody has heard of, until Cal.com is being asked."""
    return fold([local(**LINKED)], ASKS).until(301)


def kinds(story: Story) -> list[FlagType]:
    return [flag.type for flag in story.flags]


def retry(story: Story, seconds: float, *, sweep: bool = False, version: int | None = None) -> Commanded:
    record = story.record
    version = record.version if version is None else version
    return Commanded(
        at(seconds),
        Retry(id=f"r{seconds}", record_id=record.record_id, version=version, actor="Ada", issued_at=at(0), sweep=sweep),
    )


def answered(story: Story, verdict: str, seconds: float, **about: Any) -> Story:
    return story.tell(checked(story.record, verdict, seconds, **about))


def test_at_the_deadline_cal_com_is_asked_and_nobody_is_accused() -> None:
    story = alone()
    assert (story.record.status, story.flags) == (SyncStatus.VERIFICATION_PENDING, [])
    (question,) = story.questions
    assert (question.number, question.uid, question.subject) == (1, "A", "a:4711")
    assert (question.priority, question.not_before) == (Priority.DEADLINE, at(301))


def test_without_a_key_the_flag_comes_at_once_and_says_so() -> None:
    story = fold([local(**LINKED)], POLICY).until(301)
    assert [(flag.type, flag.verdict) for flag in story.flags] == [(FlagType.ORPHANED_LOCAL, "not_verified")]
    assert story.questions == []


def test_63_what_cal_com_does_not_know_twice_is_an_orphan() -> None:
    story = answered(alone(), "absent_once", 302)
    assert story.flags == []
    assert (story.questions[-1].number, story.questions[-1].not_before) == (2, at(333))
    assert story.questions[-1].absent_at == at(302)
    answered(story, "absent", 333).until(400)
    (flag,) = story.flags
    assert (flag.type, flag.verdict, flag.why.attempts) == (FlagType.ORPHANED_LOCAL, "absent", 2)
    assert (flag.why.observed_at, flag.why.answer) == (at(333), "absent")
    assert (story.record.status, story.record.round) == (SyncStatus.ORPHANED_LOCAL, None)


def test_63_the_flag_waits_until_everything_is_read_that_came_before_the_answer() -> None:
    story = answered(answered(alone(), "absent_once", 302), "absent", 333)
    story.until(333)
    assert (story.record.status, story.flags) == (SyncStatus.VERIFICATION_PENDING, [])


def test_64_a_booking_whose_webhook_never_came_heals_the_record() -> None:
    story = alone().tell(calcom("OBSERVED", 100, received=302, status="ACCEPTED"))
    answered(story, "found_equal", 302).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])
    assert [t.note for d in story.decisions for t in d.transitions][-1] == "webhook_lost"
    assert story.decisions[-2].questions == ((story.record.record_id, None),), "the question is taken back"


def test_67_what_says_nothing_is_asked_again_after_one_five_and_fifteen_minutes_then_a_human_has_to_look() -> None:
    story, seconds = alone(), 302
    for wait in (60, 300, 900):
        answered(story, "unknown", seconds, reason="timeout")
        assert story.questions[-1].not_before == at(seconds + wait)
        seconds += wait
    answered(story, "unknown", seconds, reason="timeout").until(seconds + 1)
    assert [(flag.type, flag.kind, flag.verdict) for flag in story.flags] == [
        (FlagType.VERIFICATION_ERROR, Kind.VERIFICATION_ERROR, "unknown")
    ]
    assert (story.record.status, len(story.record.attempts)) == (SyncStatus.FAILED, 4)


def test_67_a_record_that_nobody_answers_is_flagged_as_not_verified_after_the_longest_wait() -> None:
    story = alone().until(301 + 14_400)
    assert story.flags == []
    story.until(301 + 14_401)
    assert [(flag.type, flag.verdict) for flag in story.flags] == [(FlagType.ORPHANED_LOCAL, "not_verified")]
    assert story.decisions[-1].questions == ((story.record.record_id, None),)


def test_68_two_negative_answers_within_thirty_seconds_are_one() -> None:
    story = answered(alone(), "absent_once", 302)
    answered(story, "absent", 331).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.VERIFICATION_PENDING, [])
    answered(story, "absent", 333).until(10_001)
    assert kinds(story) == [FlagType.ORPHANED_LOCAL]


def test_68_an_absence_that_was_the_replicas_lag_accuses_nobody() -> None:
    story = answered(alone(), "absent_once", 302)
    story.tell(calcom("OBSERVED", 100, received=333, status="ACCEPTED"))
    answered(story, "found_equal", 333).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])


def test_a_webhook_that_comes_while_cal_com_is_asked_ends_the_question() -> None:
    story = alone().tell(calcom(seconds=310))
    assert (story.record.status, story.record.round) == (SyncStatus.SYNCED, None)
    assert story.decisions[-1].questions == ((story.record.record_id, None),)


def test_a_booking_that_cal_com_has_and_the_app_has_not_is_an_orphan_after_one_answer() -> None:
    story = fold([calcom()], ASKS).until(301)
    answered(story, "found_different", 302).until(400)
    assert [(flag.type, flag.verdict) for flag in story.flags] == [(FlagType.ORPHANED_CALCOM, "found_different")]


def test_a_booking_that_cal_com_does_not_know_any_more_is_nobodys_orphan() -> None:
    story = fold([calcom()], ASKS).until(301)
    answered(answered(story, "absent_once", 302), "absent", 333).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])


def test_an_appointment_whose_booking_cal_com_does_not_know_any_more_is_an_orphan() -> None:
    story = fold([local(**LINKED), calcom(minutes=30)], ASKS).until(301)
    answered(answered(story, "absent_once", 302), "absent", 333).until(10_000)
    assert [(flag.type, flag.verdict) for flag in story.flags] == [(FlagType.ORPHANED_LOCAL, "absent")]


def test_sides_that_differ_are_flagged_when_cal_com_says_that_they_do() -> None:
    story = fold([local(**LINKED), calcom(minutes=30)], ASKS).until(301)
    answered(story, "found_different", 302).until(400)
    assert [(flag.type, flag.verdict) for flag in story.flags] == [(FlagType.DATA_MISMATCH, "found_different")]


def test_what_the_api_shows_anew_has_its_window_before_it_counts_as_a_difference() -> None:
    """The booking was moved this very minute: the app's own event may be on its way."""
    story = alone().tell(calcom("OBSERVED", 300, received=302, minutes=60, status="ACCEPTED"))
    answered(story, "found_different", 302)
    assert (story.record.status, story.record.deadline_at) == (SyncStatus.PENDING, at(602))
    story.tell(local("rescheduled", 310, minutes=60, **LINKED)).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])


def test_an_answer_to_a_question_that_was_answered_changes_nothing() -> None:
    story = answered(alone(), "absent_once", 302)
    before = story.record
    answered(story, "absent", 340, number=1)
    assert story.record == before
    assert story.decisions[-1].repeat


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_the_order_of_answers_does_not_matter(order: tuple[int, ...]) -> None:
    asked = alone()
    answers = [
        checked(asked.record, "unknown", 302, number=1),
        checked(asked.record, "absent_once", 400, number=2),
        checked(asked.record, "absent", 431, number=3),
    ]
    story = asked.tell(*(answers[n] for n in order)).until(500)
    assert [(flag.type, flag.verdict) for flag in story.flags] == [(FlagType.ORPHANED_LOCAL, "absent")]


def test_a_human_asks_again_and_the_attempts_begin_anew() -> None:
    story = answered(answered(alone(), "absent_once", 302), "absent", 333).until(400)
    story.tell(retry(story, 1000))
    assert (story.record.status, story.record.attempts) == (SyncStatus.VERIFICATION_PENDING, [])
    assert story.record.flag is not None, "the flag stays open until the answer says otherwise"
    assert (story.questions[-1].priority, story.questions[-1].not_before) == (Priority.HUMAN, at(1000))
    answered(answered(story, "absent_once", 1001), "absent", 1032)
    assert (story.record.status, story.record.round) == (SyncStatus.ORPHANED_LOCAL, None)
    assert kinds(story) == [FlagType.ORPHANED_LOCAL], "nobody is told twice"


def test_what_a_human_asked_for_and_is_found_resolves_the_flag() -> None:
    story = answered(answered(alone(), "absent_once", 302), "absent", 333).until(400)
    story.tell(retry(story, 1000)).tell(calcom("OBSERVED", 900, received=1001, status="ACCEPTED"))
    answered(story, "found_equal", 1001).until(10_000)
    assert (story.record.status, story.record.flag) == (SyncStatus.SYNCED, None)
    assert kinds(story) == [FlagType.ORPHANED_LOCAL, FlagType.RESOLVED]


def test_what_could_not_be_asked_and_is_answered_later_is_flagged_for_what_it_is() -> None:
    story, seconds = alone(), 302
    for wait in (60, 300, 900, 0):
        answered(story, "unknown", seconds)
        seconds += wait
    story.until(seconds + 1).tell(retry(story, 5000, sweep=True))
    answered(answered(story, "absent_once", 5001), "absent", 5032).until(6000)
    assert kinds(story) == [FlagType.VERIFICATION_ERROR, FlagType.RESOLVED, FlagType.ORPHANED_LOCAL]
    assert story.record.status is SyncStatus.ORPHANED_LOCAL


def test_a_round_that_nobody_answers_leaves_the_flag_as_it_was() -> None:
    story = answered(answered(alone(), "absent_once", 302), "absent", 333).until(400)
    story.tell(retry(story, 1000)).until(1001 + 14_401)
    assert (story.record.status, story.record.round) == (SyncStatus.ORPHANED_LOCAL, None)
    assert kinds(story) == [FlagType.ORPHANED_LOCAL]


def test_a_retry_within_the_window_that_mends_nothing_leaves_the_window_as_it_was() -> None:
    story = fold([local(**LINKED)], ASKS)
    story.tell(retry(story, 10))
    answered(story, "absent_once", 11)
    assert (story.record.status, story.record.deadline_at) == (SyncStatus.PENDING, at(300))
    answered(answered(story.until(301), "absent_once", 302), "absent", 333).until(400)
    assert kinds(story) == [FlagType.ORPHANED_LOCAL]


@pytest.mark.parametrize(
    ("story", "command", "reason"),
    [
        (fold([local(**LINKED), calcom()], ASKS), {}, "nothing_to_check"),
        (fold([local(**LINKED)], POLICY), {}, "no_api_key"),
        (alone(), {"version": 99}, "newer_version"),
        (alone(), {"sweep": True}, "already_asking"),
    ],
)
def test_a_retry_that_cannot_be_is_refused(story: Story, command: dict[str, Any], reason: str) -> None:
    story.tell(retry(story, 1000, **command))
    outcome = story.decisions[-1].outcome
    assert outcome is not None
    assert (outcome.applied, outcome.reason) == (False, reason)


def test_a_sweep_asks_nothing_about_what_a_human_decided() -> None:
    story = answered(answered(alone(), "absent_once", 302), "absent", 333).until(400)
    record = story.record
    command = Resolve(id="c", record_id=record.record_id, version=record.version, actor="A", issued_at=at(0), reason="")
    story.tell(Commanded(at(500), command)).tell(retry(story, 600, sweep=True))
    assert story.decisions[-1].outcome is not None
    assert story.decisions[-1].outcome.reason == "resolved_by_hand"
    story.tell(retry(story, 700))
    assert (story.record.status, story.flags[-1].type) == (SyncStatus.VERIFICATION_PENDING, FlagType.RESOLVED)
    answered(answered(story, "absent_once", 701), "absent", 732).until(2000)
    assert (story.record.status, len(story.flags)) == (SyncStatus.ORPHANED_LOCAL, 2), "what was decided stays decided"


def test_70_a_key_that_is_taken_away_lets_what_waits_be_flagged_at_once() -> None:
    story = alone().under(POLICY, 400).until(401)
    assert [(flag.type, flag.verdict) for flag in story.flags] == [(FlagType.ORPHANED_LOCAL, "not_verified")]
    assert story.record.round is None


def test_two_who_could_be_meant_are_a_humans_question_and_none_for_cal_com() -> None:
    story = fold([local(), local(appointment="4712"), calcom()], ASKS).until(400)
    assert {flag.kind for flag in story.flags} == {Kind.AMBIGUOUS_MATCH}
    assert story.questions == []


def test_an_answer_goes_along_when_two_records_become_one() -> None:
    story = fold([calcom(), local(received=5)], Policy(window_seconds=300, verify=True, match_by_attendee=False))
    story.until(301)
    assert len(story.records) == 2
    lone = next(r for r in story.records if r.appointment)
    story.tell(checked(lone, "unknown", 302)).tell(local("updated", 310, **LINKED))
    (record,) = story.records
    assert (record.status, len(record.answers)) == (SyncStatus.SYNCED, 1)
    assert record.round is None


def test_what_is_older_than_the_record_says_nothing_until_both_sides_are_loaded() -> None:
    loading = Policy(window_seconds=300, verify=True, history_began_at=at(0))
    old = calcom("OBSERVED", -900, status="ACCEPTED", received=10, made_at=at(-86_400))
    story = fold([old, local("updated", 20, "4712", email="otto@example.com")], loading).until(10_000)
    assert {(r.status, r.deadline_at) for r in story.records} == {(SyncStatus.PENDING, None)}
    assert (story.flags, story.questions) == ([], [])
    story.under(ASKS, 20_000).until(20_001)
    assert {r.status for r in story.records} == {SyncStatus.VERIFICATION_PENDING}


def test_what_was_made_since_the_record_began_is_judged_as_ever() -> None:
    loading = Policy(window_seconds=300, history_began_at=at(-60))
    story = fold([local()], loading).until(400)
    assert kinds(story) == [FlagType.ORPHANED_LOCAL]


def test_a_booking_by_number_is_searched_for() -> None:
    story = fold([local(calcom_booking_id=77)], ASKS).until(301)
    (question,) = story.questions
    assert (question.uid, question.booking_id) == (None, 77)


def test_a_check_about_a_side_that_nobody_knows_changes_nothing() -> None:
    story = alone()
    stray = checked(story.record, "unknown", 302)
    answer = replace(stray.answer, id="x", subject="a:9999")
    story.tell(Checked(answer))
    assert story.decisions[-1].repeat


def test_17_a_seat_whose_webhook_never_came_is_found_by_asking() -> None:
    """Cal.com #7950: seats after the first told nobody."""
    first = local(appointment="1", email="p1@example.com", **LINKED)
    told = calcom("CREATED", 1, seat="p1@example.com", seat_id="s1", email="p1@example.com")
    story = fold([first, told, local(appointment="2", seconds=2, email="p2@example.com", **LINKED)], ASKS).until(400)
    (question,) = story.questions
    assert (question.subject, question.uid) == ("a:2", "A")
    seen: dict[str, Any] = {"status": "ACCEPTED", "received": 401}
    for who in ("p1", "p2"):
        email = f"{who}@example.com"
        story.tell(calcom("OBSERVED", 3, seat=email, seat_id=f"s-{who}", email=email, **seen))
    waiting = next(record for record in story.records if record.anchor == "a:2")
    story.tell(checked(waiting, "found_equal", 401, number=1)).until(20_000)
    assert {record.status for record in story.records} == {SyncStatus.SYNCED}
    assert story.flags == []


def test_a_cancel_that_only_a_poll_saw_is_a_difference_after_its_window_and_one_more_answer() -> None:
    """Of a series "this and the following" were called off: Cal.com tells of one."""
    story = fold([local(**LINKED), calcom(), calcom("OBSERVED", 1000, received=1100, status="CANCELLED")], ASKS)
    assert (story.record.status, story.record.deadline_at) == (SyncStatus.PENDING, at(1400))
    answered(story.until(1401), "cancelled", 1402).until(2000)
    assert [(flag.type, flag.verdict) for flag in story.flags] == [(FlagType.DATA_MISMATCH, "cancelled")]
