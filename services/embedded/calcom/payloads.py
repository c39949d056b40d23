"""What Cal.com's senders write of a booking: the body of each trigger, with its way to spell times and its holes. Pure.

The holes are those of the code up to v6: the booker's metadata is missing after a confirmation, a payment or a move by
the booking page, and in every cancellation and rejection.
"""

from datetime import datetime
from typing import Final, Literal

from services.embedded.calcom.model import Account, Booking, Json, Person
from services.embedded.calcom.spelling import to_milliseconds, to_seconds, with_offset

Mover = Literal["api", "page"]
_WEEKLY: Final = 2
#: What the sender of a wish for another time leaves out of a cancellation.
_NOT_ASKED_TO_MOVE: Final = frozenset({
    "additionalNotes", "bookerUrl", "currency", "customInputs", "eventDescription", "organizationId", "price",
    "requiresConfirmation", "seatsPerTimeSlot", "seatsShowAttendees",
})  # fmt: skip


def envelope(trigger: str, payload: Json, at: datetime) -> Json:
    """Give a body; `at` is the moment of sending."""
    return {"triggerEvent": trigger, "createdAt": to_milliseconds(at), "payload": payload}


def made(row: Booking, host: Account, person: Person | None = None) -> Json:
    """Give the payload of a booking at its making; `person`: of the seat that was taken."""
    confirm = row.event_type.requires_confirmation
    payload = _common(row, host, people=_seen(row, person)) | _times(row) | _extras(row)
    payload |= {"iCalUID": row.ical_uid, "iCalSequence": row.ical_sequence, "requiresConfirmation": confirm}
    payload |= {"oneTimePassword": None, "hashedLink": None, "length": row.event_type.length_minutes}
    metadata = row.metadata | ({} if person is None else person.metadata)
    payload |= {"metadata": _call(row) | metadata, "status": row.status}
    return payload | ({} if person is None else {"attendeeSeatId": person.seat_uid})


def confirmed(row: Booking, host: Account) -> Json:
    """Give the payload after the host's word or a payment: made from the database."""
    payload = _common(row, host) | _database_times(row) | _extras(row)
    payload |= {"requiresConfirmation": row.event_type.requires_confirmation, "destinationCalendar": []}
    return payload | {"length": row.event_type.length_minutes, "metadata": _call(row), "status": "ACCEPTED"}


def moved(row: Booking, old: Booking, host: Account, by: Mover) -> Json:
    """Give the payload of a move: of the new row."""
    payload = made(row, host) | {"metadata": _call(row) if by == "page" else row.metadata | _call(old)}
    if by == "page" or row.event_type.seats is not None:
        del payload["iCalUID"]
    payload |= {"rescheduleUid": old.uid, "rescheduledBy": row.rescheduled_by or row.attendees[0].email}
    payload |= {"rescheduleStartTime": to_seconds(old.start), "rescheduleEndTime": to_seconds(old.end)}
    # The owner of a seated booking moves the row itself: no old number is named.
    return payload | ({} if old.uid == row.uid else {"rescheduleId": old.id})


def cancelled(row: Booking, host: Account, *, leaver: Person | None = None, series: bool = False) -> Json:
    """Give the payload of a cancellation; of one seat: its `leaver` alone, though the booking lives."""
    zone = host.time_zone
    payload = _common(row, host, people=_seen(row, leaver), with_names=False)
    payload |= {"startTime": with_offset(row.start, zone), "endTime": with_offset(row.end, zone)}
    payload |= {"iCalUID": row.ical_uid, "iCalSequence": row.ical_sequence + 1, "price": None, "currency": "usd"}
    payload |= {"cancellationReason": row.cancellation_reason or None, "length": row.event_type.length_minutes}
    payload |= {"requiresConfirmation": None, "status": "CANCELLED", "requestReschedule": False}
    payload |= {"cancelledBy": row.cancelled_by} if row.cancelled_by else {}
    return payload | (_recurring(row) if series else {})


def asked_to_move(row: Booking, host: Account) -> Json:
    """Give the payload of a cancellation by which the host asks for another time."""
    payload = cancelled(row, host)
    return {key: value for key, value in payload.items() if key not in _NOT_ASKED_TO_MOVE} | {"requestReschedule": True}


def rejected(row: Booking, host: Account) -> Json:
    """Give the payload of the host's refusal."""
    payload = _common(row, host, with_names=False) | _database_times(row)
    del payload["seatsPerTimeSlot"], payload["seatsShowAttendees"]
    payload |= {"rejectionReason": row.rejection_reason, "length": row.event_type.length_minutes}
    return (
        payload
        | {"price": row.event_type.price, "currency": "usd", "requiresConfirmation": True}
        | {"status": "REJECTED"}
    )


def awaiting_payment(row: Booking, host: Account) -> Json:
    """Give the payload of a booking that waits for its payment: it says ACCEPTED."""
    return (
        made(row, host) | _database_times(row) | {"status": "ACCEPTED", "paymentId": row.id, "metadata": row.metadata}
    )


def paid(row: Booking, host: Account) -> Json:
    """Give the payload of a payment: the metadata is the payment's."""
    own = {"identifier": "cal.com", "bookingId": row.id, "eventTypeId": row.event_type.id}
    own |= {"bookerEmail": row.attendees[0].email, "eventTitle": row.event_type.title, "externalId": f"pi_{row.id}"}
    return awaiting_payment(row, host) | {"metadata": own}


def requested_after_payment(row: Booking, host: Account) -> Json:
    """Give the payload of a request that was paid for: it has neither a status nor metadata."""
    payload = confirmed(row, host)
    del payload["status"], payload["metadata"]
    return payload


def no_show(row: Booking, person: Person) -> Json:
    """Give the payload of a mark of absence: `bookingUid`, and no times."""
    marked = [{"email": person.email, "noShow": person.absent}]
    message = f"{person.email} {'marked' if person.absent else 'unmarked'} as no-show"
    return {"message": message, "attendees": marked, "bookingUid": row.uid, "bookingId": row.id}


def meeting(row: Booking, host: Account, trigger: str) -> Json:
    """Give the whole body of a meeting's begin or end: flat, `createdAt` is the booking's."""
    body = {"triggerEvent": trigger, "id": row.id, "uid": row.uid, "userId": host.user_id, "status": row.status}
    body |= {"eventTypeId": row.event_type.id, "title": row.title, "description": "", "location": row.location}
    body |= _database_times(row) | {"createdAt": to_milliseconds(row.created_at), "metadata": row.metadata}
    body |= {"iCalUID": row.ical_uid, "iCalSequence": row.ical_sequence, "fromReschedule": row.from_uid}
    body |= {"recurringEventId": row.series_uid, "rescheduled": None, "cancelledBy": None, "paid": row.paid}
    return body | {"attendees": [_person(one) | {"noShow": one.absent} for one in row.attendees]}


def ping(at: datetime) -> Json:
    """Give the body of the test button."""
    nobody = {
        "email": "jdoe@example.com",
        "name": "John Doe",
        "timeZone": "Europe/London",
        "language": {"locale": "en"},
    }
    host: Json = {"name": "Cal", "email": "no-reply@cal.com", "timeZone": "Europe/London", "language": {"locale": "en"}}
    payload: Json = {"type": "Test", "title": "Test trigger event", "description": "", "attendees": [nobody]}
    payload |= {"startTime": to_milliseconds(at), "endTime": to_milliseconds(at), "organizer": host}
    return envelope("PING", payload, at)


def _common(row: Booking, host: Account, *, people: tuple[Person, ...] | None = None, with_names: bool = True) -> Json:
    shown = row.attendees if people is None else people
    return {
        "bookerUrl": "https://cal.com",
        "title": row.title,
        "additionalNotes": "",
        "type": row.event_type.slug,
        "description": "",
        "eventTypeId": row.event_type.id,
        "eventTitle": row.event_type.title,
        "eventDescription": "",
        "seatsPerTimeSlot": row.event_type.seats,
        "seatsShowAttendees": row.event_type.seats is None,
        "organizer": _organizer(host),
        "attendees": [_person(one) | ({"firstName": "", "lastName": ""} if with_names else {}) for one in shown],
        "customInputs": {},
        "responses": _responses(shown[0]) if shown else {},
        "userFieldsResponses": {},
        "location": row.location,
        "destinationCalendar": None,
        "organizationId": None,
        "uid": row.uid,
        "bookingId": row.id,
    }


def _organizer(host: Account) -> Json:
    known = {"id": host.user_id, "name": host.name, "email": host.email, "username": host.username}
    return known | {"timeZone": host.time_zone, "language": {"locale": "en"}, "timeFormat": "h:mma", "utcOffset": 60}


def _person(one: Person) -> Json:
    known: Json = {"email": one.email, "name": one.name, "timeZone": one.time_zone}
    phone = {} if one.phone is None else {"phoneNumber": one.phone}
    return known | phone | {"language": {"locale": one.language}, "utcOffset": 60}


def _responses(one: Person) -> Json:
    return {
        "name": {"label": "your_name", "value": one.name, "isHidden": False},
        "email": {"label": "email_address", "value": one.email, "isHidden": False},
        "notes": {"label": "additional_notes", "isHidden": False},
    }


def _seen(row: Booking, person: Person | None) -> tuple[Person, ...]:
    return row.attendees if person is None else (person,)


def _times(row: Booking) -> Json:
    return {"startTime": to_seconds(row.start), "endTime": to_seconds(row.end)}


def _database_times(row: Booking) -> Json:
    return {"startTime": to_milliseconds(row.start), "endTime": to_milliseconds(row.end)}


def _extras(row: Booking) -> Json:
    return {"price": row.event_type.price, "currency": "usd"} | _recurring(row)


def _recurring(row: Booking) -> Json:
    """Give how often a series comes again; never which one it is."""
    if row.series_uid is None:
        return {}
    return {"recurringEvent": {"freq": _WEEKLY, "count": row.occurrences, "interval": 1}}


def _call(row: Booking) -> Json:
    return {"videoCallUrl": row.call_url} if row.status == "ACCEPTED" else {}
