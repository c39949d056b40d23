"""Keys: whatever two events have in common that may be about the same appointment lies under the same key.

Sides that share a key form a cluster, and are decided together. A key claims nothing; the ladder (`matching`) does.
Keys are made of one event alone, so that a cluster is the same in whatever order its events came.

| key | what |
|---|---|
| `a:<appointment id>` | the app's own id: of an appointment, or in a booking's metadata |
| `u:<uid>` | a uid of Cal.com: a booking's own, those it is chained to, a seat's, or the one that the app names |
| `i:<number>` | Cal.com's booking id |
| `w:<start, rounded>:<person>` | the ladder's third rung; of the person only a hash is shown |
| `s:<creation, rounded>:<event type>:<rhythm>:<person>` | the occurrences of a series that one webhook may speak for |
"""

from datetime import datetime
from typing import Final

from schemas.bookings import BookingEvent
from services.reconciler.core.events import HeardAppointment, HeardBooking
from services.reconciler.core.people import of_attendees, of_customer
from services.reconciler.core.policy import Policy
from services.reconciler.core.sides import BY_NUMBER

#: Starts that are this close are one start, for the third rung.
SAME_START_SECONDS: Final = 60
#: Starts fall into buckets of five minutes whose borders lie where hardly an appointment begins: between the fives.
_BUCKET_SECONDS: Final = 300
_BUCKET_SHIFT: Final = 150
#: The webhooks of one series come within minutes; any two within five share one of two overlapping buckets.
_SERIES_SECONDS: Final = 600
_BIRTHS: Final = frozenset({"BOOKING_REQUESTED", "BOOKING_CREATED", "BOOKING_PAYMENT_INITIATED"})
_OWN_ICAL: Final = "@Cal.com"


def key_of_subject(subject: str) -> str:
    """Give the key of the side that a question was about, by its name (`matching.name_of`)."""
    kind, _, name = subject.partition(":")
    if kind == "a":
        return subject
    uid = name.partition("#")[0]
    return f"i:{uid.removeprefix(BY_NUMBER)}" if uid.startswith(BY_NUMBER) else f"u:{uid}"


def keys_of_appointment(heard: HeardAppointment, policy: Policy) -> tuple[str, ...]:
    """Give the keys that an event of the app touches."""
    appointment = heard.event.appointment
    keys = [f"a:{appointment.id}"]
    if appointment.calcom_booking_uid:
        keys.append(f"u:{appointment.calcom_booking_uid}")
    if appointment.calcom_booking_id is not None:
        keys.append(f"i:{appointment.calcom_booking_id}")
    people = of_customer(appointment.customer, policy.country)
    keys.extend(_weak(appointment.starts_at, people, 0))
    return tuple(keys)


def keys_of_booking(heard: HeardBooking, policy: Policy) -> tuple[str, ...]:
    """Give the keys that an event of Cal.com touches."""
    booking = heard.event
    keys = [f"u:{name}" for name in uids_named(booking) if not name.startswith(BY_NUMBER)]
    if booking.booking_id is not None:
        keys.append(f"i:{booking.booking_id}")
    if booking.parent_id is not None:
        keys.append(f"i:{booking.parent_id}")
    if booking.appointment_id:
        keys.append(f"a:{booking.appointment_id}")
    if booking.starts_at is not None and booking.attendees:
        people = of_attendees(booking.attendees, policy.country)
        keys.extend(_weak(booking.starts_at, people, SAME_START_SECONDS))
        if booking.recurring and booking.trigger in _BIRTHS and people:
            keys.extend(_series(booking, people[0]))
    return tuple(keys)


def uids_named(booking: BookingEvent) -> list[str]:
    """Give every uid that an event of Cal.com names, its own first."""
    names = [booking.uid, *filter(None, (booking.parent_uid, booking.next_uid, booking.seat_id))]
    root = chain_root(booking)
    if root and root not in names:
        names.append(root)
    return names


def chain_root(booking: BookingEvent) -> str | None:
    """Give the uid that a chain of reschedules began with, where the calendar's id still tells it.

    Of a hint that Cal.com replaces and drops at will only its own form is taken; seats share a calendar entry.
    """
    ical_uid = booking.ical_uid
    if ical_uid is None or booking.seat is not None or not ical_uid.endswith(_OWN_ICAL):
        return None
    root = ical_uid[: -len(_OWN_ICAL)]
    return root if root and root != booking.uid else None


def _weak(starts_at: datetime, people: tuple[str, ...], slack_seconds: int) -> list[str]:
    if not people:
        return []
    seconds = starts_at.timestamp() + _BUCKET_SHIFT
    first, last = int((seconds - slack_seconds) // _BUCKET_SECONDS), int((seconds + slack_seconds) // _BUCKET_SECONDS)
    return [f"w:{bucket}:{person}" for bucket in range(first, last + 1) for person in people]


def _series(booking: BookingEvent, person: str) -> list[str]:
    seconds = booking.occurred_at.timestamp()
    what = f"{booking.event_type_id}:{booking.recurring}:{person}"
    half = _SERIES_SECONDS // 2
    buckets = (int(seconds // _SERIES_SECONDS) * 2, int((seconds + half) // _SERIES_SECONDS) * 2 + 1)
    return [f"s:{bucket}:{what}" for bucket in buckets]
