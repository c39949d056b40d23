"""In what two sides differ, and how long they may."""

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.flags import FlagType, Kind
from schemas.rules import COMPARED, Waiting
from services.reconciler.core.events import Event, PolicyChanged
from services.reconciler.core.policy import Policy
from tests.support.history import POLICY, Story, at, calcom, fold, local

LINKED: dict[str, Any] = {"calcom_booking_uid": "A"}
HOUR = 3600


def fields(story: Story) -> list[str]:
    finding = story.record.finding
    return [one.field for one in finding.inconsistencies] if finding else []


def told(story: Story) -> list[Kind]:
    return [flag.kind for flag in story.flags if flag.type is not FlagType.RESOLVED]


@pytest.mark.parametrize(
    ("appointment", "booking", "expected"),
    [
        ({}, {}, []),
        ({}, {"minutes": 5}, ["starts_at", "ends_at"]),
        ({}, {"lasts": 45}, ["ends_at"]),
        ({"event_type_id": 1}, {"event_type_id": 2}, ["event_type_id"]),
        ({"event_type_id": 1}, {}, []),
        ({"status": "pending"}, {}, ["status"]),
        ({"status": "pending"}, {"trigger": "REQUESTED"}, []),
        ({"status": "cancelled"}, {}, ["status"]),
        ({"status": "no_show"}, {"trigger": "CANCELLED", "lasts": 60}, ["ends_at", "status"]),
        ({"status": "cancelled"}, {"trigger": "CANCELLED", "minutes": 60}, []),
    ],
)
def test_what_differs_is_listed(appointment: dict[str, Any], booking: dict[str, Any], expected: list[str]) -> None:
    assert fields(fold([local(**LINKED, **appointment), calcom(**({"seconds": 1} | booking))])) == expected


@pytest.mark.parametrize("field", COMPARED)
def test_a_field_that_does_not_count_is_no_difference(field: str) -> None:
    sides: list[Event] = [local(event_type_id=1, **LINKED), calcom("CANCELLED", 1, minutes=5, event_type_id=2)]
    assert fields(fold(sides)) == list(COMPARED)
    assert field not in fields(fold(sides, replace(POLICY, compared=tuple(set(COMPARED) - {field}))))


def test_a_difference_says_both_values_as_instants() -> None:
    finding = fold([local(**LINKED), calcom(seconds=1, minutes=30)]).record.finding
    assert finding is not None
    starts = finding.inconsistencies[0]
    assert (starts.local, starts.calcom) == ("2026-12-01T08:00:00+00:00", "2026-12-01T08:30:00+00:00")


@pytest.mark.parametrize(("window_seconds", "flagged"), [(None, 301), (60.0, 61), (7200.0, 7201)])
def test_differing_sides_have_the_settling_window_from_the_last_change(
    window_seconds: float | None, flagged: int
) -> None:
    story = fold([local(**LINKED), calcom(seconds=1)], replace(POLICY, settling_window_seconds=window_seconds))
    story.tell(local("rescheduled", 1000, minutes=30, **LINKED)).until(999 + flagged)
    assert told(story) == []
    assert told(story.until(1000.5 + flagged)) == [Kind.DATA_MISMATCH]


WAITING = [
    calcom("REQUESTED"),
    calcom("PAYMENT_INITIATED"),
    calcom("CANCELLED", reschedule_requested=True),
]


@pytest.mark.parametrize("booking", WAITING)
def test_a_booking_that_waits_has_a_window_of_its_own(booking: Any) -> None:
    policy = Policy(window_seconds=300, unconfirmed_window_seconds=HOUR, unpaid_window_seconds=HOUR)
    story = fold([booking, local(seconds=1, **LINKED)], policy).until(HOUR)
    assert told(story) == []
    assert told(story.until(HOUR + 2)) == [Kind.DATA_MISMATCH]


@pytest.mark.parametrize(("waiting", "kinds"), [(Waiting.FLAG, [Kind.ORPHANED_CALCOM]), (Waiting.IGNORE, [])])
@pytest.mark.parametrize("trigger", ["REQUESTED", "PAYMENT_INITIATED"])
def test_a_company_says_whether_it_minds_a_booking_that_waits(
    trigger: str, waiting: Waiting, kinds: list[Kind]
) -> None:
    policy = Policy(unconfirmed_window_seconds=HOUR, unpaid_window_seconds=HOUR, unconfirmed=waiting, unpaid=waiting)
    assert told(fold([calcom(trigger)], policy).until(HOUR)) == []
    assert told(fold([calcom(trigger)], policy).until(HOUR + 1)) == kinds


def test_a_booking_that_is_confirmed_at_last_gets_the_usual_window_from_then_on() -> None:
    story = fold([calcom("REQUESTED")]).tell(calcom("CREATED", HOUR)).until(HOUR + 300)
    assert told(story) == []
    assert told(story.until(HOUR + 301)) == [Kind.ORPHANED_CALCOM]


def test_70_a_longer_window_gives_an_open_deadline_more_time_and_a_shorter_one_less() -> None:
    for window_seconds in (600.0, 60.0):
        story = fold([local(**LINKED)])
        assert story.record.deadline_at == at(300)
        assert _under(story, Policy(window_seconds=window_seconds)).record.deadline_at == at(window_seconds)


def _under(story: Story, policy: Policy) -> Story:
    """Let the company have other rules: they reach a record by its name, as the sweep does it."""
    story.policy = policy
    story.desk.fold("acme", PolicyChanged(at(10)), policy, 0, at(10), [], [("acme", story.record.record_id)])
    return story


def test_the_third_rung_that_is_switched_off_parts_what_it_had_matched() -> None:
    story = fold([local(), calcom(seconds=1)])
    assert story.record.rule is not None
    _under(story, replace(POLICY, match_by_attendee=False))
    assert sorted(record.rule is None for record in story.records) == [True, True]


def test_two_companies_have_nothing_in_common() -> None:
    story = Story()
    for company_id in ("acme", "other"):
        for event in (local(), calcom(seconds=1)):
            story.desk.fold(company_id, event, POLICY, 0, at(0))
    assert sorted((record.company_id, record.rule) for record in story.records) == [
        ("acme", "attendee"),
        ("other", "attendee"),
    ]
