"""The semantics as cases: the numbers are those of the scenarios that the project was specified by."""

from typing import Any

import pytest

from schemas.commands import Reopen, Resolve
from schemas.flags import FlagType, Kind, SyncStatus
from services.reconciler.core.events import Commanded, DeadlineReached, Event
from services.reconciler.core.matching import Rule
from services.reconciler.core.policy import Policy
from tests.support.history import Story, at, calcom, fold, local

LINKED: dict[str, Any] = {"calcom_booking_uid": "A"}


def kinds(story: Story) -> list[FlagType]:
    """Give the types of all flags, in order."""
    return [flag.type for flag in story.flags]


def test_01_an_appointment_and_its_booking_within_the_window_match_without_a_flag() -> None:
    story = fold([local(**LINKED), calcom(seconds=2)]).until(10_000)
    assert (story.record.status, story.record.rule, story.flags) == (SyncStatus.SYNCED, Rule.BOOKING, [])


def test_02_a_booking_that_comes_first_matches_as_well() -> None:
    story = fold([calcom(), local(seconds=2, **LINKED)]).until(10_000)
    assert (story.record.status, story.record.rule, story.flags) == (SyncStatus.SYNCED, Rule.BOOKING, [])


def test_03_an_appointment_alone_is_flagged_once_after_its_window() -> None:
    story = fold([local()]).until(10_000).until(20_000)
    assert story.record.status is SyncStatus.ORPHANED_LOCAL
    assert kinds(story) == [FlagType.ORPHANED_LOCAL]


def test_04_a_booking_alone_is_flagged_once_after_its_window() -> None:
    story = fold([calcom()]).until(10_000).until(20_000)
    assert story.record.status is SyncStatus.ORPHANED_CALCOM
    assert kinds(story) == [FlagType.ORPHANED_CALCOM]


@pytest.mark.parametrize(("known_until", "flags"), [(299.999, 0), (300.0, 0), (300.001, 1)])
def test_05_the_window_includes_its_last_moment(known_until: float, flags: int) -> None:
    story = fold([local(**LINKED)])
    story.tell(DeadlineReached(record_id=story.record.record_id, at=at(301), known_until=at(known_until)))
    assert len(story.flags) == flags
    story.tell(calcom(seconds=300))
    assert story.record.status is SyncStatus.SYNCED


def test_06_a_booking_after_the_flag_resolves_it_by_itself() -> None:
    story = fold([local(**LINKED)]).until(400).tell(calcom(seconds=500))
    raised, resolved = story.flags
    assert resolved.type is FlagType.RESOLVED
    assert resolved.resolves == raised.id
    assert (resolved.resolved_by, resolved.why.note) == ("auto", "late")
    assert (story.record.status, story.record.flag) == (SyncStatus.SYNCED, None)


def resolve(story: Story, seconds: float, reason: str = "not a booking") -> Commanded:
    """Give a command that resolves the story's only record as seen."""
    record = story.record
    command = Resolve(
        id=f"cmd-{seconds}", record_id=record.record_id, version=record.version, actor="Ada", issued_at=at(seconds),
        reason=reason,
    )  # fmt: skip
    return Commanded(at(seconds), command)


def test_07_what_a_human_resolved_stays_resolved_when_the_booking_comes() -> None:
    story = fold([local(**LINKED)]).until(400)
    story.tell(resolve(story, 500)).tell(calcom(seconds=600)).until(10_000)
    assert (story.record.status, story.record.flag) == (SyncStatus.SYNCED, None)
    assert kinds(story) == [FlagType.ORPHANED_LOCAL, FlagType.RESOLVED]
    assert story.decisions[-1].transitions[-1].note == "after a human decision"


def test_07_what_contradicts_a_human_decision_is_flagged_as_a_conflict() -> None:
    story = fold([local(**LINKED)]).until(400)
    story.tell(resolve(story, 500)).tell(calcom(seconds=600, minutes=90)).until(10_000)
    assert kinds(story) == [FlagType.ORPHANED_LOCAL, FlagType.RESOLVED, FlagType.DATA_MISMATCH]
    assert story.flags[-1].why.note == "conflict"


def test_08_the_same_webhook_three_times_changes_nothing() -> None:
    story = fold([local(**LINKED), calcom(seconds=2)])
    version = story.record.version
    story.tell(calcom(seconds=2, received=4), calcom(seconds=2, received=9))
    assert story.record.version == version
    assert [decision.repeat for decision in story.decisions[-2:]] == [True, True]


def test_10_a_newer_event_of_the_same_uid_counts_and_an_older_one_that_comes_later_does_not() -> None:
    story = fold([local(minutes=60, **LINKED), calcom(seconds=5, minutes=60), calcom(seconds=1, received=9)])
    assert story.until(10_000).record.status is SyncStatus.SYNCED


def test_11_a_cancel_that_comes_before_its_create_leaves_nothing_to_flag() -> None:
    story = fold([calcom("CANCELLED", seconds=9, received=1), calcom("CREATED", seconds=0, received=2)]).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])


@pytest.mark.parametrize("side", [local("cancelled", 9, **LINKED), calcom("CANCELLED", seconds=9)])
def test_12_a_cancel_on_one_side_only_is_a_mismatch_of_status(side: Event) -> None:
    story = fold([local(**LINKED), calcom(seconds=1), side]).until(10_000)
    assert kinds(story) == [FlagType.DATA_MISMATCH]
    assert [found.field for found in story.flags[0].inconsistencies] == ["status"]


def test_13_a_booking_that_was_moved_twice_stays_one_record_with_its_appointment() -> None:
    story = fold(
        [
            local(**LINKED),
            calcom(seconds=1),
            calcom("RESCHEDULED", 100, "B", parent="A", minutes=30),
            local("rescheduled", 101, minutes=30, **LINKED),
            calcom("RESCHEDULED", 200, "C", parent="B", minutes=60),
            local("rescheduled", 201, minutes=60, **LINKED),
        ]
    ).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])
    assert [side.uid for side in story.record.chain] == ["A", "B", "C"]


def test_14_a_reschedule_that_comes_before_its_original_is_stitched_to_it() -> None:
    story = fold(
        [
            local(minutes=30, **LINKED),
            calcom("RESCHEDULED", 100, "B", parent="A", minutes=30, received=1),
            calcom("CREATED", 0, "A", received=5),
        ]
    ).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])
    assert [side.uid for side in story.record.chain] == ["A", "B"]


def test_a_reschedule_whose_original_never_came_is_matched_by_the_old_uid() -> None:
    story = fold([local(minutes=30, **LINKED), calcom("RESCHEDULED", 100, "B", parent="A", minutes=30)]).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])


def test_17_a_seat_belongs_to_its_first_attendee() -> None:
    story = fold(
        [
            local(appointment="1", email="mia@example.com", **LINKED),
            local(appointment="2", email="tom@example.com", **LINKED),
            calcom(seconds=3, seat="mia@example.com"),
        ]
    ).until(10_000)
    found = {r.appointment.appointment_id: r.status for r in story.records if r.appointment}
    assert found == {"1": SyncStatus.SYNCED, "2": SyncStatus.ORPHANED_LOCAL}


def test_36_a_match_at_the_deadline_leaves_no_open_flag_whichever_comes_first() -> None:
    for first in (True, False):
        story = fold([local(**LINKED)])
        reached = DeadlineReached(record_id=story.record.record_id, at=at(301), known_until=at(301))
        story.tell(*((reached, calcom(seconds=300)) if first else (calcom(seconds=300), reached)))
        assert (story.record.status, story.record.flag) == (SyncStatus.SYNCED, None)
        assert len(story.flags) in (0, 2)


def test_a_metadata_key_matches_where_the_app_does_not_know_the_uid() -> None:
    story = fold([local(), calcom(seconds=2, appointment_id="4711")]).until(10_000)
    assert (story.record.status, story.record.rule) == (SyncStatus.SYNCED, Rule.METADATA)


def test_a_stronger_key_corrects_a_weaker_match() -> None:
    weak: list[Event] = [local(), calcom(seconds=1, uid="X", appointment_id="4711")]
    story = fold([*weak, local("updated", 5, calcom_booking_uid="Y"), calcom(seconds=6, uid="Y")])
    pairs = {r.chain[0].uid: r.rule for r in story.records if r.chain}
    assert pairs == {"X": None, "Y": Rule.BOOKING}


def test_two_living_appointments_that_claim_one_booking_are_left_to_a_human() -> None:
    story = fold([local(appointment="1", **LINKED), local(appointment="2", **LINKED), calcom(seconds=2)]).until(10_000)
    assert {r.status for r in story.records} == {SyncStatus.FAILED}
    assert {flag.kind for flag in story.flags} == {Kind.AMBIGUOUS_MATCH}
    assert story.flags[0].why.candidates == ("a:1", "a:2", "b:A")


def test_an_appointment_that_was_booked_anew_goes_with_the_living_booking() -> None:
    story = fold(
        [
            local(),
            calcom(seconds=1, uid="X", appointment_id="4711"),
            calcom("CANCELLED", 10, "X"),
            calcom(seconds=20, uid="Y", appointment_id="4711"),
        ]
    ).until(10_000)
    assert {r.status for r in story.records} == {SyncStatus.SYNCED}
    assert story.flags == []


@pytest.mark.parametrize("alone", [local("cancelled"), local("deleted"), calcom("CANCELLED"), calcom("REJECTED")])
def test_a_cancelled_side_that_stands_alone_is_no_orphan(alone: Event) -> None:
    story = fold([alone]).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])


def test_a_booking_whose_appointment_was_deleted_is_an_orphan_at_calcom() -> None:
    story = fold([local(**LINKED), calcom(seconds=1), local("deleted", 50, **LINKED)]).until(10_000)
    assert kinds(story) == [FlagType.ORPHANED_CALCOM]


def test_differing_starts_get_the_window_from_the_later_change() -> None:
    story = fold([local(**LINKED), calcom(seconds=1), local("rescheduled", 1000, minutes=30, **LINKED)])
    assert (story.record.status, story.record.deadline_at) == (SyncStatus.PENDING, at(1300))
    story.tell(calcom("RESCHEDULED", 1003, "B", parent="A", minutes=30)).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])


def test_a_side_that_repeats_itself_does_not_push_its_deadline() -> None:
    story = fold([local(), *(local("updated", seconds) for seconds in range(60, 300, 60))])
    assert story.record.deadline_at == at(300)


@pytest.mark.parametrize(("minutes", "status"), [(1, SyncStatus.SYNCED), (1.02, SyncStatus.FAILED)])
def test_a_minute_between_the_starts_is_no_difference(minutes: float, status: SyncStatus) -> None:
    assert fold([local(**LINKED), calcom(seconds=1, minutes=minutes)]).until(10_000).record.status is status


@pytest.mark.parametrize("status", ["scheduled", "confirmed", "completed", "no_show"])
def test_every_living_word_of_the_app_agrees_with_an_accepted_booking(status: str) -> None:
    assert fold([local(status=status, **LINKED), calcom(seconds=1)]).record.status is SyncStatus.SYNCED


def test_a_request_agrees_with_a_pending_appointment_and_has_a_window_of_its_own_otherwise() -> None:
    assert fold([local(status="pending", **LINKED), calcom("REQUESTED", 1)]).record.status is SyncStatus.SYNCED
    story = fold([calcom("REQUESTED", 1)], Policy(window_seconds=300, unconfirmed_window_seconds=3600)).until(3000)
    assert (story.record.status, story.flags) == (SyncStatus.PENDING, [])
    assert kinds(story.until(3700)) == [FlagType.ORPHANED_CALCOM]


def test_28_a_producers_clock_moves_no_deadline() -> None:
    three_days = 3 * 86_400
    assert fold([local(seconds=-three_days, received=10)]).record.deadline_at == at(310)
    assert fold([local(seconds=three_days, received=10)]).record.deadline_at == at(310)


def test_a_clock_far_ahead_does_not_win_over_what_follows() -> None:
    story = fold([local("updated", 86_400, received=1, **LINKED), local("cancelled", 3600, received=3600, **LINKED)])
    assert story.record.status is SyncStatus.SYNCED


def test_41_the_same_ids_in_two_companies_are_two_records() -> None:
    from services.reconciler.core.record import record_id  # noqa: PLC0415 - shown beside its use

    assert record_id("acme", "a:4711") != record_id("other", "a:4711")


def test_72_a_command_that_saw_an_older_version_is_refused_with_the_newer_one() -> None:
    story = fold([local()]).until(400)
    first, second = resolve(story, 500), resolve(story, 501)
    story.tell(first, second)
    outcomes = [decision.outcome for decision in story.decisions[-2:]]
    assert [o.reason for o in outcomes if o] == ["applied", "newer_version"]


def test_a_reopened_record_is_flagged_anew_under_the_next_number() -> None:
    story = fold([local()]).until(400)
    story.tell(resolve(story, 500))
    command = Reopen(
        id="cmd-2", record_id=story.record.record_id, version=story.record.version, actor="Ada", issued_at=at(600)
    )
    story.tell(Commanded(at(600), command)).until(700)
    assert [flag.generation for flag in story.flags if flag.type is FlagType.ORPHANED_LOCAL] == [1, 2]
    assert len({flag.id for flag in story.flags}) == len(story.flags)


def test_a_record_that_was_taken_in_and_stands_alone_again_numbers_its_flags_on() -> None:
    story = fold([local(seconds=5, appointment="1"), calcom(seconds=9, uid="X")]).until(1000)
    story.tell(local("updated", 1001, "1", received=1, calcom_booking_uid="X"))  # came late: the older side names it
    story.tell(local("updated", 1002, "1", calcom_booking_uid="Y"), calcom(seconds=1003, uid="Y")).until(5000)
    raised = [flag.id for flag in story.flags if flag.type is not FlagType.RESOLVED]
    assert len(set(raised)) == len(raised)


def test_a_restored_appointment_gets_a_window_of_its_own() -> None:
    story = fold([local("cancelled"), local("updated", 86_400)])
    assert story.record.deadline_at == at(86_700)


def test_a_move_that_the_app_tells_before_calcom_gives_both_sides_a_window_again() -> None:
    story = fold([local(**LINKED), calcom(seconds=1)])
    story.tell(local("rescheduled", 1000, minutes=30, calcom_booking_uid="B")).until(1299)
    assert story.flags == []
    story.tell(calcom("RESCHEDULED", 1290, "B", parent="A", minutes=30)).until(10_000)
    assert (story.record.status, story.flags) == (SyncStatus.SYNCED, [])
