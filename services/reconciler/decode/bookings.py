"""A booking's payload as Cal.com shapes it → BookingEvent. A field of the wrong type is a field that is not there."""

from datetime import datetime
from typing import Any, Final

from schemas.bookings import Attendee, BookingEvent, BookingStatus
from services.reconciler.decode.outcomes import Undecodable
from services.reconciler.decode.values import fits, utc

Object = dict[str, Any]

_TEXT_MAX_CHARS: Final = 1000
_ID_MAX_CHARS: Final = 200
_EMAIL_MAX_CHARS: Final = 254  # RFC 5321
_ATTENDEES_MAX: Final = 10
_NOTHING: Final[Object] = {}

_WORDS: Final = {status.value: status for status in BookingStatus}
#: What these triggers say is so, whatever the payload's status (some versions send a stale one).
_FINAL: Final = {"BOOKING_CANCELLED": BookingStatus.CANCELLED, "BOOKING_REJECTED": BookingStatus.REJECTED}
_APPOINTMENT_KEYS: Final = ("appointment_id", "appointmentId")


def booking_event(root: Object, trigger: str, uid: str, event_id: str, received_at: datetime) -> BookingEvent:
    """Read a webhook of a booking. `root` is the whole body; where it has no payload object it is one itself (flat).

    Raises Undecodable("invalid_time") where a text stands for a time and is none.
    """
    payload = an_object(root.get("payload")) or root
    attendees = _attendees(payload.get("attendees"))
    booking_id = _number(payload.get("bookingId"))
    if booking_id is None:
        booking_id = _number(root.get("id"))
    parent_uid = identity(payload.get("rescheduleUid"))
    parent_id = _number(payload.get("rescheduleId"))
    return BookingEvent(
        event_id=event_id,
        trigger=trigger,
        occurred_at=a_time(root, "createdAt") or received_at,
        uid=uid,
        status=_status(trigger, payload.get("status")),
        starts_at=a_time(payload, "startTime"),
        ends_at=a_time(payload, "endTime"),
        booking_id=booking_id,
        event_type_id=_number(payload.get("eventTypeId")),
        # A seated booking that moves in place names itself: no chain.
        parent_uid=None if parent_uid == uid else parent_uid,
        parent_id=None if parent_id == booking_id else parent_id,
        appointment_id=_appointment_id(an_object(payload.get("metadata"))),
        seat=_seat(payload, attendees),
        ical_uid=identity(payload.get("iCalUID")),
        title=_text(payload.get("title")),
        time_zone=_text(an_object(payload.get("organizer")).get("timeZone")),
        attendees=attendees,
    )


def uid_of(root: Object) -> str | None:
    """Give the uid of the booking that a body of Cal.com speaks of, from any of the places where it may stand."""
    payload = an_object(root.get("payload"))
    return (
        identity(payload.get("uid"))
        or identity(payload.get("bookingUid"))
        or identity(an_object(payload.get("booking")).get("uid"))
        or identity(root.get("uid"))
    )


def an_object(value: object) -> Object:
    """Give the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else _NOTHING


def identity(value: object) -> str | None:
    """Give the value if it can name something: text of 1 to 200 characters. A longer one is no id, so it is not cut."""
    return value if isinstance(value, str) and 0 < len(value) <= _ID_MAX_CHARS else None


def a_time(holder: Object, key: str) -> datetime | None:
    """Give the instant that stands under the key, in UTC; None unless text stands there."""
    value = holder.get(key)
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise Undecodable("invalid_time", f"{key} is not a time as ISO 8601 writes it.") from None
    return utc(moment, key, "invalid_time")


def _text(value: object) -> str | None:
    return value[:_TEXT_MAX_CHARS] if isinstance(value, str) and value else None


def _number(value: object) -> int | None:
    return value if type(value) is int and fits(value) else None


def _status(trigger: str, word: object) -> BookingStatus:
    final = _FINAL.get(trigger)
    if final is not None:
        return final
    known = _WORDS.get(word.upper()) if isinstance(word, str) else None
    return known or (BookingStatus.PENDING if trigger == "BOOKING_REQUESTED" else BookingStatus.ACCEPTED)


def _appointment_id(metadata: Object) -> str | None:
    for key in _APPOINTMENT_KEYS:
        value = metadata.get(key)
        named = identity(str(value) if type(value) is int else value)
        if named is not None:
            return named
    return None


def _seat(payload: Object, attendees: tuple[Attendee, ...]) -> str | None:
    """Name the seat: by its holder's e-mail, for only that is there when a seat is left."""
    seat_id = identity(payload.get("attendeeSeatId"))
    if seat_id is None and not _positive(payload.get("seatsPerTimeSlot")):
        return None
    email = (attendees[0].email or "").strip().lower() if attendees else ""
    return email if 0 < len(email) <= _EMAIL_MAX_CHARS else seat_id


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _attendees(value: object) -> tuple[Attendee, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(
        Attendee(name=_text(one.get("name")), email=_text(one.get("email")), phone=_text(one.get("phoneNumber")))
        for one in value[:_ATTENDEES_MAX]
        if isinstance(one, dict)
    )
