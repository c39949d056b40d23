"""What each field of a booking's payload becomes, in all the shapes in which Cal.com has been seen to send it."""

from datetime import UTC, datetime

import pytest

from schemas.bookings import Attendee, BookingEvent, BookingStatus, Scope
from services.reconciler.core.events import HeardBooking
from services.reconciler.decode import Undecodable
from tests.support import builders as b
from tests.support.builders import from_calcom

JUNK: list[object] = [None, False, True, "junk", 17, 1.5, [], {}, [[]], {"a": 1}]


def booking(body: b.Json) -> BookingEvent:
    """Decode what must be an event of a booking."""
    decoded = b.decoded(from_calcom(body))
    assert isinstance(decoded, HeardBooking)
    return decoded.event


def test_a_full_body_says_all_of_this() -> None:
    event = booking(b.booking_created(metadata={"appointment_id": "4711"}))
    assert event == BookingEvent(
        event_id=event.event_id,
        trigger="BOOKING_CREATED",
        occurred_at=b.NOW,
        uid="uid-1",
        status=BookingStatus.ACCEPTED,
        starts_at=b.STARTS_AT,
        ends_at=b.STARTS_AT + b.HALF_AN_HOUR,
        booking_id=4001,
        event_type_id=5150,
        appointment_id="4711",
        ical_uid="uid-1@Cal.com",
        title="Check-up between Dr. Kim Vale and Nora Guest",
        time_zone="Europe/Vienna",
        attendees=(Attendee(name="Nora Guest", email="nora.guest@example.org", phone="+493055501234"),),
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b.booking_created(), "ACCEPTED"),
        (b.booking_created(status=None), "ACCEPTED"),
        (b.booking_created(status="SOMETHING_NEW"), "ACCEPTED"),
        (b.booking_created(status="CANCELLED"), "CANCELLED"),
        (b.booking_created(status="pending"), "PENDING"),
        (b.booking_created(status="awaiting_host"), "AWAITING_HOST"),
        (b.booking_rescheduled(status=7), "ACCEPTED"),
        (b.booking_rescheduled(status="PENDING"), "PENDING"),
        (b.booking_requested(), "PENDING"),
        (b.booking_requested(status=None), "PENDING"),
        (b.booking_requested(status="ACCEPTED"), "ACCEPTED"),
        (b.booking_rejected(status="PENDING"), "REJECTED"),
        (b.booking_cancelled(status="ACCEPTED"), "CANCELLED"),
        (b.booking_cancelled(status=None, requestReschedule=True), "CANCELLED"),
    ],
)
def test_the_status_is_the_payloads_unless_the_trigger_is_final(body: b.Json, status: str) -> None:
    assert booking(body).status == status


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-09T14:00:00Z",
        "2026-03-09T14:00:00.000Z",
        "2026-03-09T14:00:00+00:00",
        "2026-03-09T15:00:00+01:00",
        "2026-03-09T15:00+0100",
        "2026-03-08T23:15:00-14:45",
        "2026-03-09T14:00:00",
        "2026-03-09 14:00:00Z",
        "2026-03-09T15:00:00+01:00[Europe/Berlin]",
        "2026-03-09t14:00:00,000000000z",
        "2026-03-09T13:59:60Z",
        "2026-03-08T24:00:00-14:00",
    ],
)
def test_every_way_to_write_an_instant_is_the_same_instant_in_utc(text: str) -> None:
    event = booking(b.booking_created(startTime=text) | {"createdAt": text})
    assert event.starts_at == event.occurred_at == b.STARTS_AT
    assert event.starts_at.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-31T23:59:61Z",
        "2026-12-31T24:00:01Z",
        "9999-12-31T24:00:00Z",
        "2026-03-09T15:00:00[Europe/Berlin]",
        "2026-02-30T10:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-03-09T14:00:00+25:00",
        "Mon Mar 09 2026 14:00:00 GMT+0000",
        "soon",
        "\N{ARABIC-INDIC DIGIT TWO}026-03-09T14:00:00Z",
    ],
)
@pytest.mark.parametrize("field", ["startTime", "endTime"])
def test_a_text_that_is_no_time_is_refused_and_named(field: str, text: str) -> None:
    with pytest.raises(Undecodable, match="invalid_time") as caught:
        booking(b.having(b.booking_created(), **{field: text}))
    assert caught.value.detail.startswith(field)


def test_a_created_at_that_is_no_time_is_refused() -> None:
    with pytest.raises(Undecodable, match="createdAt"):
        booking(b.booking_created() | {"createdAt": "yesterday"})


@pytest.mark.parametrize("value", [None, 1767225600, False, "", {}])
def test_without_created_at_the_receipt_is_the_time_of_the_event(value: object) -> None:
    decoded = b.decoded(from_calcom(b.booking_created() | {"createdAt": value}, received_at=b.STARTS_AT))
    assert isinstance(decoded, HeardBooking)
    assert decoded.event.occurred_at == b.STARTS_AT


def test_leap_years_and_midnights_are_kept() -> None:
    event = booking(b.booking_created(startTime="2028-02-29T23:59:59.999999+00:00"))
    assert event.starts_at == datetime(2028, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize("field", sorted(b.booking_rescheduled()["payload"].keys() - {"uid", "startTime", "endTime"}))
def test_a_field_of_the_wrong_type_loses_no_event(field: str, junk: object) -> None:
    plain, odd = booking(b.booking_rescheduled()), booking(b.having(b.booking_rescheduled(), **{field: junk}))
    assert (odd.uid, odd.starts_at, odd.occurred_at) == (plain.uid, plain.starts_at, plain.occurred_at)


@pytest.mark.parametrize("junk", [None, False, 17, [], {}], ids=repr)
def test_a_time_of_the_wrong_type_is_absent(junk: object) -> None:
    event = booking(b.booking_created(startTime=junk))
    assert (event.starts_at, event.ends_at) == (None, b.STARTS_AT + b.HALF_AN_HOUR)


def test_a_text_of_digits_is_a_number() -> None:
    event = booking(b.booking_rescheduled(bookingId="12", eventTypeId="13", rescheduleId="14"))
    assert (event.booking_id, event.event_type_id, event.parent_id) == (12, 13, 14)


@pytest.mark.parametrize("value", ["4001a", "\N{ARABIC-INDIC DIGIT TWO}", "-1", "9" * 20, 4001.0, True, None, 2**63])
def test_a_number_that_is_none_or_too_large_is_absent(value: object) -> None:
    event = booking(b.booking_rescheduled(bookingId=value, eventTypeId=value, rescheduleId=value))
    assert (event.booking_id, event.event_type_id, event.parent_id) == (None, None, None)


@pytest.mark.parametrize(
    ("metadata", "appointment_id"),
    [
        ({"appointment_id": "4711"}, "4711"),
        ({"appointmentId": "4711"}, "4711"),
        ({"appointment_id": 4711}, "4711"),
        ({"appointment_id": "a", "appointmentId": "b"}, "a"),
        ({"appointment_id": None, "appointmentId": "b"}, "b"),
        ({"appointment_id": "x" * 200}, "x" * 200),
        ({"appointment_id": "x" * 201}, None),
        ({"appointment_id": int("9" * 201)}, None),
        ({"appointment_id": ""}, None),
        ({"appointment_id": True}, None),
        ({"appointment_id": 4711.0}, None),
        ({"appointment_id": ["4711"]}, None),
        ({"videoCallUrl": "https://meet.example.org"}, None),
        ("appointment_id", None),
        (None, None),
    ],
)
def test_the_apps_own_id_is_read_from_the_metadata(metadata: object, appointment_id: str | None) -> None:
    raw = b.body(b.having(b.booking_created(), metadata=metadata))
    if metadata == {"appointment_id": int("9" * 201)}:  # the encoder writes such a number as text
        raw = raw.replace(b'"' + b"9" * 201 + b'"', b"9" * 201)
    decoded = b.decoded(from_calcom(raw))
    assert isinstance(decoded, HeardBooking)
    assert decoded.event.appointment_id == appointment_id


def test_a_move_names_the_booking_that_it_replaces() -> None:
    event = booking(b.booking_rescheduled("uid-2", old_uid="uid-1", booking_id=2, old_booking_id=1))
    assert (event.uid, event.booking_id, event.parent_uid, event.parent_id) == ("uid-2", 2, "uid-1", 1)


def test_a_seated_booking_that_moves_in_place_is_not_its_own_parent() -> None:
    event = booking(b.booking_rescheduled("uid-1", old_uid="uid-1", booking_id=4001, old_booking_id=4001))
    assert (event.parent_uid, event.parent_id) == (None, None)


def test_a_confirmation_is_an_accepted_booking_without_the_apps_id() -> None:
    event = booking(b.confirmed_later(metadata=None))
    assert (event.status, event.appointment_id, event.ical_uid) == (BookingStatus.ACCEPTED, None, None)
    assert event.starts_at == b.STARTS_AT


def test_a_seat_is_named_by_its_holder_when_taken_and_when_left() -> None:
    taken = booking(b.seat_taken(email=" Nora.Guest@Example.org ", seat_id="seat-7"))
    left = booking(b.seat_left(email="nora.guest@example.org"))
    assert taken.seat == left.seat == "nora.guest@example.org"
    assert taken.attendees[0].email == " Nora.Guest@Example.org "


def test_two_seats_of_one_booking_are_two_seats() -> None:
    assert booking(b.seat_taken(email="a@example.org")).seat != booking(b.seat_taken(email="b@example.org")).seat


@pytest.mark.parametrize(
    ("over", "seat"),
    [
        ({"seatsPerTimeSlot": 5, "attendees": [], "attendeeSeatId": "seat-7"}, "seat-7"),
        ({"seatsPerTimeSlot": 5, "attendees": []}, None),
        ({"attendeeSeatId": "seat-7"}, "nora.guest@example.org"),
        ({"attendeeSeatId": "seat-7", "attendees": [b.attendee(email="x" * 255)]}, "seat-7"),
        ({"attendeeSeatId": None, "seatsPerTimeSlot": 0}, None),
        ({"seatsPerTimeSlot": True}, None),
        ({"seatsPerTimeSlot": "5"}, None),
        ({}, None),
    ],
)
def test_only_a_seated_booking_has_a_seat(over: b.Json, seat: str | None) -> None:
    assert booking(b.having(b.booking_created(), **over)).seat == seat


def test_a_person_without_e_mail_is_known_by_phone() -> None:
    (person,) = booking(b.booking_created(attendees=[b.phone_only_attendee("+4930123")])).attendees
    assert (person.email, person.phone) == ("4930123@sms.cal.com", "+4930123")


def test_at_most_fifty_people_are_kept_and_what_is_no_person_is_left_out() -> None:
    people = [b.attendee(email=f"{n}@example.org") for n in range(60)]
    kept = booking(b.having(b.booking_created(), attendees=[None, *people]))
    assert [person.email for person in kept.attendees] == [f"{n}@example.org" for n in range(49)]


def test_one_person_that_stands_alone_is_one_person() -> None:
    (person,) = booking(b.having(b.booking_created(), attendees=b.attendee())).attendees
    assert person.email == "nora.guest@example.org"


@pytest.mark.parametrize(
    ("over", "phone"),
    [
        ({"responses": {"attendeePhoneNumber": {"label": "phone", "value": "+43 1"}}}, "+43 1"),
        ({"responses": {"attendeePhoneNumber": {"label": "phone"}, "phone": {"value": "+43 2"}}}, "+43 2"),
        ({"responses": {"phone": "+43 3"}}, "+43 3"),
        ({"responses": {"location": {"value": {"value": "phone", "optionValue": "+43 4"}}}}, "+43 4"),
        ({"responses": {"location": {"value": {"value": "inPerson", "optionValue": "Main street 1"}}}}, None),
        ({"smsReminderNumber": "+43 5", "responses": None}, "+43 5"),
        ({"responses": [], "smsReminderNumber": 5}, None),
    ],
)
def test_the_bookers_phone_may_stand_among_the_answers(over: b.Json, phone: str | None) -> None:
    people = [b.attendee(phone=None), b.attendee(email="guest@example.org", phone=None)]
    booker, guest = booking(b.booking_created(attendees=people, **over)).attendees
    assert (booker.phone, guest.phone) == (phone, None)


def test_a_made_up_e_mail_tells_the_phone() -> None:
    made_up = b.attendee(email="493055501234@sms.cal.com", phone=None)
    odd = b.attendee(email="nora@sms.cal.com", phone=None)
    first, second = booking(b.booking_created(attendees=[made_up, odd])).attendees
    assert (first.phone, second.phone) == ("+493055501234", None)


def test_long_texts_are_cut_and_long_ids_are_absent() -> None:
    event = booking(b.booking_created(title="t" * 5000, iCalUID="i" * 201, attendees=[b.attendee(name="n" * 5000)]))
    assert (event.title, event.ical_uid, event.attendees[0].name) == ("t" * 1000, None, "n" * 1000)


SEATED: b.Json = {"seatsPerTimeSlot": 5}
TWO = [b.attendee(email="A@example.org"), b.attendee(email="b@example.org"), b.attendee(email=" a@example.org")]


@pytest.mark.parametrize(
    ("body", "seats", "scope"),
    [
        (b.booking_cancelled(attendees=TWO, **SEATED), ("a@example.org", "b@example.org"), Scope.BOOKING),
        (b.booking_rejected(attendees=TWO, **SEATED), ("a@example.org", "b@example.org"), Scope.BOOKING),
        (b.booking_rescheduled(attendees=TWO, **SEATED), ("a@example.org", "b@example.org"), None),
        (b.booking_cancelled(attendees=TWO, attendeeSeatId="s", **SEATED), (), None),
        (b.booking_cancelled(attendees=TWO[:1], **SEATED), (), None),
        (b.booking_cancelled(attendees=TWO), (), None),
        (b.booking_created(attendees=TWO, **SEATED), (), None),
        (b.booking_requested(attendees=TWO, **SEATED), (), None),
    ],
)
def test_a_seated_booking_that_ends_or_moves_as_a_whole_names_every_seat(
    body: b.Json, seats: tuple[str, ...], scope: Scope | None
) -> None:
    event = booking(body)
    assert (event.seats, event.scope) == (seats, scope)


def test_a_seated_booking_that_its_owner_moves_keeps_its_uid_and_takes_every_seat_along() -> None:
    moved = b.seats_moved("uid-1", attendees=TWO[:1])
    event = booking(moved)
    assert (event.uid, event.parent_uid, event.parent_id, event.scope) == ("uid-1", None, None, Scope.BOOKING)
    assert booking(b.having(moved, seatsPerTimeSlot=None)).scope is None
    assert booking(b.having(moved, rescheduleId=4)).scope is None


def test_one_seat_that_moves_names_its_seat_and_where_it_was() -> None:
    event = booking(b.booking_rescheduled("uid-2", old_uid="seat-7", attendeeSeatId="seat-8", **SEATED))
    assert (event.parent_uid, event.seat_id, event.scope) == ("seat-7", "seat-8", None)


@pytest.mark.parametrize(
    ("body", "scope"),
    [
        (b.booking_created(recurringEvent=b.WEEKLY), Scope.SERIES),
        (b.booking_rejected(recurringEvent=b.WEEKLY), Scope.SERIES),
        (b.booking_cancelled(recurringEvent=b.WEEKLY), Scope.SERIES),
        (b.booking_requested(recurringEvent=b.WEEKLY), None),
        (b.booking_rescheduled(recurringEvent=b.WEEKLY), None),
    ],
)
def test_a_word_that_may_be_meant_for_a_series_says_so(body: b.Json, scope: Scope | None) -> None:
    event = booking(body)
    assert (event.scope, event.recurring) == (scope, "2.3.1")


@pytest.mark.parametrize("junk", [None, {}, [], "weekly", {"freq": 2, "count": 3}])
def test_a_rhythm_that_is_not_wholly_told_is_none(junk: object) -> None:
    assert booking(b.booking_created(recurringEvent=junk)).recurring is None


def test_only_a_host_who_asks_for_another_time_leaves_a_booking_to_come() -> None:
    assert booking(b.booking_cancelled(requestReschedule=True)).reschedule_requested
    assert not booking(b.booking_cancelled(requestReschedule="true")).reschedule_requested
    assert not booking(b.booking_created(requestReschedule=True)).reschedule_requested


def test_a_booking_that_waits_for_its_payment_is_pending_whatever_its_status_says() -> None:
    event = booking(b.payment_initiated())
    assert (event.status, event.unpaid, event.appointment_id) == (BookingStatus.PENDING, True, "4711")
    assert event.event_id.startswith("cal-1-")


@pytest.mark.parametrize(
    ("over", "uid", "parent"),
    [
        ({"uid": None}, "id:4001", None),
        ({"uid": None, "bookingId": "17"}, "id:17", None),
        ({"uid": "x" * 201}, "id:4001", None),
        ({"uid": "id:5"}, "id:4001", None),
    ],
)
def test_a_booking_without_a_uid_is_named_by_its_number(over: b.Json, uid: str, parent: str | None) -> None:
    event = booking(b.having(b.booking_created(), **over))
    assert (event.uid, event.parent_uid) == (uid, parent)


@pytest.mark.parametrize(
    ("over", "uid", "parent", "scope"),
    [
        ({"attendeeSeatId": "seat-8", "rescheduleId": None}, "seat-7", None, None),
        ({"rescheduleId": None, "attendees": TWO}, "seat-7", None, Scope.BOOKING),
        ({"bookingId": None}, "seat-7", None, None),
        ({}, "id:4002", "seat-7", None),
    ],
)
def test_a_seat_that_moves_without_a_uid_is_named_by_what_it_left(
    over: b.Json, uid: str, parent: str | None, scope: Scope | None
) -> None:
    event = booking(b.having(b.booking_rescheduled(old_uid="seat-7", **SEATED), uid=None, **over))
    assert (event.uid, event.parent_uid) == (uid, parent)
    assert event.scope is scope
