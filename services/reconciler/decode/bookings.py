"""A booking's payload as Cal.com shapes it → BookingEvent. A field of the wrong type is a field that is not there."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from schemas.bookings import BookingEvent, BookingStatus, Scope
from services.reconciler.decode.fields import (
    BY_NUMBER,
    Object,
    an_object,
    appointment_id,
    identity,
    moment,
    number,
    readable_moment,
    text,
)
from services.reconciler.decode.people import attendees, has_seats, rhythm, seats
from services.reconciler.decode.shapes import Said, numbered

_WORDS: Final = {status.value: status for status in BookingStatus}
#: What these triggers say is so, whatever the payload's status (some versions send a stale one).
_FINAL: Final = {
    "BOOKING_CANCELLED": BookingStatus.CANCELLED,
    "BOOKING_REJECTED": BookingStatus.REJECTED,
    "BOOKING_PAYMENT_INITIATED": BookingStatus.PENDING,
}
#: Cal.com sends these once where it changes every occurrence of a series.
_SERIES: Final = frozenset({"BOOKING_CANCELLED", "BOOKING_REJECTED", "BOOKING_CREATED"})
_MARKS: Final[dict[str, Object]] = {
    "BOOKING_PAYMENT_INITIATED": {"unpaid": True},
    "BOOKING_PAID": {"paid": True, "appointment_id": None},  # its metadata is Cal.com's own
}
_FLAT_TIMES: Final = {"MEETING_STARTED": "startTime", "MEETING_ENDED": "endTime"}

When = Callable[[Object, str], datetime | None]


def change(said: Said, trigger: str, uid: str, event_id: str, received_at: datetime) -> BookingEvent:
    """Read what says what a booking is.

    Raises Undecodable("invalid_time") where a text stands for a time and is none.
    """
    occurred_at = moment(said.root, "createdAt") or received_at
    status = _status(trigger, said.payload.get("status"))
    return _event(said, trigger, uid, event_id, occurred_at, status, moment)


def fact(said: Said, trigger: str, uid: str, event_id: str, received_at: datetime) -> BookingEvent:
    """Read what only adds to a booking's timeline."""
    if said.flat and trigger in _FLAT_TIMES:  # the booking's row: its createdAt is the booking's
        occurred_at = readable_moment(said.payload, _FLAT_TIMES[trigger])
    else:
        occurred_at = readable_moment(said.root, "createdAt")
    return _event(said, trigger, uid, event_id, occurred_at or received_at, None, readable_moment)


def _event(
    said: Said,
    trigger: str,
    uid: str,
    event_id: str,
    occurred_at: datetime,
    status: BookingStatus | None,
    when: When,
) -> BookingEvent:
    payload = said.payload
    people = attendees(payload)
    booking_id = numbered(payload)
    parent_uid, parent_id = identity(payload.get("rescheduleUid")), number(payload.get("rescheduleId"))
    event = BookingEvent(
        event_id=event_id,
        trigger=trigger,
        occurred_at=occurred_at,
        uid=uid,
        status=status,
        starts_at=when(payload, "startTime"),
        ends_at=when(payload, "endTime"),
        booking_id=booking_id,
        event_type_id=number(payload.get("eventTypeId")),
        # A seated booking that moves in place names itself: no chain.
        parent_uid=None if parent_uid == uid else parent_uid,
        parent_id=None if parent_id == booking_id else parent_id,
        appointment_id=appointment_id(an_object(payload.get("metadata"))),
        ical_uid=identity(payload.get("iCalUID")),
        title=text(payload.get("title")),
        time_zone=text(an_object(payload.get("organizer")).get("timeZone")),
        attendees=people,
    )
    more = _rare(event, payload, moved_in_place=uid == parent_uid and _all_of_it(event, said))
    return replace(event, **more) if more else event


def _all_of_it(event: BookingEvent, said: Said) -> bool:
    """Tell whether a booking kept its uid: one seat's move names another booking, or has lost the uid of it."""
    return event.parent_id is None and (said.uid is not None or not said.payload.get("attendeeSeatId"))


def _rare(event: BookingEvent, payload: Object, *, moved_in_place: bool) -> Object:
    """Give what few bodies say: of seats, of a series, of payment, of a wish for another time."""
    more: Object = {}
    trigger = event.trigger
    if identity(payload.get("attendeeSeatId")) is not None or has_seats(payload):
        more |= seats(trigger, payload, event.attendees, moved_in_place=moved_in_place)
    if payload.get("recurringEvent") and (series := an_object(payload["recurringEvent"])):
        more["recurring"] = rhythm(series)
        if trigger in _SERIES:
            more.setdefault("scope", Scope.SERIES)
    if trigger in _MARKS:
        more |= _MARKS[trigger]
    elif payload.get("requestReschedule") is True and trigger == "BOOKING_CANCELLED":
        more["reschedule_requested"] = True
    return more


def status_word(value: object) -> BookingStatus | None:
    """Give the state that one of Cal.com's words stands for, in either case."""
    return _WORDS.get(value.upper()) if isinstance(value, str) else None


def _status(trigger: str, word: object) -> BookingStatus:
    final = _FINAL.get(trigger)
    if final is not None:
        return final
    known = status_word(word)
    return known or (BookingStatus.PENDING if trigger == "BOOKING_REQUESTED" else BookingStatus.ACCEPTED)


def stand_in(said: Said) -> str | None:
    """Give what stands in the place of the uid, where a body gives none.

    A seat that moves has had no uid but that of what it left (#10631); else the booking's number names it.
    """
    payload = said.payload
    booking_id, left = numbered(payload), identity(payload.get("rescheduleUid"))
    if said.name == "BOOKING_RESCHEDULED" and left is not None and (booking_id is None or _stayed(payload, booking_id)):
        return left
    return None if booking_id is None else f"{BY_NUMBER}{booking_id}"


def _stayed(payload: Object, booking_id: int) -> bool:
    seated = has_seats(payload) or identity(payload.get("attendeeSeatId")) is not None
    return seated and number(payload.get("rescheduleId")) in (None, booking_id)
