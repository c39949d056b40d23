"""What an answer of Cal.com means for a record: pure, as a table."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.flags import AppointmentFacts, BookingFacts
from schemas.verification import Priority, Question, Verdict
from services.reconciler.core.people import by_email
from services.verifier.answers import Answer, Bookings, NotThere, Reason, Row, Unauthorised, Unknown
from services.verifier.checks import people
from services.verifier.checks.verdict import judge, matches, occurrence
from tests.support.builders import NOW, STARTS_AT, api_booking, api_seat

CUID = "+c" + "a1b2c3d4" * 3


def asking(**over: Any) -> Question:
    """Ask about the appointment that `api_booking` was made for."""
    facts: dict[str, Any] = {
        "appointment_id": "4711",
        "status": "confirmed",
        "starts_at": STARTS_AT,
        "event_type_id": 5150,
    }
    facts |= {"customer_email": "nora.guest@example.org", "customer_phone": "+493055501234"}
    told = AppointmentFacts(**(facts | over.pop("appointment", {})))
    given: dict[str, Any] = {"company_id": "acme", "record_id": UUID(int=7), "subject": "a:4711", "number": 1}
    given |= {"priority": Priority.DEADLINE, "not_before": NOW, "not_older_than": NOW, "starts_at": told.starts_at}
    return Question(**(given | {"appointment": told} | over))


def found(*chain: Row) -> Bookings:
    return Bookings(rows=chain)


def later(seconds: float) -> str:
    moment = STARTS_AT + timedelta(seconds=seconds)
    return moment.isoformat().replace("+00:00", ".000Z")


def failed(reason: Reason) -> Unknown:
    return Unknown(reason=reason, detail="")


@pytest.mark.parametrize(
    ("answer", "verdict", "reason"),
    [
        (found(api_booking()), "found_equal", "equal"),
        (found(api_booking(start=later(59))), "found_equal", "equal"),
        (found(api_booking(start=later(-60))), "found_equal", "equal"),
        (found(api_booking(start="2026-03-09T15:00:00.000+01:00")), "found_equal", "equal"),
        (found(api_booking(start=later(61))), "found_different", "starts_at"),
        (found(api_booking(start="some day")), "found_different", "starts_at"),
        (found(api_booking(status="pending")), "found_different", "status"),
        (found(api_booking(status="awaiting_host")), "found_different", "status"),
        (found(api_booking(eventType={"id": 1})), "found_different", "event_type_id"),
        (found(api_booking(eventType=None, eventTypeId=1)), "found_different", "event_type_id"),
        (found(api_booking(eventType=None, eventTypeId=None)), "found_equal", "equal"),
        (found(api_booking(status="cancelled")), "cancelled", "cancelled"),
        (found(api_booking(status="rejected")), "cancelled", "rejected"),
        (found(api_booking(status="cancelled"), api_booking("uid-2")), "moved", "rescheduled"),
        (found(api_booking(status="cancelled"), api_booking("uid-2", status="cancelled")), "cancelled", "cancelled"),
        (NotThere(), "absent_once", "not_found"),
        (found(), "unknown", "empty_list"),
        (Unauthorised(status=401, detail=""), "unauthorised", "unauthorised"),
        *[(failed(reason), "unknown", reason.value) for reason in Reason],
    ],
)
def test_an_answer_means(answer: Answer, verdict: str, reason: str) -> None:
    assert judge(asking(), answer, NOW) == (Verdict(verdict), reason)


@pytest.mark.parametrize(
    ("ago", "verdict"), [(None, "absent_once"), (0.0, "absent_once"), (29.9, "absent_once"), (30.0, "absent")]
)
def test_a_booking_is_absent_when_that_was_said_twice_half_a_minute_apart(ago: float | None, verdict: str) -> None:
    before = None if ago is None else NOW - timedelta(seconds=ago)
    assert judge(asking(absent_at=before), NotThere(), NOW) == (Verdict(verdict), "not_found")


@pytest.mark.parametrize(
    "answer", [*map(failed, Reason), found(), found(api_booking()), Unauthorised(status=403, detail="")]
)
def test_nothing_but_a_documented_absence_is_one(answer: Answer) -> None:
    verdict, _ = judge(asking(absent_at=NOW - timedelta(hours=1)), answer, NOW)
    assert not verdict.missing


@pytest.mark.parametrize(
    ("local", "calcom", "verdict"),
    [
        ("confirmed", "accepted", "found_equal"),
        ("scheduled", "accepted", "found_equal"),
        ("completed", "accepted", "found_equal"),
        ("no_show", "accepted", "found_equal"),
        ("pending", "pending", "found_equal"),
        ("pending", "awaiting_host", "found_equal"),
        ("pending", "accepted", "found_different"),
        ("cancelled", "accepted", "found_different"),
        ("deleted", "pending", "found_different"),
        ("cancelled", "cancelled", "cancelled"),
    ],
)
def test_statuses_are_compared_by_what_they_amount_to(local: str, calcom: str, verdict: str) -> None:
    question = asking(appointment={"status": local})
    assert judge(question, found(api_booking(status=calcom)), NOW)[0] == verdict


def test_a_booking_that_stands_alone_is_compared_with_what_webhooks_told_of_it() -> None:
    told = BookingFacts(uid="uid-1", chain=("uid-1",), status="accepted", starts_at=STARTS_AT)
    question = asking(booking=told)
    alone = Question(**{name: getattr(question, name) for name in question.__struct_fields__} | {"appointment": None})
    assert judge(alone, found(api_booking()), NOW)[0] is Verdict.FOUND_EQUAL
    assert judge(alone, found(api_booking(start=later(3600))), NOW)[0] is Verdict.FOUND_DIFFERENT


@pytest.mark.parametrize("seat", ["nora.guest@example.org", "seat-1"])
def test_a_seat_is_found_by_its_holder_or_its_uid(seat: str) -> None:
    row = api_booking(attendees=[api_seat("seat-1", "Nora.Guest@example.org"), api_seat("seat-2", "other@example.org")])
    assert judge(asking(seat=seat), found(row), NOW)[0] is Verdict.FOUND_EQUAL


def test_a_seat_that_is_not_shown_is_not_known_to_be_free() -> None:
    for people_ in ([], [api_seat("seat-2", "other@example.org")]):
        row = api_booking(attendees=people_)
        assert judge(asking(seat="seat-1"), found(row), NOW) == (Verdict.UNKNOWN, "seat_not_listed")


def test_of_a_series_the_occurrence_is_found() -> None:
    week = 7 * 24 * 3600
    series = [api_booking(f"uid-{n}", start=later(n * week), id=n, metadata={}) for n in range(3)]
    assert occurrence(asking(), "the-series", series) is series[0]
    assert occurrence(asking(), "uid-2", series) is series[2]
    assert occurrence(asking(booking_id=1), "the-series", series) is series[1]
    assert occurrence(asking(starts_at=NOW), "the-series", series) is None
    assert occurrence(asking(), "the-series", [series[0], series[0] | {"uid": "twin"}]) is None
    assert occurrence(asking(starts_at=NOW), "the-series", series[1:2]) is series[1]


@pytest.mark.parametrize(
    "row",
    [
        api_booking(metadata={}),
        api_booking(metadata=None),
        api_booking(metadata={}, start=later(60)),
        api_booking(start=later(86400)),  # names the appointment
        api_booking(metadata={"appointmentId": 4711}, attendees=[]),
        api_booking(metadata={}, attendees=[{"email": f"Nora.Guest{CUID}@Example.org"}]),
        api_booking(metadata={}, attendees=[{"email": "x@example.org", "displayEmail": "NORA.guest@example.org"}]),
        api_booking(metadata={}, attendees=[{"email": "493055501234@sms.cal.com"}]),
        api_booking(metadata={}, attendees=[{"email": "x@example.org", "phoneNumber": "0049 30 55501234"}]),
        api_booking(metadata={}, attendees=[{}], bookingFieldsResponses={"attendeePhoneNumber": "+49 (0)30 55501234"}),
        api_booking(metadata={}, attendees=[{"email": "x@example.org"}], guests=["nora.guest@example.org"]),
        api_booking(
            attendees=[
                api_seat("s1", "x@example.org", {"appointment_id": "1"}),
                api_seat("s2", "nora.guest@example.org"),
            ]
        ),
    ],
)
def test_a_row_is_the_booking_that_is_looked_for(row: Row) -> None:
    assert matches(asking(), [api_booking("other", metadata={"appointment_id": "1"}, id=1), row]) == [row]


@pytest.mark.parametrize(
    "row",
    [
        api_booking(metadata={"appointment_id": "4712"}),  # another's
        api_booking(metadata={}, start=later(61)),
        api_booking(metadata={}, attendees=[]),
        api_booking(metadata={}, attendees=[{"email": "kim@example.org", "phoneNumber": "+4930999"}]),
        api_booking(metadata={}, attendees=[{"email": "nora.guest@example.com"}]),
        api_booking(metadata={}, attendees="everybody"),
        api_booking(attendees=[api_seat("s1", "nora.guest@example.org", {"appointment_id": "1"})]),
        # with seats, the booking's own metadata may be another's seat's
        api_booking(attendees=[api_seat("s1", "kim@example.org")]),
    ],
)
def test_a_row_is_not_the_booking_that_is_looked_for(row: Row) -> None:
    assert matches(asking(), [row]) == []


def test_where_persons_do_not_count_only_a_name_does() -> None:
    rows = [api_booking("a", metadata={}), api_booking("b", start=later(9999))]
    assert matches(asking(match_by_attendee=False), rows) == rows[1:]


def test_one_that_is_named_by_its_number_is_not_looked_for_by_person() -> None:
    rows = [api_booking("a", metadata={}, id=1), api_booking("b", metadata={}, id=2, start=later(9999), attendees=[])]
    assert matches(asking(booking_id=2), rows) == rows[1:]
    assert matches(asking(booking_id=3), rows) == []


def test_the_likeliest_of_several_comes_first() -> None:
    gone = api_booking("gone", metadata={}, status="cancelled")
    moved = api_booking("moved", metadata={}, status="cancelled", rescheduledToUid="x")
    alive = api_booking("alive", metadata={})
    assert matches(asking(), [gone, moved, alive]) == [alive, moved, gone]


EMAILS = [
    "nora@example.org", "NORA@Example.org", f"nora{CUID}@example.org", "no.ra@example.org", "nora+x@example.org",
    "no.ra+cal@gmail.com", "nora@googlemail.com", "nora@me.com", "nora+1@icloud.com", "nora@pm.me",
    "nora+2@protonmail.com", "n.ora@mailbox.org", "nora+x@posteo.de", "493055501234@sms.cal.com", "+@gmail.com", "nora",
]  # fmt: skip


@pytest.mark.parametrize("one", EMAILS)
def test_who_is_the_same_person_to_the_reconciler_is_the_same_person_here(one: str) -> None:
    for other in EMAILS:
        same = by_email(one, "DE") == by_email(other, "DE") is not None
        assert people.comes({"attendees": [{"email": other}]}, one, None) is same, (one, other)


@pytest.mark.parametrize(
    ("phone", "address"),
    [
        ("+49 30 55501234", "493055501234@sms.cal.com"),
        ("0049 (0)30 55501234", "493055501234@sms.cal.com"),
        ("030 55501234", None),  # of which country?
        ("+49", None),
        ("", None),
    ],
)
def test_cal_com_makes_an_address_of_a_phone_number(phone: str, address: str | None) -> None:
    assert people.sms_address(phone) == address
