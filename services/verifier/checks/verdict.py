"""What an answer of Cal.com's API means for a record. Pure: no clock, no question asked.

| answer | verdict |
|---|---|
| the booking, and it is what the record says | found_equal |
| the booking, and start, status or event type differ | found_different |
| the booking, called off or rejected, and not moved | cancelled |
| the booking, moved: the chain was walked to its living end | moved |
| the documented 404, or a proven search without a find | absent_once; absent, if that was so 30 s before, too |
| 401, 403, 498 of Cal.com itself | unauthorised |
| all else | unknown |
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.verification import ABSENT_APART_SECONDS, Question, Verdict
from services.verifier.answers import Answer, Bookings, NotThere, Reason, Row, Unauthorised, Unknown
from services.verifier.checks import people

Ruling = tuple[Verdict, str]  # the verdict, and a word to count by

NOT_FOUND: Final = "not_found"
_APART: Final = timedelta(seconds=ABSENT_APART_SECONDS)
_OVER: Final = frozenset({"cancelled", "rejected"})
_WAITING: Final = frozenset({"pending", "awaiting_host"})
#: The app's words for an appointment that is not to take place.
_OFF: Final = frozenset({"cancelled", "deleted"})
_APPOINTMENT_KEYS: Final = ("appointment_id", "appointmentId")


def judge(question: Question, answer: Answer, at: datetime) -> Ruling:
    """Say what an answer means; `at` is when it was given.

    `Bookings` are the booking's whole chain, oldest first: the last row is the one in force. `NotThere` is the 404, or
    a search that is proven to work and found nothing.
    """
    match answer:
        case Bookings(rows=rows) if rows:
            return _found(question, rows)
        case NotThere():
            return _missing(question, at)
        case Unauthorised():
            return Verdict.UNAUTHORISED, "unauthorised"
        case Unknown(reason=reason):
            return Verdict.UNKNOWN, reason.value
        case _:  # a list without rows, which proves nothing; webhooks
            return Verdict.UNKNOWN, Reason.EMPTY_LIST.value


def _missing(question: Question, at: datetime) -> Ruling:
    """Once is not enough: the API reads a replica."""
    before = question.absent_at
    twice = before is not None and at - before >= _APART
    return (Verdict.ABSENT if twice else Verdict.ABSENT_ONCE), NOT_FOUND


def _found(question: Question, chain: Sequence[Row]) -> Ruling:
    row = chain[-1]
    if is_over(row):
        return Verdict.CANCELLED, status(row)
    if question.seat is not None and not people.sits(row, question.seat):
        return Verdict.UNKNOWN, Reason.SEAT_NOT_LISTED.value
    if len(chain) > 1:
        return Verdict.MOVED, "rescheduled"
    difference = _difference(question, row)
    return (Verdict.FOUND_EQUAL, "equal") if difference is None else (Verdict.FOUND_DIFFERENT, difference)


def _difference(question: Question, row: Row) -> str | None:
    """Name the first field in which the booking is not what the appointment, else what webhooks, told of it."""
    told = question.appointment or question.booking
    if told is None:
        return None
    if told.starts_at is not None and not near(row, told.starts_at, question.tolerance_seconds):
        return "starts_at"
    if not _agree(told.status, status(row)):
        return "status"
    kind = event_type_id(row)
    if told.event_type_id is not None and kind is not None and told.event_type_id != kind:
        return "event_type_id"
    return None


def _agree(told: str, found: str) -> bool:
    """Compare the word of either side with that of a booking which is not over."""
    if told in _OFF or told in _OVER:
        return False
    return (told in _WAITING) is (found in _WAITING)


def occurrence(question: Question, uid: str, rows: Sequence[Row]) -> Row | None:
    """Find the booking that is meant among several: the uid of a series gives all of its occurrences. None: unclear."""
    named = [row for row in rows if row.get("uid") == uid] or named_by(question, rows)
    if not named and len(rows) > 1 and question.starts_at is not None:
        named = [row for row in rows if near(row, question.starts_at, question.tolerance_seconds)]
    if not named and len(rows) == 1:
        return rows[0]
    return named[0] if len(named) == 1 else None


def matches(question: Question, rows: Sequence[Row]) -> list[Row]:
    """Find the booking in a list, whoever else is in it; the likeliest comes first.

    One that names the appointment, or has the number that the record names, is it. Else, unless a number is named, it
    is whoever is the same person at the same start and names no other appointment.
    """
    named = named_by(question, rows)
    if not named and question.match_by_attendee and question.booking_id is None and question.starts_at is not None:
        email, phone = person(question)
        same_time = [row for row in rows if near(row, question.starts_at, question.tolerance_seconds)]
        named = [
            row for row in same_time if any(_nobodys(seat) and people.comes(seat, email, phone) for seat in seats(row))
        ]
    return sorted(named, key=_unlikeliness)


def named_by(question: Question, rows: Sequence[Row]) -> list[Row]:
    """Find what names the appointment, or is named by it."""
    told = question.appointment
    return [
        row
        for row in rows
        if (question.booking_id is not None and row.get("id") == question.booking_id)
        or (told is not None and any(appointment_id(seat) == told.appointment_id for seat in seats(row)))
    ]


def unclaimed_at(question: Question, rows: Sequence[Row]) -> list[Row]:
    """Find what starts then and names no appointment: it might be anybody's."""
    start = question.starts_at
    if start is None:
        return []
    then = [row for row in rows if near(row, start, question.tolerance_seconds)]
    return [row for row in then if any(_nobodys(seat) for seat in seats(row))]


def seats(row: Row) -> list[Row]:
    """Give a booking once for each of its seats, as if that were the only one; itself, where it has none."""
    seated = [one for one in people.attendees(row) if one.get("seatUid")]
    return [row | {"attendees": [one], "metadata": one.get("metadata")} for one in seated] or [row]


def _nobodys(row: Row) -> bool:
    return appointment_id(row) is None


def person(question: Question) -> tuple[str | None, str | None]:
    """Give e-mail and phone of who is looked for."""
    told, booked = question.appointment, question.booking
    if told is not None:
        return told.customer_email, told.customer_phone
    return (booked.attendee_email, booked.attendee_phone) if booked is not None else (None, None)


def _unlikeliness(row: Row) -> int:
    if not is_over(row):
        return 0
    return 1 if heir(row) else 2


def is_over(row: Row) -> bool:
    """Tell whether a booking is cancelled or rejected; it may live on under another uid."""
    return status(row) in _OVER


def status(row: Row) -> str:
    """Give Cal.com's word, lower case."""
    found = row.get("status")
    return found.lower() if isinstance(found, str) else ""


def heir(row: Row) -> str | None:
    """Give the uid under which a booking lives on after it was moved."""
    found = row.get("rescheduledToUid")
    return found if isinstance(found, str) and found and found != row.get("uid") else None


def appointment_id(row: Row) -> str | None:
    """Give the app's own id, where the app passed it on when it booked."""
    metadata = row.get("metadata")
    given = metadata if isinstance(metadata, dict) else {}
    for key in _APPOINTMENT_KEYS:
        found = given.get(key)
        if isinstance(found, str | int) and not isinstance(found, bool) and found != "":
            return str(found)
    return None


def event_type_id(row: Row) -> int | None:
    """Give the number of the event type."""
    kind = row.get("eventType")
    found = kind.get("id") if isinstance(kind, dict) else row.get("eventTypeId")
    return found if type(found) is int else None


def starts_at(row: Row) -> datetime | None:
    """Give the start, UTC."""
    found = row.get("start")
    try:
        instant = datetime.fromisoformat(found) if isinstance(found, str) else None
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant is not None and instant.tzinfo is not None else None


def near(row: Row, wanted: datetime, tolerance_seconds: float) -> bool:
    """Tell whether a booking starts then: as instants, within the tolerance."""
    start = starts_at(row)
    return start is not None and abs(start - wanted) <= timedelta(seconds=tolerance_seconds)
