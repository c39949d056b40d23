"""Events of Cal.com, normalised: one shape for every webhook body that says something of a booking."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class BookingStatus(StrEnum):
    """Cal.com's own words for the state of a booking."""

    ACCEPTED = "ACCEPTED"
    PENDING = "PENDING"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    AWAITING_HOST = "AWAITING_HOST"


class Attendee(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person of a booking, as Cal.com spells them."""

    name: str | None = None
    email: str | None = None
    phone: str | None = None


class BookingEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one webhook says of one booking (or of one seat of it).

    `event_id` is made from the body, for Cal.com sends none: `cal-<rank>-<hash of the canonical body>`;
    the rank of the trigger comes first so that equal times fall in life-cycle order.
    `occurred_at` is the envelope's `createdAt` (the moment of sending or queueing, never the booking's time);
    where a body has none it is the moment of receipt.
    A field that the body does not carry is None and says nothing: it never erases what an earlier event said.
    """

    event_id: str
    trigger: str
    occurred_at: datetime
    uid: str
    status: BookingStatus
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    booking_id: int | None = None
    event_type_id: int | None = None
    parent_uid: str | None = None  # rescheduleUid: the booking that this one took the place of
    parent_id: int | None = None  # rescheduleId
    appointment_id: str | None = None  # metadata.appointment_id: the app's own id
    seat: str | None = None  # set for seated bookings only: normalised attendee e-mail, else attendeeSeatId
    ical_uid: str | None = None
    title: str | None = None
    time_zone: str | None = None
    attendees: tuple[Attendee, ...] = ()
