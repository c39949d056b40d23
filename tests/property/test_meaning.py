"""What must not matter to a record, whatever its history: facts, webhooks that are registered twice, other people."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.reconciler.core.events import Heard, HeardBooking
from services.reconciler.core.matching import Rule
from services.reconciler.core.policy import Policy
from tests.property.telling import end_of
from tests.support.history import calcom, fold, local
from tests.support.letters import histories, policies


def ends(history: list[Heard], policy: Policy) -> dict[Any, Any]:
    return {record.record_id: end_of(record) for record in fold(history, policy).until(1e7).records}


@given(histories(8), policies(), st.sampled_from(["NO_SHOW_UPDATED", "MEETING_STARTED"]))
def test_a_fact_of_a_booking_whose_state_is_known_changes_no_ending(
    history: list[Heard], policy: Policy, trigger: str
) -> None:
    told = {
        (heard.event.uid, heard.event.seat)
        for heard in history
        if isinstance(heard, HeardBooking) and heard.event.status is not None and not heard.event.seats
    }
    facts = [calcom(trigger, 500, uid, seat=seat, email=None) for uid, seat in sorted(told, key=str)]
    assert ends([*history, *facts], policy) == ends(history, policy)


def _again(heard: Heard) -> Heard:
    """The same said once more under another id, some milliseconds later: the webhook is registered twice."""
    later = timedelta(milliseconds=0.5)
    event: Any = heard.event
    name = "event_id" if isinstance(heard, HeardBooking) else "id"
    changes = {name: f"{getattr(event, name)}-again", "occurred_at": event.occurred_at + later}
    return replace(heard, received_at=heard.received_at + later, event=replace(event, **changes))


@given(histories(7), policies())
def test_a_webhook_that_is_registered_twice_changes_no_ending(history: list[Heard], policy: Policy) -> None:
    twice = [*history, *(_again(heard) for heard in history if isinstance(heard, HeardBooking))]
    assert ends(twice, policy) == ends(history, policy)


@given(histories(8), policies())
def test_another_persons_appointment_and_booking_change_no_ending(history: list[Heard], policy: Policy) -> None:
    others: list[Heard] = [
        local(seconds=5, appointment="other", email="eve@example.com", calcom_booking_uid="E"),
        calcom(seconds=6, uid="E", email="eve@example.com"),
    ]
    with_others = ends([*history, *others], policy)
    assert ends(history, policy).items() <= with_others.items()
    assert len(with_others) == len(ends(history, policy)) + 1


@given(histories(8), policies())
def test_with_the_third_rung_off_nobody_is_matched_by_person(history: list[Heard], policy: Policy) -> None:
    off = replace(policy, match_by_attendee=False)
    assert Rule.ATTENDEE not in {record.rule for record in fold(history, off).records}


@given(histories(8), policies())
def test_what_a_strong_key_matches_needs_no_third_rung(history: list[Heard], policy: Policy) -> None:
    def strong(rung: bool) -> set[Any]:  # noqa: FBT001
        rules = replace(policy, match_by_attendee=rung)
        return {e for e in ends(history, rules).values() if e.rule in (Rule.BOOKING, Rule.METADATA)}

    assert strong(True) == strong(False)  # noqa: FBT003
