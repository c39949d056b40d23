"""What Cal.com's API answered about a booking: one event, or one for each seat.

Only the verifier writes these, so what is missing or wrong is said, but for fields that Cal.com itself leaves out.
"""

from datetime import datetime
from hashlib import sha256
from typing import Final

import msgspec

from schemas.bookings import Attendee, BookingEvent, BookingStatus
from schemas.envelope import Envelope
from schemas.observations import Observation
from services.reconciler.core.events import OBSERVED, HeardBooking
from services.reconciler.decode.bookings import status_word
from services.reconciler.decode.fields import (
    Object,
    an_object,
    appointment_id,
    identity,
    moment,
    number,
    readable_moment,
    text,
    uid,
)
from services.reconciler.decode.outcomes import Undecodable
from services.reconciler.decode.people import ATTENDEES_MAX, api_attendee, seat_name
from services.reconciler.decode.triggers import RANK_OF_STATUS
from services.reconciler.decode.values import in_plain_words, not_json, require_storable, utc

#: One envelope is one booking; an event with more seats than this is none of an appointment.
SEATS_MAX: Final = 1000
_WRONG_VERSION: Final = (
    "The answer has the shape of cal-api-version 2024-04-15, which Cal.com gives where the header is missing or not "
    "known to it: the request must carry cal-api-version: 2024-08-13."
)

_decoder: Final = msgspec.json.Decoder(Observation)
_canonical: Final = msgspec.json.Encoder(order="sorted")


def decode_observation(envelope: Envelope) -> tuple[HeardBooking, ...]:
    """Read an observation from an envelope.

    Raises Undecodable: "invalid_observation", "api_version", "no_booking", "invalid_time", "invalid_text".
    """
    try:
        observation = _decoder.decode(envelope.body)
    except msgspec.ValidationError as error:
        raise Undecodable("invalid_observation", in_plain_words(error)) from None
    except (ValueError, RecursionError):
        raise not_json(envelope.body) from None
    observed_at = utc(observation.observed_at, "`$.observed_at`", "invalid_observation")
    return read_booking(observation.booking, observed_at, envelope)


def read_booking(booking: Object, observed_at: datetime, envelope: Envelope) -> tuple[HeardBooking, ...]:
    """Read one booking that an envelope carries, as the API gave it.

    Raises Undecodable: "api_version", "no_booking", "invalid_time", "invalid_text", "invalid_observation".
    """
    if "startTime" in booking or _upper_case(booking.get("status")):
        raise Undecodable("api_version", _WRONG_VERSION)
    try:
        canonical = _canonical.encode(booking)
    except (ValueError, RecursionError):
        raise not_json(envelope.body) from None
    events = _events(booking, canonical, observed_at)
    for event in events:
        require_storable(envelope.body, event)
    return tuple([HeardBooking(envelope.received_at, event) for event in events])


def _upper_case(status: object) -> bool:
    return isinstance(status, str) and status.isupper()


def _events(booking: Object, canonical: bytes, observed_at: datetime) -> tuple[BookingEvent, ...]:
    whole = _whole(booking, _event_id(booking, canonical), observed_at)
    people = booking.get("attendees")
    seated = [one for one in people if identity(an_object(one).get("seatUid"))] if isinstance(people, list) else []
    if not seated:
        return (whole,)
    if len(seated) > SEATS_MAX:
        raise Undecodable("invalid_observation", f"The booking has {len(seated)} seats; {SEATS_MAX} are read.")
    return tuple([_of_seat(whole, an_object(one), _event_id(booking, canonical, one)) for one in seated])


def _whole(booking: Object, event_id: str, observed_at: datetime) -> BookingEvent:
    """Read all that is not a seat's."""
    named = uid(booking.get("uid"))
    if named is None:
        raise Undecodable("no_booking", "`$.booking.uid` is no uid of 1 to 200 characters.")
    parent = identity(booking.get("rescheduledFromUid"))
    heir = identity(booking.get("rescheduledToUid"))
    kind = number(an_object(booking.get("eventType")).get("id"))
    return BookingEvent(
        event_id=event_id,
        trigger=OBSERVED,
        occurred_at=readable_moment(booking, "updatedAt") or readable_moment(booking, "createdAt") or observed_at,
        uid=named,
        status=status_word(booking.get("status")),
        starts_at=moment(booking, "start"),
        ends_at=moment(booking, "end"),
        booking_id=number(booking.get("id")),
        event_type_id=number(booking.get("eventTypeId")) if kind is None else kind,
        parent_uid=None if parent == named else parent,
        next_uid=None if heir == named else heir,
        appointment_id=appointment_id(an_object(booking.get("metadata"))),
        ical_uid=identity(booking.get("icsUid")),
        made_at=readable_moment(booking, "createdAt"),
        title=text(booking.get("title")),
        time_zone=_time_zone(booking.get("hosts")),
        attendees=_attendees(booking),
    )


def _event_id(booking: Object, canonical: bytes, seat: object = None) -> str:
    """Name the answer by what it says of the booking: asked again without news, it is the same event."""
    status: BookingStatus | None = status_word(booking.get("status"))
    rank = 0 if status is None else RANK_OF_STATUS[status]
    digest = sha256(canonical)
    if seat is not None:
        digest.update(_canonical.encode(seat))
    return f"obs-{rank}-{digest.hexdigest()[:32]}"


def _of_seat(whole: BookingEvent, person: Object, event_id: str) -> BookingEvent:
    """What names a seat's appointment stands with the seat; the booking's own may be that of another seat."""
    holder = api_attendee(person, an_object(person.get("bookingFieldsResponses")))
    seat_id = identity(person.get("seatUid"))
    return msgspec.structs.replace(
        whole,
        event_id=event_id,
        seat=seat_name(holder) or seat_id,
        seat_id=seat_id,
        appointment_id=appointment_id(an_object(person.get("metadata"))),
        attendees=(holder,),
    )


def _attendees(booking: Object) -> tuple[Attendee, ...]:
    """Read the people; the booker comes first, and the answers to the form are his."""
    people = booking.get("attendees")
    if not isinstance(people, list):
        return ()
    answers = an_object(booking.get("bookingFieldsResponses"))
    kept = [one for one in people[:ATTENDEES_MAX] if isinstance(one, dict)]
    return tuple([api_attendee(one, {} if index else answers) for index, one in enumerate(kept)])


def _time_zone(hosts: object) -> str | None:
    first = hosts[0] if isinstance(hosts, list) and hosts else None
    return text(an_object(first).get("timeZone"))
