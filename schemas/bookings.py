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


class Scope(StrEnum):
    """How far a word of Cal.com reaches beyond the uid (and seat) that it names."""

    BOOKING = "booking"  # every seat of the uid: its owner moved it, or called it off for all
    SERIES = "series"  # the rest of a series: confirmed, rejected or called off by one webhook


class Attendee(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person of a booking, as Cal.com spells them."""

    name: str | None = None
    email: str | None = None
    phone: str | None = None


class BookingEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one webhook, or one answer of the API, says of one booking (or of one seat of it).

    `event_id` is made from the body, for Cal.com sends none: `cal-<rank>-<hash of the canonical body>`;
    the rank of the trigger comes first so that equal times fall in life-cycle order.
    `occurred_at` is the envelope's `createdAt` (the moment of sending or queueing, never the booking's time);
    where a body has none it is the moment of receipt. Of an observation it is the booking's `updatedAt`.
    `uid` is `id:<booking id>` where the body names the booking by its number alone.
    A field that the body does not carry is None and says nothing: it never erases what an earlier event said.
    An event without a `status` is a fact of the timeline (a meeting began, a payment came): it never changes what the
    booking is, and its times count only where nothing better is known.
    """

    event_id: str
    trigger: str  # "OBSERVED" for an answer of the API
    occurred_at: datetime
    uid: str
    status: BookingStatus | None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    booking_id: int | None = None
    event_type_id: int | None = None
    parent_uid: str | None = None  # rescheduleUid, fromReschedule: what this one took the place of (a seat, too)
    parent_id: int | None = None  # rescheduleId
    next_uid: str | None = None  # rescheduledToUid: the booking that took the place of this one; observations only
    appointment_id: str | None = None  # metadata.appointment_id: the app's own id
    seat: str | None = None  # set for seated bookings only: normalised attendee e-mail, else attendeeSeatId
    seat_id: str | None = None  # attendeeSeatId, seatUid: a seat may be named as what was rescheduled
    seats: tuple[str, ...] = ()  # a seated booking spoken of as a whole: every seat that is named
    scope: Scope | None = None
    recurring: str | None = None  # "<freq>.<count>.<interval>" of a series; Cal.com does not name the series itself
    ical_uid: str | None = None  # "<first uid>@Cal.com" names the beginning of a chain
    unpaid: bool = False  # the booking is made and waits for its payment
    paid: bool = False  # a fact: the payment came
    reschedule_requested: bool = False  # called off by the host, who asks for another time
    made_at: datetime | None = None  # the booking's own createdAt; observations only
    title: str | None = None
    time_zone: str | None = None
    attendees: tuple[Attendee, ...] = ()
