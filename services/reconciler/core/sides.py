"""The two sides of a record: sets of distinct events in the order of their times, and what they amount to.

A side keeps events, not a running state, and everything else is computed from them. That is why order and repetition
cannot matter: a set has neither.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar, final

from msgspec import Struct

from schemas.appointments import Appointment, AppointmentCancelled, AppointmentDeleted, AppointmentStatus
from schemas.bookings import Attendee, BookingEvent, BookingStatus
from schemas.flags import AppointmentFacts, BookingFacts
from services.reconciler.core.events import HeardAppointment, HeardBooking, event_id, order

#: A side remembers its first and its latest events. The first ones carry the keys (Cal.com sends its metadata once).
KEPT_FIRST: Final = 8
KEPT_LAST: Final = 24
#: What stands in the place of a uid where a body names its booking by the number alone.
BY_NUMBER: Final = "id:"
#: Of a booking of which only facts are known.
UNKNOWN_STATUS: Final = "UNKNOWN"

H = TypeVar("H", bound=HeardAppointment | HeardBooking)


class Life(StrEnum):
    """What a side's state amounts to."""

    LIVE = "live"
    PENDING = "pending"  # waits for somebody's word
    UNPAID = "unpaid"  # a booking that waits for its payment; Cal.com drops it silently if none comes
    RECALLED = "recalled"  # called off by the host, who asks for another time: it may come back under a new uid
    UNTOLD = "untold"  # only facts of a booking are known: it is there, or was
    CANCELLED = "cancelled"
    DELETED = "deleted"

    @property
    def alive(self) -> bool:
        """Tell whether somebody may still come."""
        return self in (Life.LIVE, Life.PENDING, Life.UNPAID)


@final
class AppointmentSide(Struct, frozen=True, array_like=True):
    """All that the app said of one appointment; `heard` is sorted by (event time, event id)."""

    appointment_id: str
    heard: tuple[HeardAppointment, ...]


@final
class BookingSide(Struct, frozen=True, array_like=True):
    """All that Cal.com said of one uid (of one seat of it, where it has seats); sorted likewise."""

    uid: str
    seat: str | None
    heard: tuple[HeardBooking, ...]


def hear(heard: tuple[H, ...], new: H) -> tuple[H, ...]:
    """Add an event to a side's history.

    Returns the same object if it changes nothing. Of a repeat the earlier receipt counts, whichever came first.
    """
    new_id = event_id(new)
    for index, known in enumerate(heard):
        if event_id(known) == new_id:
            if new.received_at >= known.received_at:
                return heard
            return _in_order([*heard[:index], new, *heard[index + 1 :]])
    grown = [*heard, new]
    in_order = tuple(grown) if not heard or order(heard[-1]) < order(new) else _in_order(grown)
    if len(in_order) > KEPT_FIRST + KEPT_LAST:
        in_order = in_order[:KEPT_FIRST] + in_order[-KEPT_LAST:]
    return in_order


def _in_order(heard: list[H]) -> tuple[H, ...]:
    return tuple(sorted(heard, key=order))


def first_received(side: AppointmentSide | BookingSide) -> datetime:
    """Give the moment at which the side was first heard of."""
    heard = side.heard
    return heard[0].received_at if len(heard) == 1 else min([one.received_at for one in heard])


def appointment_life(heard: HeardAppointment) -> Life:
    """Say what one event of the app makes of the appointment."""
    event = heard.event
    if type(event) is AppointmentDeleted:
        return Life.DELETED
    status = event.appointment.status
    if status is AppointmentStatus.CANCELLED or type(event) is AppointmentCancelled:
        return Life.CANCELLED
    return Life.PENDING if status is AppointmentStatus.PENDING else Life.LIVE


def booking_life(heard: HeardBooking) -> Life:
    """Say what one event of Cal.com makes of the booking (status map of the design)."""
    event = heard.event
    status = event.status
    if status is BookingStatus.ACCEPTED:
        return Life.LIVE
    if status is None:
        return Life.UNTOLD
    if status is BookingStatus.CANCELLED or status is BookingStatus.REJECTED:
        if event.next_uid is not None:
            return Life.LIVE  # it was moved: it lives on under another uid
        return Life.RECALLED if event.reschedule_requested else Life.CANCELLED
    if status is BookingStatus.PENDING:
        return Life.UNPAID if event.unpaid else Life.PENDING
    return Life.LIVE


def states(side: BookingSide) -> tuple[HeardBooking, ...]:
    """Give the events that say what the booking is; facts of the timeline count only where there is nothing else."""
    heard = side.heard
    for one in heard:
        if one.event.status is None:
            return tuple([known for known in heard if known.event.status is not None]) or heard
    return heard


def paid_at(side: BookingSide) -> datetime | None:
    """Say when it was first heard that the booking is paid."""
    return min([one.received_at for one in side.heard if one.event.paid], default=None)


def life_of(chain: tuple[BookingSide, ...]) -> Life:
    """Say what a chain amounts to: its last uid is the one in force."""
    head = chain[-1]
    newest = head.heard[-1]
    if newest.event.status is None:
        newest = states(head)[-1]
    life = booking_life(newest)
    return Life.LIVE if life is Life.UNPAID and paid_at(head) is not None else life


def appointment_facts(side: AppointmentSide) -> AppointmentFacts:
    """Give the appointment as last told.

    The link to Cal.com is remembered: an app that leaves it out of a later event has not cut it.
    """
    newest = side.heard[-1]
    appointment = newest.event.appointment
    uid, booking_id = links(side)
    customer = appointment.customer
    life = appointment_life(newest)
    status = life.value if life in (Life.DELETED, Life.CANCELLED) else appointment.status.value
    return AppointmentFacts(
        appointment_id=side.appointment_id,
        status=status,
        starts_at=appointment.starts_at,
        ends_at=appointment.ends_at,
        time_zone=appointment.time_zone,
        calcom_booking_uid=uid,
        calcom_booking_id=booking_id,
        event_type_id=appointment.event_type_id,
        origin=appointment.origin,
        customer_name=customer.name if customer else None,
        customer_email=customer.email if customer else None,
        customer_phone=customer.phone if customer else None,
    )


def links(side: AppointmentSide) -> tuple[str | None, int | None]:
    """Give the booking uid and id that the app last named for the appointment; what was named of another is over."""
    uid: str | None = None
    booking_id: int | None = None
    for heard in reversed(side.heard):
        appointment: Appointment = heard.event.appointment
        named_uid, named_id = appointment.calcom_booking_uid, appointment.calcom_booking_id
        if None not in (booking_id, named_id) and named_id != booking_id:
            break
        if uid and named_uid and named_uid != uid:
            break
        uid, booking_id = uid or named_uid, named_id if booking_id is None else booking_id
        if uid and booking_id is not None:
            break
    return uid, booking_id


def named_last(side: AppointmentSide) -> tuple[str | None, int | None]:
    """Give the booking uid and id that the app's latest word on it named: one of them may be older than the other."""
    for heard in reversed(side.heard):
        appointment = heard.event.appointment
        if appointment.calcom_booking_uid or appointment.calcom_booking_id is not None:
            return appointment.calcom_booking_uid, appointment.calcom_booking_id
    return None, None


def link_since(side: AppointmentSide) -> datetime:
    """Give the receipt since which the app has named the booking that it names now (or has named none)."""
    uid, booking_id = links(side)
    if uid is None and booking_id is None:
        return first_received(side)
    since: datetime | None = None
    for heard in reversed(side.heard):
        appointment = heard.event.appointment
        named = (appointment.calcom_booking_uid, appointment.calcom_booking_id)
        if named[0] not in (None, uid) or named[1] not in (None, booking_id):
            break
        if named != (None, None):
            since = heard.received_at if since is None else min(since, heard.received_at)
    return since or side.heard[-1].received_at


def named_appointment(side: BookingSide) -> str | None:
    """Give the appointment id that the booking's metadata last named; most of Cal.com's bodies leave it out."""
    for heard in reversed(side.heard):
        if heard.event.appointment_id is not None:
            return heard.event.appointment_id
    return None


_TOLD: Final = ("starts_at", "ends_at", "booking_id", "event_type_id", "title", "time_zone")


def booking_facts(chain: tuple[BookingSide, ...]) -> BookingFacts:
    """Give the booking as last told. `chain` is sorted oldest first, its last uid is the one in force."""
    head = chain[-1]
    told = states(head)
    newest = told[-1].event
    attendees: tuple[Attendee, ...] = newest.attendees
    known = {name: getattr(newest, name) for name in _TOLD}
    if len(told) > 1:
        for heard in reversed(told[:-1]):
            attendees = attendees or heard.event.attendees
            for name, value in known.items():
                if value is None:
                    known[name] = getattr(heard.event, name)
    moved = newest.next_uid is not None
    if moved:  # to where, nobody said
        known |= {"starts_at": None, "ends_at": None, "booking_id": None}
    person = attendees[0] if attendees else Attendee()
    return BookingFacts(
        uid=newest.next_uid or head.uid,
        chain=uids(chain),
        status=_word(newest),
        seat=head.seat,
        attendee_name=person.name,
        attendee_email=person.email,
        attendee_phone=person.phone,
        attendees=attendees,
        **known,
    )


def _word(newest: BookingEvent) -> str:
    if newest.status is None:
        return UNKNOWN_STATUS
    return BookingStatus.ACCEPTED.value if newest.next_uid is not None else newest.status.value


def uids(chain: tuple[BookingSide, ...]) -> tuple[str, ...]:
    """Give every uid of a chain, oldest first, those included that are known by name only."""
    names: dict[str, None] = {}
    seat_ids = {heard.event.seat_id for side in chain if side.seat for heard in side.heard}
    for side in chain:
        for heard in side.heard:
            if heard.event.parent_uid and heard.event.parent_uid not in seat_ids:
                names.setdefault(heard.event.parent_uid)
        names.pop(side.uid, None)
        if not side.uid.startswith(BY_NUMBER):
            names[side.uid] = None
    for heard in chain[-1].heard:
        if heard.event.next_uid:
            names.setdefault(heard.event.next_uid)
    return tuple(names)


def run_since(heard: Sequence[H], state: Callable[[H], object]) -> datetime:
    """Give the receipt that began the present run of equal states, by the order of events.

    A side that repeats itself does not start a new window; one that changes does.
    """
    since = heard[-1].received_at
    if len(heard) == 1:
        return since
    present = state(heard[-1])
    for known in reversed(heard[:-1]):
        if state(known) != present:
            break
        since = min(since, known.received_at)
    return since
