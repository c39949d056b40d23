"""What an answer of Cal.com's API becomes."""

from datetime import datetime
from typing import Any

import pytest

from schemas.bookings import Attendee, BookingEvent, BookingStatus
from services.reconciler.core.events import HeardBooking
from services.reconciler.decode import Undecodable, decode
from tests.support import builders as b


def observed(booking: object, **options: Any) -> list[BookingEvent]:
    """Decode what must be events of a booking."""
    found = decode(b.observed(b.observation(booking, **options)))
    assert all(type(one) is HeardBooking and one.received_at == b.NOW for one in found)
    return [one.event for one in found if isinstance(one, HeardBooking)]


def refused(content: object) -> Undecodable:
    """Decode what must be refused."""
    with pytest.raises(Undecodable) as caught:
        decode(b.observed(content))
    return caught.value


def test_a_full_answer_says_all_of_this() -> None:
    (event,) = observed(b.api_booking())
    assert event == BookingEvent(
        event_id=event.event_id,
        trigger="OBSERVED",
        occurred_at=b.NOW + b.HALF_AN_HOUR,
        uid="uid-1",
        status=BookingStatus.ACCEPTED,
        starts_at=b.STARTS_AT,
        ends_at=b.STARTS_AT + b.HALF_AN_HOUR,
        booking_id=4001,
        event_type_id=5150,
        appointment_id="4711",
        ical_uid="uid-1@Cal.com",
        made_at=b.NOW,
        title="Check-up",
        time_zone="Europe/Vienna",
        attendees=(Attendee(name="Nora Guest", email="nora.guest@example.org", phone="+493055501234"),),
    )


def test_only_the_type_of_the_envelope_makes_an_observation() -> None:
    told = b.decoded(b.from_calcom(b.observation(b.api_booking())))
    assert isinstance(told, HeardBooking)
    assert told.event.trigger == "UNNAMED"
    assert refused(b.booking_created()).reason == "invalid_observation"


@pytest.mark.parametrize(
    ("word", "status", "rank"),
    [
        ("accepted", BookingStatus.ACCEPTED, 2),
        ("pending", BookingStatus.PENDING, 1),
        ("awaiting_host", BookingStatus.AWAITING_HOST, 1),
        ("rejected", BookingStatus.REJECTED, 4),
        ("cancelled", BookingStatus.CANCELLED, 5),
        ("somewhere_else", None, 0),
        (None, None, 0),
    ],
)
def test_a_word_that_is_not_known_does_not_change_what_a_booking_is(
    word: str, status: BookingStatus | None, rank: int
) -> None:
    (event,) = observed(b.api_booking(status=word))
    assert event.status is status
    assert event.event_id.startswith(f"obs-{rank}-")


def test_an_answer_is_as_old_as_the_booking_and_else_as_the_question() -> None:
    """A row that was never changed is as old as its making."""
    untouched = b.api_booking(updatedAt=None)
    made_at = datetime.fromisoformat(untouched["createdAt"])
    assert observed(untouched, observed_at=b.STARTS_AT)[0].occurred_at == made_at
    timeless = b.api_booking(updatedAt=None, createdAt=None)
    assert observed(timeless, observed_at=b.STARTS_AT)[0].occurred_at == b.STARTS_AT
    assert observed(b.api_booking(), observed_at=b.STARTS_AT)[0].occurred_at == b.NOW + b.HALF_AN_HOUR


def test_asked_again_without_news_it_is_the_same_event() -> None:
    (first,), (second,) = observed(b.api_booking()), observed(b.api_booking(), observed_at=b.STARTS_AT)
    assert first == second
    assert observed(b.api_booking(title="Other"))[0].event_id != first.event_id


def test_a_booking_that_was_moved_names_what_it_came_from_and_where_it_went() -> None:
    (event,) = observed(b.api_booking("B", status="cancelled", rescheduledFromUid="A", rescheduledToUid="C"))
    assert (event.parent_uid, event.uid, event.next_uid) == ("A", "B", "C")
    (itself,) = observed(b.api_booking("B", rescheduledFromUid="B", rescheduledToUid="B"))
    assert (itself.parent_uid, itself.next_uid) == (None, None)


def test_every_seat_is_an_event_with_its_own_appointment() -> None:
    seats = [b.api_seat("seat-1", " A@example.org", {"appointment_id": "1"}), b.api_seat("seat-2", "b@example.org")]
    first, second = observed(b.api_booking(attendees=seats))
    assert [(one.seat, one.seat_id, one.appointment_id) for one in (first, second)] == [
        ("a@example.org", "seat-1", "1"),
        ("b@example.org", "seat-2", None),
    ]
    assert first.uid == second.uid
    assert first.event_id != second.event_id
    assert [len(one.attendees) for one in (first, second)] == [1, 1]


def test_a_seat_without_an_e_mail_is_named_by_its_id() -> None:
    (event,) = observed(b.api_booking(attendees=[{"name": "Nora", "seatUid": "seat-1"}]))
    assert event.seat == "seat-1"


def test_people_are_called_by_their_own_e_mail_and_known_by_phone() -> None:
    platform = {"email": "nora+cabc@example.org", "displayEmail": "nora@example.org"}
    made_up = {"email": "493055501234@sms.cal.com"}
    answers = {"attendeePhoneNumber": "+43 1"}
    first, second = observed(b.api_booking(attendees=[platform, made_up], bookingFieldsResponses=answers))[0].attendees
    assert (first.email, first.phone) == ("nora@example.org", "+43 1")
    assert second.phone == "+493055501234"


@pytest.mark.parametrize("over", [{"icsUid": "", "eventType": None, "metadata": None, "attendees": [], "hosts": []}])
def test_what_cal_com_leaves_empty_is_absent(over: b.Json) -> None:
    (event,) = observed(b.api_booking(**over))
    assert (event.ical_uid, event.appointment_id, event.attendees, event.time_zone) == (None, None, (), None)
    assert event.event_type_id == 5150


@pytest.mark.parametrize("over", [{"startTime": b.z(b.STARTS_AT)}, {"status": "ACCEPTED"}])
def test_an_answer_of_the_old_version_is_refused_and_the_header_is_named(over: b.Json) -> None:
    error = refused(b.observation(b.api_booking() | over))
    assert error.reason == "api_version"
    assert "cal-api-version: 2024-08-13" in error.detail


@pytest.mark.parametrize(
    ("content", "reason", "named"),
    [
        (b.observation(b.api_booking(uid=None)), "no_booking", "$.booking.uid"),
        (b.observation(b.api_booking(start="soon")), "invalid_time", "start"),
        (b.observation([]), "invalid_observation", "$.booking"),
        (b.observation(b.api_booking()) | {"observed_at": "soon"}, "invalid_observation", "$.observed_at"),
        (
            b.observation(b.api_booking(), observed_at=datetime.min.replace(tzinfo=b.NOW.tzinfo)),
            "invalid_observation",
            "",
        ),
        (
            b.observation(b.api_booking(attendees=[b.api_seat(str(n), "") for n in range(1001)])),
            "invalid_observation",
            "",
        ),
        (b"false", "invalid_observation", ""),
        (b'{"type": "observation"', "invalid_json", ""),
        (b"\xff", "invalid_text", ""),
    ],
)
def test_what_is_wrong_is_said(content: object, reason: str, named: str) -> None:
    error = refused(content)
    assert error.reason == reason
    assert named in error.detail


@pytest.mark.parametrize("escape", [b"\\u0000", b"\\ud800"])
def test_text_that_cannot_be_stored_is_refused(escape: bytes) -> None:
    body = b.body(b.observation(b.api_booking(title="@@here@@"))).replace(b"@@here@@", escape)
    assert refused(body).reason == "invalid_text"
