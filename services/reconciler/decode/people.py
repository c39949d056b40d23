"""Who comes to a booking, and which seats of it a body speaks of."""

from collections.abc import Mapping
from typing import Final

from schemas.bookings import Attendee, Scope
from services.reconciler.core.people import seat_of
from services.reconciler.decode.fields import Object, an_object, identity, number, text

ATTENDEES_MAX: Final = 50
_EMAIL_MAX_CHARS: Final = 254  # RFC 5321
#: Cal.com makes an e-mail of a phone number where a person left none: its digits, without the plus.
_SMS_DOMAIN: Final = "@sms.cal.com"
_PHONE_ANSWERS: Final = ("attendeePhoneNumber", "phone")
#: Of these, attendees beside the first are no guests but other seats.
_WHOLE: Final = frozenset({"BOOKING_CANCELLED", "BOOKING_REJECTED", "BOOKING_RESCHEDULED"})
_OVER: Final = frozenset({"BOOKING_CANCELLED", "BOOKING_REJECTED"})


def attendees(payload: Object) -> tuple[Attendee, ...]:
    """Read the people of a webhook's booking; the booker comes first, and the answers to the form are his."""
    value = payload.get("attendees")
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return ()
    people = [one for one in value[:ATTENDEES_MAX] if isinstance(one, dict)]
    read = tuple([_attendee(one, one.get("email")) for one in people])
    if read and read[0].phone is None:
        read = (Attendee(name=read[0].name, email=read[0].email, phone=_answered_phone(payload)), *read[1:])
    return read


def api_attendee(person: Object, answers: Object) -> Attendee:
    """Read one person of an answer of the API. `displayEmail` is the e-mail without what Cal.com's platform adds."""
    read = _attendee(person, person.get("displayEmail") or person.get("email"))
    if read.phone is not None:
        return read
    phone = next((found for key in _PHONE_ANSWERS if (found := text(answers.get(key)))), None)
    phone = phone or _made_up(person.get("email"))
    return read if phone is None else Attendee(name=read.name, email=read.email, phone=phone)


def _attendee(person: Object, email: object) -> Attendee:
    name, address = text(person.get("name")), text(email)
    return Attendee(name=name, email=address, phone=text(person.get("phoneNumber")) or _made_up(address))


def _answered_phone(payload: Object) -> str | None:
    """Find the booker's phone among the answers to the form, or where the reminder goes."""
    answers = an_object(payload.get("responses"))
    for key in _PHONE_ANSWERS:
        answer = answers.get(key)
        found = text(answer.get("value") if isinstance(answer, dict) else answer)
        if found is not None:
            return found
    place = an_object(an_object(answers.get("location")).get("value"))
    called = text(place.get("optionValue")) if place.get("value") == "phone" else None
    return called or text(payload.get("smsReminderNumber"))


def _made_up(email: object) -> str | None:
    if not isinstance(email, str) or not email.endswith(_SMS_DOMAIN):
        return None
    digits = email[: -len(_SMS_DOMAIN)]
    return f"+{digits}" if digits.isascii() and digits.isdigit() and len(digits) <= _EMAIL_MAX_CHARS else None


def seats(trigger: str, payload: Object, people: tuple[Attendee, ...], *, moved_in_place: bool) -> Object:
    """Say which seat a body speaks of, or which, where it speaks of all: fields of BookingEvent.

    A seat is named by its holder's e-mail, for only that is there when a seat is left.
    `moved_in_place`: if it was moved, it kept its uid.
    """
    seat_id = identity(payload.get("attendeeSeatId"))
    every = _each_once(people) if seat_id is None and len(people) > 1 and trigger in _WHOLE else ()
    told: Object = {"seat": (seat_name(people[0]) if people else None) or seat_id, "seat_id": seat_id, "seats": every}
    if (moved_in_place and trigger == "BOOKING_RESCHEDULED") or (every and trigger in _OVER):
        told["scope"] = Scope.BOOKING
    return told


def has_seats(payload: Mapping[str, object]) -> bool:
    """Tell whether a body is of an event with seats."""
    places = payload.get("seatsPerTimeSlot")
    return isinstance(places, int | float) and not isinstance(places, bool) and places > 0


def seat_name(person: Attendee) -> str | None:
    """Give the normalised e-mail by which a seat is named; None where there is none to name it by."""
    email = seat_of(person.email)
    return email if 0 < len(email) <= _EMAIL_MAX_CHARS else None


def _each_once(people: tuple[Attendee, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([named for one in people if (named := seat_name(one))]))


def rhythm(series: Object) -> str | None:
    """Give what is the same of all occurrences of a series; None where Cal.com does not say all of it."""
    parts = [number(series.get(key)) for key in ("freq", "count", "interval")]
    return None if None in parts else ".".join(map(str, parts))
